"""Cleaning as a list of small steps: some mend a line, the rules after them keep or drop it. Each is counted.

Nearly every line of a good corpus needs no mending, so one regular expression recognises such lines and the steps are
skipped for them: 1 M sentences take seconds, not minutes.
"""

from __future__ import annotations

import html
import re
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass, field

from tatar_llm.config import CorpusConfig
from tatar_llm.languages import SCRIPTS, Language

CLEANING_VERSION = 1
"""Raise it when a change here changes the text: finished corpora are then made anew."""
EXAMPLES = 3
EXAMPLE_CHARS = 80
MENDING = ("control characters", "mark-up", "unicode form", "look-alike letters", "spaces")
DROPPING = ("empty", "too short", "too long", "broken characters", "no letters", "symbols", "script", "foreign language",
            "repeated line", "repeated document")

_CONTROLS = re.compile(  # Cc, Zl, Zp: they stand where a space could
    r"[\x00-\x1f\x7f-\x9f\u2028\u2029]"
)
_INVISIBLE = re.compile(  # Cf (soft hyphen, zero width, BOM, bidi, tags), lone surrogates, private use
    "[\xad\u0600-\u0605\u061c\u06dd\u070f\u0890\u0891\u08e2\u180e\u200b-\u200f\u202a-\u202e\u2060-\u206f\ufeff"
    "\ufff9-\ufffb\ud800-\uf8ff\U000110bd\U000110cd\U00013430-\U0001343f\U0001bca0-\U0001bca3"
    "\U0001d173-\U0001d17a\U000e0000-\U000e007f\U000f0000-\U0010ffff]"
)
_ENTITY = re.compile(r"&(?:#\d{1,7}|#[xX][0-9a-fA-F]{1,6}|[A-Za-z][A-Za-z0-9]{1,30});")
_INLINE_TAG = re.compile(r"</?(?:a|abbr|b|big|em|font|i|s|small|span|strong|sub|sup|u)(?:\s[^<>]{0,500})?/?>", re.I)
_BLOCK_TAG = re.compile(
    r"<!--.{0,500}?-->|</?(?:blockquote|body|br|center|code|dd|div|dl|dt|h[1-6]|head|hr|html|img|input|li|link|meta|nowiki|ol|"
    r"option|p|pre|ref|script|style|table|tbody|td|th|title|tr|ul)(?:\s[^<>]{0,500})?/?>", re.I)
_ROMAN = re.compile(r"[IVXХІΙ]{2,}")
_BROKEN = re.compile(r"[\ufffd\ufffe\uffff]")


def remove_controls(line: str) -> str:
    """Tabs and other control characters become spaces; characters without a shape (soft hyphen, bidi, BOM) vanish."""
    return _INVISIBLE.sub("", _CONTROLS.sub(" ", line))


def remove_markup(line: str) -> str:
    """HTML tags vanish, entities become what they stand for: ``a&nbsp;<b>b</b>`` -> ``a b``."""
    if "&" not in line and "<" not in line:
        return line
    line = _ENTITY.sub(lambda entity: html.unescape(entity[0]), line)
    return _BLOCK_TAG.sub(" ", _INLINE_TAG.sub("", line))


def compose(line: str) -> str:
    """Unicode's composed form NFC: и + breve -> й. Not NFKC, which would rewrite numerals and typography."""
    return line if unicodedata.is_normalized("NFC", line) else unicodedata.normalize("NFC", line)


def squeeze_spaces(line: str) -> str:
    """Every run of Unicode spaces becomes one space; none at the ends."""
    return " ".join(line.split())


class LookAlikes:
    """Puts the language's letters where others stand that look like them: ``hәм`` -> ``һәм``, ``ceз`` -> ``сез``.

    Each word is judged on its own: it must hold a letter of the script, and no letter besides the script's and the
    look-alikes. So Latin words stay as they are, and mixed ones such as ``iPhoneның`` too.
    """

    def __init__(self, language: Language) -> None:
        script = SCRIPTS[language.script]
        keys = "".join(map(re.escape, language.look_alikes))
        self.table = str.maketrans(language.look_alikes)
        self.suspicious = re.compile(f"[{keys}]") if keys else re.compile(r"(?!)")
        self.word = re.compile(r"(?:[^\W\d_]|[\u0300-\u036f])+")
        self.own = re.compile(f"[{script}]")
        self.mendable = re.compile(f"[{script}{keys}\u0300-\u036f]+")
        # "XIнче": a Roman numeral with a Tatar ending is no mixed-up word
        small = language.letters
        self.numeral = re.compile(f"(?:[IVXLCDM]{{2,}}|I)[{small}]+")

    def __call__(self, line: str) -> str:
        return compose(self.word.sub(self._mend, line)) if self.suspicious.search(line) else line

    def _mend(self, match: re.Match[str]) -> str:
        word = match[0]
        if len(word) == 1 and not word.isascii():  # "ə" alone is the conjunction "ә"; "a" alone may be English
            return word.translate(self.table)
        if not self.suspicious.search(word) or not self.own.search(word):
            return word
        if _ROMAN.fullmatch(word):  # ХIХ: numerals are written with Latin letters, whole
            return word.replace("Х", "X").replace("І", "I").replace("Ι", "I")
        if not self.mendable.fullmatch(word) or self.numeral.fullmatch(word):
            return word
        return word.translate(self.table)


