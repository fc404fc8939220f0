"""Cleaning as a list of small steps: some mend a line, the others drop it. Each counts lines in, changed and dropped,
keeps examples, and is timed.

What is mended is what machines spoiled: wrong decoding, look-alike letters, invisible characters, mark-up. What people
write one way or another (– or —, «» or “”, ... or …) stays as it is.

A batch of lines goes through step by step. Nearly every line of a good corpus needs no mending: one regular expression
recognises such lines and only the others take the slow way.
"""

from __future__ import annotations

import html
import re
import time
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass, field

from tatar_llm.config import CorpusConfig
from tatar_llm.corpus.language import Detector, LanguageJudge
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
MENDING = ("wrong decoding", "control characters", "mark-up", "web addresses", "unicode form", "look-alike letters",
           "spaces and punctuation", "long line")
LINE_RULES = ("empty", "too short", "broken characters", "machine output", "page furniture", "symbols", "other script", "foreign language",
              "repetition", "evaluation text")
DOCUMENT_RULES = ("foreign document", "broken font")
CORPUS_RULES = ("repeated document", "boilerplate", "repeated line", "near repeat", "beyond the limit")
DROPPING = LINE_RULES + DOCUMENT_RULES + CORPUS_RULES
STEPS = MENDING + DROPPING

# -- mending -----------------------------------------------------------------------------------------------------

_CONTROLS = re.compile(  # Cc, Zl, Zp: they stand where a space could
    r"[\x00-\x1f\x7f-\x9f\u2028\u2029]"
)
_INVISIBLE = re.compile(  # Cf (soft hyphen, zero width, BOM, bidi, tags), lone surrogates, private use
    "[\xad\u0600-\u0605\u061c\u06dd\u070f\u0890\u0891\u08e2\u180e\u200b-\u200f\u202a-\u202e\u2060-\u206f\ufeff"
    "\ufff9-\ufffb\ud800-\uf8ff\U000110bd\U000110cd\U00013430-\U0001343f\U0001bca0-\U0001bca3"
    "\U0001d173-\U0001d17a\U000e0000-\U000e007f\U000f0000-\U0010ffff]"
)
_BROKEN_HYPHEN = re.compile(r"(?<=[^\W\d_])\xad[ \t]*(?=[^\W\d_])")
_ENTITY = re.compile(r"&(?:#\d{1,7}|#[xX][0-9a-fA-F]{1,6}|[A-Za-z][A-Za-z0-9]{1,30});")
_INLINE_TAG = re.compile(r"</?(?:a|abbr|b|big|em|font|i|s|small|span|strong|sub|sup|u)(?:\s[^<>]{0,500})?/?>", re.I)
_BLOCK_TAG = re.compile(
    r"<!--.{0,500}?-->|</?(?:blockquote|body|br|center|code|dd|div|dl|dt|h[1-6]|head|hr|html|img|input|li|link|meta|nowiki|ol|"
    r"option|p|pre|ref|script|style|table|tbody|td|th|title|tr|ul)(?:\s[^<>]{0,500})?/?>", re.I)
_ADDRESS = re.compile(
    r"[(<\[]?(?:(?:https?|ftp)://[^\s<>«»]+|www\.[^\s<>«»]+|[\w.+-]+@[\w-]+(?:\.[\w-]+)+)(?<![.,;:!?])", re.I)
_CLOSING = re.compile(r"[)\]>]+$")
_HYPHENS = str.maketrans({"\u2010": "-", "\u2011": "-", "\u2015": "—"})
_SPACE_BEFORE = re.compile(r"(?<=[^\W\d_]|[»”\"%)]) +(?=(?:[,;:!?]|\.(?!\.|\d))(?![\w()]))")
_ROMAN = re.compile(r"[IVXХІΙ]{2,}")
_AS_1251 = re.compile(  # what the bytes of UTF-8 look like in Windows-1251: "РЎ" is С, "ТЇ" is ү, "вЂњ" is “, "в„–" is №
    r"(?:[РСТУ][\x98\xa0\xa4\xa6\xa7\xa9\xab-\xae\xb0\xb1\xb5-\xb7\xbb\u0401-\u040f\u0451-\u045f\u0490\u0491\u2013\u2014"
    r"\u2018-\u201a\u201c-\u201e\u2020-\u2022\u2026\u2030\u2039\u203a\u20ac\u2116\u2122РС]|вЂ.|в„[–ў]|В\xa0)+"
)
_QUOTED_1251 = re.compile(r"В«([^«»]*)В»")
_AS_LATIN = re.compile(r"[ÐÑÒÓ][\x80-\xbf\u0152-\u0178\u2013-\u2122]|[ÂÃ][\x80-\xbf]|â€")  # and in Latin-1 or Windows-1252
_FOLLOWS = "[\x80-\xbf\u20ac\u201a\u0192\u201e\u2026\u2020\u2021\u02c6\u2030\u0160\u2039\u0152\u017d\u2018\u2019\u201c\u201d\u2022\u2013\u2014\u02dc\u2122\u0161\u203a\u0153\u017e\u0178]"
_AS_1252 = re.compile(f"(?:[Â-ß]{_FOLLOWS}|[à-ï]{_FOLLOWS}{{2}})+")
_CUT_QUOTE = re.compile(r"â€(?=[\s.,;:!?)]|$)")
_1251_AS_LATIN = re.compile(r"(?<!\w)[À-ÿ¨¸]{3,}(?!\w)")
_MANGLED = re.compile("|".join((r"[РСТУ][\x98\xa0-\xbf\u0401-\u040f\u0451-\u045f\u0490\u0491\u2013-\u2122РС]", "вЂ", "в„", "В«",
                                _AS_LATIN.pattern, "[À-ÿ]{3}")))  # fmt: skip


