"""What mends a line: wrong decoding, invisible characters, mark-up, addresses, look-alike letters, spaces; and cutting long lines.

Each step is a pure function on a line. What people write one way or another (– or —, «» or “”, ... or …) stays as it is.
"""

from __future__ import annotations

import html
import re
import unicodedata

from tatar_llm.languages import SCRIPTS, Language

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
