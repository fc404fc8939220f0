"""Cleaning as a list of small steps: some mend a line, the others drop it. Each counts lines in, changed and dropped,
keeps examples, and is timed.

The steps that mend stand in mend.py, those that drop here.

A batch of lines goes through step by step. Nearly every line of a good corpus needs no mending: one regular expression
recognises such lines and only the others take the slow way.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from tatar_llm.config import CorpusConfig
from tatar_llm.corpus.language import Detector, LanguageJudge
from tatar_llm.corpus.mend import (
    LookAlikes,
    compose,
    remove_addresses,
    remove_controls,
    remove_markup,
    repair_decoding,
    tidy_spaces,
)
from tatar_llm.languages import SCRIPTS, Language

CLEANING_VERSION = 2
"""Raise it when a change here changes the text: finished corpora are then made anew."""
EXAMPLES = 3
EXAMPLE_CHARS = 80
ROUNDS = 20
MACHINE_CHARS = 1_000
"""A longer line is prose that quotes a bracket or two."""
REPETITION_CHARS = 600
"""So much of a line is looked at for repetition."""
FURNITURE_CHARS = 120
"""A phrase such as "all rights reserved" makes a line page furniture only when the line is short."""
MENDING = ("long line", "wrong decoding", "control characters", "mark-up", "web addresses", "unicode form",
           "look-alike letters", "spaces and punctuation")
LINE_RULES = ("empty", "too short", "broken characters", "machine output", "page furniture", "symbols", "other script", "foreign language",
              "repetition", "evaluation text")
DOCUMENT_RULES = ("foreign document", "broken font")
CORPUS_RULES = ("repeated document", "boilerplate", "repeated line", "near repeat", "beyond the limit")
DROPPING = LINE_RULES + DOCUMENT_RULES + CORPUS_RULES
STEPS = MENDING + DROPPING

# -- dropping ----------------------------------------------------------------------------------------------------

_LOST = re.compile(r"[\ufffd\ufffe\uffff]|[^\W\d_]□|□[^\W\d_]|[^\W\d_]\?{1,3}[^\W\d_]\w*\?|(?:\?{2,}[ .,]*){2,}|[^\W\d_]\?[^\W\d_]+ (?:\S+ )*\S*[^\W\d_]\?[^\W\d_]")
_MACHINE = re.compile(
    r"""<[A-Za-z!/#?][^<>]{0,60}>|</|\^[^\s/]+/|"<[^<>"]*>"|\{[^{}]*[:;][^{}]*\}|"\w+"\s*:\s*["\[{\d]|\w\(\)|\(\);|[=!]==?\s?\w|=>|\+=|"""
    r"""\bdef \w|\bSELECT\b.+\bFROM\b|\bfunction\b|\bclass="|\b(?:ERROR|WARN(?:ING)?|DEBUG|INFO|FATAL)\b.{0,3}[:\[\]]|\b(?:ERROR|WARN(?:ING)?|DEBUG|INFO)\s|^\s*[#.@][\w-]+\s*\{|"""
    r"""\{\{|\}\}|\[\[|\|\w+=|(?:\S\s+[>|→»]\s+\S[^>|→»]*){2,}|(?:\w+\\){2,}\w|[A-Z]:\\|(?<!\w)/(?:[a-z.]+/){2,}"""
)
_MACHINE_HINT = re.compile(r"""[<{}^=\\]| [>|→»] |[A-Za-z]{3}|\(\)|\[\[|"\s*:|^["#]""")
"""One of these stands in every match of the next two: most lines are spared the long expression."""
_TAGGED = re.compile(r'^"[^"]+"(?: [a-z0-9_]+)+(?: <.*>)?$')
_WORDS = re.compile(r"[^\W\d_]+")


def is_repetitive(line: str) -> bool:
    """One word or phrase over and over: 7 of 10 words, six or more. Verse, with ``/`` for its line ends, is let pass."""
    if " / " in line:
        return False
    rough = line.split()
    if len(rough) >= 6 and len(set(rough)) * 4 > len(rough) * 3 and line.count("-") < 4:  # the usual line, seen quickly
        return False
    words = [word.casefold() for word in _WORDS.findall(line)]
    if len(words) < 6:
        return len(line) >= 12 and len(set(line) - set(" .,!?-")) <= 2
    if len(set(words)) * 2 > len(words):  # a phrase that stands three times and fills 7 of 10 leaves 53 % at most
        return False
    for size in (1, 2, 3, 4):
        places: dict[tuple[str, ...], list[int]] = {}
        for start in range(len(words) - size + 1):
            places.setdefault(tuple(words[start : start + size]), []).append(start)
        top = max(places.values(), key=len, default=[])
        covered = len({start + more for start in top for more in range(size)})
        if len(top) >= (4 if size == 1 else 3) and covered * 10 >= 7 * len(words):
            return True
    return False


# -- counting ----------------------------------------------------------------------------------------------------