def repair_decoding(line: str) -> str:
    """Text whose bytes were read in another encoding: ``вЂњ`` -> ``“``, ``Ð¢`` -> ``Т``, ``Êàçàí`` -> ``Казан``.

    Done piece by piece, since the rest of such a line often is whole; what that leaves is ftfy's work (Robyn Speer, 2019).
    """
    if not _MANGLED.search(line):
        return line
    # "РС" may be an abbreviation: one pair of letters alone proves nothing, beside other pieces it does
    if any(len(piece[0]) - len(_from_1251(piece)) >= 2 for piece in _AS_1251.finditer(line)):
        line = _AS_1251.sub(_from_1251, line)
    line = _QUOTED_1251.sub(r"«\1»", line)
    line = _AS_1252.sub(_from_1252, line)
    line = _1251_AS_LATIN.sub(lambda word: word[0].encode("latin-1").decode("cp1251"), line)
    if not _AS_LATIN.search(line):
        return line
    import ftfy

    return ftfy.fix_encoding(_CUT_QUOTE.sub("”", line))


def _from_1251(match: re.Match[str]) -> str:
    piece = match[0]
    try:
        return b"".join(char.encode("latin-1" if char in "\x98\xa0" else "cp1251") for char in piece).decode("utf-8")
    except (UnicodeEncodeError, UnicodeDecodeError):
        return piece


def _from_1252(match: re.Match[str]) -> str:
    try:
        return b"".join(char.encode("latin-1" if char < "\u0100" else "cp1252") for char in match[0]).decode("utf-8")
    except (UnicodeEncodeError, UnicodeDecodeError):
        return match[0]


def remove_controls(line: str) -> str:
    """Tabs and other control characters become spaces; characters without a shape (soft hyphen, bidi, BOM) vanish.

    A word that a soft hyphen broke at a line end is joined.
    """
    return _INVISIBLE.sub("", _BROKEN_HYPHEN.sub("", _CONTROLS.sub(" ", line)))


def remove_markup(line: str) -> str:
    """HTML tags vanish, entities become what they stand for: ``a&nbsp;<b>b</b>`` -> ``a b``."""
    if "&" not in line and "<" not in line:
        return line
    line = _ENTITY.sub(lambda entity: html.unescape(entity[0]), line)
    return _BLOCK_TAG.sub(" ", _INLINE_TAG.sub("", line))


def remove_addresses(line: str) -> str:
    """Web and mail addresses vanish: nobody reads them aloud, and they cost a small model much."""
    if "://" not in line and "www." not in line.lower() and "@" not in line:
        return line
    return _ADDRESS.sub(lambda found: "" if found[0][0] in "(<[" else _after_bracket(found[0]), line)


def _after_bracket(address: str) -> str:
    closing = _CLOSING.search(address)
    return closing[0] if closing else ""


def compose(line: str) -> str:
    """Unicode's composed form NFC: и + breve -> й. Not NFKC, which would rewrite numerals and typography."""
    return line if unicodedata.is_normalized("NFC", line) else unicodedata.normalize("NFC", line)


def tidy_spaces(line: str) -> str:
    """Runs of Unicode spaces become one space, none stand at the ends or before a mark that closes; rare hyphens become plain."""
    line = " ".join(line.split())
    if not line.isascii():
        line = line.translate(_HYPHENS)
    return _SPACE_BEFORE.sub("", line)