@dataclass
class Tally:
    """What the steps did to one source: per rule how many lines were changed or dropped, with a few examples."""

    lines: int = 0
    kept_lines: int = 0
    documents: int = 0
    kept_documents: int = 0
    bytes: int = 0
    changed: dict[str, int] = field(default_factory=lambda: dict.fromkeys(MENDING, 0))
    dropped: dict[str, int] = field(default_factory=lambda: dict.fromkeys(DROPPING, 0))
    examples: dict[str, list[str]] = field(default_factory=lambda: {rule: [] for rule in MENDING + DROPPING})

    def change(self, rule: str, before: str, after: str) -> None:
        """Count a mended line."""
        self.changed[rule] += 1
        if len(self.examples[rule]) < EXAMPLES:
            start = next((i for i, (a, b) in enumerate(zip(before, after, strict=False)) if a != b), 0)
            start = max(0, start - EXAMPLE_CHARS // 4)
            part = slice(start, start + EXAMPLE_CHARS // 2)
            self.examples[rule].append(f"{_visible(before[part])} → {_visible(after[part])}")

    def drop(self, rule: str, line: str, lines: int = 1) -> None:
        """Count a dropped line, or a document of `lines` lines."""
        self.dropped[rule] += lines
        if line and len(self.examples[rule]) < EXAMPLES:
            self.examples[rule].append(_visible(line[:EXAMPLE_CHARS]))

    def as_dict(self) -> dict[str, dict[str, object]]:
        """Per rule, in order: lines in, changed, dropped, examples."""
        rows: dict[str, dict[str, object]] = {}
        left = self.lines
        for rule in MENDING + DROPPING:
            changed, dropped = self.changed.get(rule, 0), self.dropped.get(rule, 0)
            rows[rule] = {"in": left, "changed": changed, "dropped": dropped, "examples": self.examples[rule]}
            left -= dropped
        return rows


def _visible(text: str) -> str:
    """Control characters written out, so that an example shows what was there."""
    return "".join(char if char.isprintable() else f"<U+{ord(char):04X}>" for char in text)


class Cleaner:
    """All steps, set up for one language and one choice of settings."""

    def __init__(self, language: Language, config: CorpusConfig) -> None:
        script = SCRIPTS[language.script]
        letters = language.letters + language.letters.upper()
        marks = r"0-9.,:;!?()\[\]\"'«»“”„…—–№%/+*=\-"
        self.config = config
        self.steps: tuple[tuple[str, Callable[[str], str]], ...] = tuple(
            zip(MENDING, (remove_controls, remove_markup, compose, LookAlikes(language), squeeze_spaces), strict=True)
        )
        # A letter, and around it characters that no step touches as long as no two spaces meet
        self.plain = re.compile(rf"(?! )[{marks} ]*[{letters}][{letters}{marks} ]*(?<! )")
        self.own_letter = re.compile(f"[{script}]")
        self.special = re.compile(f"[{language.keyboard}{language.keyboard.upper()}]")
        self.foreign = frozenset(language.foreign_words)
        self.words = re.compile(r"[^\W\d_]+")

    def clean(self, line: str, listed: bool, tally: Tally) -> str | None:
        """The mended line, or None when a rule drops it (counted in `tally`). `listed`: it is a document by itself."""
        mended, plain = self.mend(line, tally)
        rule = self.verdict(mended, listed, plain)
        if rule:
            tally.drop(rule, mended or line)
            return None
        return mended

    def mend(self, line: str, tally: Tally | None = None) -> tuple[str, bool]:
        """The line after the mending steps, and whether it holds nothing but letters of the language and simple marks.

        Mending a mended line changes nothing: the steps are repeated while they still change something, since an
        entity may stand for a soft hyphen that splits an entity.
        """
        if self.plain.fullmatch(line) and "  " not in line:
            return line, True
        for _ in range(20):
            before = line
            for rule, step in self.steps:
                mended = step(line)
                if mended != line:
                    if tally:
                        tally.change(rule, line, mended)
                    line = mended
            if line == before:
                break
        return line, False

    def verdict(self, line: str, listed: bool, plain: bool = False) -> str | None:
        """The name of the rule that drops this mended line, or None to keep it. Pure."""
        if not line:
            return "empty"
        length = len(line)
        if listed and length < self.config.min_chars:
            return "too short"
        if length > self.config.max_chars:
            return "too long"
        if not plain and _BROKEN.search(line):
            return "broken characters"
        # A Cyrillic letter is two bytes, an ASCII mark one: this rules out nearly all plain lines without counting
        wide = len(line.encode("utf-8", "replace")) - length
        if not plain or wide < 0.6 * length:
            letters = sum(map(str.isalpha, line))
            if not letters:
                return "no letters"
            if listed and letters < 0.5 * (length - line.count(" ")):
                return "symbols"
            if not plain:
                own = len(self.own_letter.findall(line))
                if own < self.config.min_cyrillic * letters or not own:
                    return "script"
        if self.foreign and not self.special.search(line) and self.is_foreign(line):
            return "foreign language"
        return None

    def is_foreign(self, line: str) -> bool:
        """Whether a line without any special letter is made of the neighbour language's words.

        Two different ones that make up an eighth of the words, or one of three letters that makes up a third. A
        capital by itself is an initial.
        """
        words = [word if len(word) == 1 else word.lower() for word in self.words.findall(line)]
        known = [word for word in words if word in self.foreign]
        if len(set(known)) >= 2:
            return len(known) * 8 >= len(words)
        return len(known) * 3 >= len(words) and any(len(word) >= 3 for word in known)