@dataclass
class Tally:
    """What the steps did to one source: per step lines changed or dropped, a few examples, seconds of one core."""

    lines: int = 0
    kept_lines: int = 0
    documents: int = 0
    kept_documents: int = 0
    bytes: int = 0
    changed: dict[str, int] = field(default_factory=lambda: dict.fromkeys(MENDING, 0))
    dropped: dict[str, int] = field(default_factory=lambda: dict.fromkeys(DROPPING, 0))
    seconds: dict[str, float] = field(default_factory=lambda: dict.fromkeys(STEPS, 0.0))
    examples: dict[str, list[str]] = field(default_factory=lambda: {rule: [] for rule in STEPS})
    details: dict[str, dict[str, int]] = field(default_factory=dict)
    """Rule -> what it found (a foreign language, the name of an evaluation text) -> lines dropped."""
    fonts: list[dict[str, object]] = field(default_factory=list)
    """Documents whose font was broken: first words, and which character stands for which letter."""

    def change(self, rule: str, before: str, after: str) -> None:
        """Count a mended line."""
        self.changed[rule] += 1
        if len(self.examples[rule]) < EXAMPLES:
            start = next((i for i, (a, b) in enumerate(zip(before, after, strict=False)) if a != b), 0)
            start = max(0, start - EXAMPLE_CHARS // 4)
            part = slice(start, start + EXAMPLE_CHARS // 2)
            self.examples[rule].append(f"{_visible(before[part])} → {_visible(after[part])}")

    def drop(self, rule: str, line: str, lines: int = 1, detail: str | None = None) -> None:
        """Count a dropped line, or a document of `lines` lines."""
        self.dropped[rule] += lines
        if detail:
            found = self.details.setdefault(rule, {})
            found[detail] = found.get(detail, 0) + lines
        if line and len(self.examples[rule]) < EXAMPLES:
            self.examples[rule].append((f"{detail}: " if detail else "") + _visible(line[:EXAMPLE_CHARS]))

    def merge(self, other: Tally) -> None:
        """Add what was counted after this one."""
        for name in ("lines", "kept_lines", "documents", "kept_documents", "bytes"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        for mine, theirs in ((self.changed, other.changed), (self.dropped, other.dropped)):
            for rule, count in theirs.items():
                mine[rule] += count
        for rule, found in other.details.items():
            mine = self.details.setdefault(rule, {})
            for name, count in found.items():
                mine[name] = mine.get(name, 0) + count
        for rule, seconds in other.seconds.items():
            self.seconds[rule] += seconds
        for rule, examples in other.examples.items():
            self.examples[rule] = (self.examples[rule] + examples)[:EXAMPLES]
        self.fonts += other.fonts

    def as_dict(self) -> dict[str, dict[str, object]]:
        """Per step, in order: lines in, out, changed, dropped, seconds, examples."""
        rows: dict[str, dict[str, object]] = {}
        left = self.lines
        for rule in STEPS:
            changed, dropped = self.changed.get(rule, 0), self.dropped.get(rule, 0)
            if rule == "long line":  # parts count as lines from here on
                left += changed
            rows[rule] = {"in": left, "out": left - dropped, "changed": changed, "dropped": dropped,
                          "seconds": round(self.seconds[rule], 2), "examples": self.examples[rule]}
            left -= dropped
        return rows


def _visible(text: str) -> str:
    """Control characters written out, so that an example shows what was there."""
    return "".join(char if char.isprintable() else f"<U+{ord(char):04X}>" for char in text)


# -- the steps together ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Verdict:
    """Why a line is dropped: the rule's name and what it found: which language, which evaluation text."""

    rule: str
    detail: str | None = None


class Cleaner:
    """All steps on lines, set up for one language and one choice of settings."""

    def __init__(self, language: Language, config: CorpusConfig, detector: Detector | None = None) -> None:
        script = SCRIPTS[language.script]
        letters = language.letters + language.letters.upper()
        marks = r"0-9.,:;!?()\[\]\"'«»“”„…—–№%/+*=\-"
        self.config = config
        self.judge = LanguageJudge(language, detector)
        self.look_alikes = LookAlikes(language)
        self.steps: tuple[tuple[str, Callable[[str], str]], ...] = (
            ("wrong decoding", repair_decoding),
            ("control characters", remove_controls),
            ("mark-up", remove_markup),
            ("web addresses", remove_addresses),
            ("unicode form", compose),
            ("look-alike letters", self.look_alikes),
            ("spaces and punctuation", tidy_spaces),
        )
        # A letter, and around it characters that no step touches as long as no two spaces meet
        self.plain = re.compile(rf"(?! )[{marks} ]*[{letters}][{letters}{marks} ]*(?<! )")
# begins with a set of characters, which the engine looks for quickly
        self.unplain = re.compile(rf"[ 0-9РСТУВ](?:(?<= )[ ,;:!?.]|(?<=[РСТУ])[РСЁё№–—„…]|(?<=В)«|(?<=[0-9])[{letters}])")
        self.own_letter = re.compile(f"[{script}]")
        self.furniture = tuple(phrase.lower() for phrase in language.boilerplate)
        self.other_letter = re.compile(rf"[^\W\d_a-zA-Z{script}]")
        self.rules: tuple[tuple[str, Callable[[str, bool], Verdict | None]], ...] = (
            ("empty", lambda line, listed: None if line else Verdict("empty")),
            ("too short", self._too_short),
            ("broken characters", self._broken),
            ("machine output", self._machine),
            ("page furniture", self._furniture),
            ("symbols", self._symbols),
            ("other script", self._script),
            ("foreign language", self._foreign),
            ("repetition", self._repetition),
        )

    # mending

    def is_plain(self, line: str) -> bool:
        """Whether no mending step can touch this line: letters of the language and simple marks, well spaced."""
        return self.plain.fullmatch(line) is not None and not self.unplain.search(line)

    def mend(self, line: str, tally: Tally | None = None) -> str:
        """The line after the mending steps. Mending a mended line changes nothing: they are repeated until they agree."""
        return line if self.is_plain(line) else self.mend_all([line], tally or Tally())[0]

    def mend_all(self, lines: list[str], tally: Tally) -> list[str]:
        """Lines after the mending steps, one step after another over all that are not plain."""
        started = time.perf_counter()
        lines = list(lines)
        plain, unplain = self.plain.fullmatch, self.unplain.search
        todo = [place for place, line in enumerate(lines) if plain(line) is None or unplain(line)]
        clock = time.perf_counter()
        tally.seconds["spaces and punctuation"] += clock - started
        for _ in range(ROUNDS):  # an entity may stand for a soft hyphen that splits an entity
            changed = set()
            for rule, step in self.steps:
                for place in todo:
                    line = lines[place]
                    mended = step(line)
                    if mended != line:
                        tally.change(rule, line, mended)
                        lines[place] = mended
                        changed.add(place)
                now = time.perf_counter()
                tally.seconds[rule] += now - clock
                clock = now
            if not changed:
                break
            todo = sorted(changed)
        return lines

    # dropping

    def verdict(self, line: str, listed: bool) -> Verdict | None:
        """Why this mended line is dropped, or None to keep it. Pure. `listed`: the line is a document by itself."""
        for _, rule in self.rules:
            if found := rule(line, listed):
                return found
        return None

    def judge_all(self, lines: list[str], listed: bool, tally: Tally) -> list[Verdict | None]:
        """The verdict on each mended line, rule by rule over all lines still kept."""
        verdicts: list[Verdict | None] = [None] * len(lines)
        left = list(range(len(lines)))
        clock = time.perf_counter()
        for name, rule in self.rules:
            keep = []
            for place in left:
                found = rule(lines[place], listed)
                if found:
                    verdicts[place] = found
                else:
                    keep.append(place)
            left = keep
            now = time.perf_counter()
            tally.seconds[name] += now - clock
            clock = now
        return verdicts

    def _too_short(self, line: str, listed: bool) -> Verdict | None:
        return Verdict("too short") if listed and len(line) < self.config.min_chars else None

    @staticmethod
    def _broken(line: str, listed: bool) -> Verdict | None:
        suspicious = "?" in line or any(char in line for char in "\ufffd\ufffe\uffff□")
        return Verdict("broken characters") if suspicious and _LOST.search(line) else None

    @staticmethod
    def _machine(line: str, listed: bool) -> Verdict | None:
        if len(line) > MACHINE_CHARS:
            return None
        return Verdict("machine output") if _MACHINE_HINT.search(line) and (_MACHINE.search(line) or _TAGGED.match(line)) else None

    def _furniture(self, line: str, listed: bool) -> Verdict | None:
        if len(line) > FURNITURE_CHARS:
            return None
        lowered = line.lower()
        return Verdict("page furniture") if any(phrase in lowered for phrase in self.furniture) else None

    @staticmethod
    def _symbols(line: str, listed: bool) -> Verdict | None:
        # A Cyrillic letter is two bytes, an ASCII mark one: this passes nearly all plain lines without counting
        length = len(line)
        if len(line.encode("utf-8", "replace")) - length >= 0.6 * length and line.count("○") == 0:
            return None
        letters = sum(map(str.isalpha, line))
        if not letters or (listed and letters < 0.5 * (length - line.count(" "))):
            return Verdict("symbols")
        return None

    def _script(self, line: str, listed: bool) -> Verdict | None:
        length = len(line)
        if len(line.encode("utf-8", "replace")) - length >= 0.7 * length and not self.other_letter.search(line):
            return None
        letters = sum(map(str.isalpha, line))
        own = len(self.own_letter.findall(line))
        if own and own >= self.config.min_cyrillic * letters:
            return None
        if other := self.judge.other_script(line):
            return Verdict("foreign language", other)
        return Verdict("other script")

    def _foreign(self, line: str, listed: bool) -> Verdict | None:
        name = self.judge.foreign(line)
        return Verdict("foreign language", name) if name else None

    @staticmethod
    def _repetition(line: str, listed: bool) -> Verdict | None:
        return Verdict("repetition") if is_repetitive(line[:REPETITION_CHARS]) else None