class LookAlikes:
    """Puts the language's letters where others stand that look like them: ``hәм`` -> ``һәм``, ``ceз`` -> ``сез``, ``к0л`` -> ``кол``.

    Each word is judged on its own: it must hold a letter of the script, and no letter besides the script's and the
    look-alikes. So Latin words stay as they are, and mixed ones such as ``iPhoneның`` too. Digits are mended only
    between two small letters: ``3нче`` is no mistake.
    """

    def __init__(self, language: Language) -> None:
        script = SCRIPTS[language.script]
        letters = {char: target for char, target in language.look_alikes.items() if not char.isdigit()}
        digits = {char: target for char, target in language.look_alikes.items() if char.isdigit()}
        keys = "".join(map(re.escape, letters))
        small, capital = language.letters, language.letters.upper()
        self.table = str.maketrans(letters)
        self.suspicious = re.compile(f"[{keys}]") if keys else re.compile(r"(?!)")
        self.word = re.compile(r"(?:[^\W\d_]|[\u0300-\u036f])+")
        self.own = re.compile(f"[{script}]")
        self.mendable = re.compile(f"[{script}{keys}\u0300-\u036f]+")
        # "XIнче": a Roman numeral with a Tatar ending is no mixed-up word
        self.numeral = re.compile(f"(?:[IVXLCDM]{{2,}}|I)[{small}]+")
        # ђ љ њ ќ ћ џ are Serbian and Macedonian letters too: they stand for Tatar ones only in a line that lacks those
        slavic = "".join(char for char in letters if "\u0400" <= char <= "\u045f" and char not in "іІ")
        self.code_page = re.compile(f"[{slavic}]") if slavic else re.compile(r"(?!)")
        self.spared = str.maketrans({char: target for char, target in letters.items() if char not in slavic})
        whole = "".join(char for char in language.keyboard if char > "\u045f") or "\0"
        other = f"[{whole}{whole.upper()}]|(?![{small}{capital}{keys}])[{script}]"
        self.not_code_page = re.compile(other)
        self.digits = {ord(char): target for char, target in digits.items()}
        any_digit = f"[{''.join(digits)}]" if digits else r"(?!)"
        self.digit = re.compile(f"(?<=[{small}{capital}]){any_digit}(?=[{small}])")
        endings = "|".join(sorted(language.numeral_endings, key=len, reverse=True))
        self.first_digit = re.compile(rf"(?<![\w.,:/-]){any_digit}(?!(?:{endings})(?:[{small}]{{0,3}})(?!\w))(?=[{small}]+(?!\w))" if endings else r"(?!)")

    def __call__(self, line: str) -> str:
        if self.suspicious.search(line):
            table = self.table
            if self.code_page.search(line) and self.not_code_page.search(line):
                table = self.spared
            line = compose(self.word.sub(lambda word: self._mend(word, line, table), line))
        if self.digits:
            line = self.digit.sub(lambda found: found[0].translate(self.digits), line)
            line = self.first_digit.sub(self._mend_first, line)
        return line

    def _mend(self, match: re.Match[str], line: str, table: dict[int, str]) -> str:
        word = match[0]
        if len(word) == 1 and not word.isascii():  # "ə" alone is the conjunction "ә"; "a" alone may be English
            alone = line[match.start() - 1 : match.start()] in ("", " ") and line[match.end() : match.end() + 1] in ("", " ", ",")
            return word.translate(table) if alone else word
        if not self.suspicious.search(word) or not self.own.search(word):
            return word
        if _ROMAN.fullmatch(word):  # ХIХ: numerals are written with Latin letters, whole
            return word.replace("Х", "X").replace("І", "I").replace("Ι", "I")
        if not self.mendable.fullmatch(word) or self.numeral.fullmatch(word):
            return word
        return word.translate(table)

    def _mend_first(self, match: re.Match[str]) -> str:
        letter = match[0].translate(self.digits)
        before = match.string[: match.start()].rstrip(" «\"“(—–-")
        return letter.upper() if not before or before[-1] in ".!?" else letter


_SENTENCE_END = re.compile(r"[.!?…][»”\")]*\s+")


def split_long(line: str, most: int) -> list[str]:
    """A line of more than `most` characters in parts: cut at sentence ends, at spaces where there is none, else anywhere."""
    parts = []
    while len(line) > most:
        head = line[:most]
        ends = [end.end() for end in _SENTENCE_END.finditer(head)]
        cut = ends[-1] if ends and ends[-1] > most // 4 else head.rfind(" ") + 1 or most
        parts.append(line[:cut].strip())
        line = line[cut:].strip()
    return [*parts, line]


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

