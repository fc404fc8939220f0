"""Which language a line is in: letters first, then frequent words, CLD2 for what is long and still in doubt.

Each neighbour of a language is data (see `languages.Neighbour`): the letters it has and the language lacks, and its
frequent words. A line is given to a neighbour only on evidence for it; without evidence it stays.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from tatar_llm.languages import SCRIPTS, Language, Neighbour

LETTER_SHARE = 0.02
"""Bashkir and Kazakh write 6 to 10 % of their letters with signs that Tatar lacks; a Tatar line that quotes them, less."""
LONG = 300
OWN_SHARE = 0.06
"""A paragraph of more characters than LONG with so many special letters is the language's own: in Tatar they are 9 %."""
SURE_LETTERS = 20
"""CLD2 is asked about lines with at least so many letters; about fewer only when nothing speaks for the language."""
FEW_LETTERS = 18
DOCUMENT_SHARE = 0.6
"""A document is foreign as a whole when so large a share of its judged text is."""
_PLAIN_WORD = re.compile(r"[^\W\d_]+")
_WORD = re.compile(r"[^\W\d_]{2,}(?:-[^\W\d_]+)*|(?<![\w.-])[^\W\d_](?![\w.)\]/-])")
"""Words; a letter by itself counts only where it is no abbreviation."""

Detector = Callable[[str, bool], str | None]


def cld2() -> Detector | None:
    """CLD2's judgement: (text, guess) -> code of the language, or None where it is unsure and `guess` is False.

    None where pycld2 is not installed. CLD2: Dick Sites' Compact Language Detector 2. It raises on NUL, DEL, U+FFFE and
    lone surrogates, which the cleaner has taken out before; whatever else it refuses counts as unsure.
    """
    try:
        import pycld2
    except ImportError:
        return None

    def detect(text: str, guess: bool) -> str | None:
        try:
            sure, _, found = pycld2.detect(text, isPlainText=True, bestEffort=guess)
        except (pycld2.error, ValueError):
            return None
        return found[0][1] if sure and found[0][2] >= 80 else None

    return detect


@dataclass(frozen=True)
class Evidence:
    """What speaks for and against a line."""

    letters: int
    words: int
    special: int
    """Letters that the language has and a common keyboard of its script lacks."""
    own: int
    """Words that only this language writes so."""
    telling: dict[str, int]
    """Neighbour -> letters of it that the language lacks."""
    known: dict[str, int]
    """Neighbour -> words of it."""
    distinct: dict[str, int]
    """Neighbour -> different words of it."""


class LanguageJudge:
    """Tells the lines of a language from those of its neighbours."""

    def __init__(self, language: Language, detector: Detector | None) -> None:
        self.detector = detector
        self.own_code = language.cld2
        same = [other for other in language.neighbours if other.script == language.script]
        self.special = re.compile(f"[{language.keyboard}{language.keyboard.upper()}]")
        self.own_words = frozenset(language.words)
        self.words = {word: [other.name for other in same if word in other.words] for other in same for word in other.words}
        self.letters = {other.name: _letters(other) for other in same if other.letters}
        self.endings = [(other.name, re.compile(f"\\w{{3,}}(?:{'|'.join(other.endings)})")) for other in same if other.endings]
        self.any_letter = _any(other.letters for other in same)
        self.by_code = {other.cld2: other.name for other in same if other.cld2}
        self.coded = frozenset(self.by_code.values())
        self.scripts = [(other, re.compile(f"[{SCRIPTS[other.script]}]"), _letters(other), frozenset(other.words))
                        for other in language.neighbours if other.script != language.script]  # fmt: skip

    def other_script(self, line: str) -> str | None:
        """The neighbour in another script that this line is in, such as Latin-script Tatar: by two words, or a word and letters."""
        words = [word.lower() for word in _WORD.findall(line)]
        for other, script, letters, frequent in self.scripts:
            if len(script.findall(line)) * 2 < sum(map(str.isalpha, line)):
                continue
            known = {word for word in words if word in frequent}
            special = bool(other.letters) and len(letters.findall(line)) >= 2
            enough = len(known) >= 2 or (known and (special or len(words) <= 4))
            if enough and len([word for word in words if word in frequent]) * (12 if special else 6) >= len(words):
                return other.name
        return None

    def foreign(self, line: str) -> str | None:
        """The neighbour whose language this line of the language's script is in, or None.

        CLD2 decides where it is sure and letters or words agree; else letters that the language lacks, then words.
        """
        special = len(self.special.findall(line))
        telling = self.any_letter.search(line) is not None
        if special and not telling:
            if len(line) > LONG and special > OWN_SHARE * len(line):
                return None
            if self.words.keys().isdisjoint(_PLAIN_WORD.findall(line.lower())):  # the usual line, seen quickly
                return None
        words = [word if len(word) == 1 else word.lower() for word in _WORD.findall(line)]
        known = [word for word in words if word in self.words]
        if known or not special:
            known += [word for word in words if word.islower() and word not in self.words and self._ending(word)]
        if special and not known and not telling:
            return None
        evidence = self._evidence(line, words, known, special)
        sure = self._ask(line, evidence, guess=False)
        if sure == self.own_code and sure:
            # A quotation in a sentence of the language: only where most of the line is quoted is it foreign
            name = _most(evidence.known)
            return name if name and evidence.known[name] * 2 >= evidence.words and evidence.known[name] > evidence.own else None
        if (name := self.by_code.get(sure or "")) and self._agree(name, sure or "", evidence):
            return name
        return self._by_letters(evidence, unsure=sure is None) or self._by_words(evidence) or self._by_guess(line, evidence)

    def _evidence(self, line: str, words: list[str], known: list[str], special: int) -> Evidence:
        count: dict[str, int] = {}
        distinct: dict[str, set[str]] = {}
        for word in known:
            for name in self.words.get(word) or self._ending(word):
                count[name] = count.get(name, 0) + 1
                distinct.setdefault(name, set()).add(word)
        telling = {name: len(pattern.findall(line)) for name, pattern in self.letters.items()}
        return Evidence(
            sum(map(str.isalpha, line)), len(words), special, sum(word in self.own_words for word in words),
            {name: times for name, times in telling.items() if times}, count,
            {name: len(found) for name, found in distinct.items()},
        )  # fmt: skip

    def _ending(self, word: str) -> list[str]:
        return [name for name, pattern in self.endings if pattern.fullmatch(word)]

    def _ask(self, line: str, evidence: Evidence, guess: bool) -> str | None:
        if self.detector is None or evidence.letters < (FEW_LETTERS if guess else SURE_LETTERS):
            return None
        return self.detector(line, guess)

    @staticmethod
    def _agree(name: str, code: str, evidence: Evidence) -> bool:
        """Whether letters or words support CLD2, which takes one Tatar line in 200 for Bashkir."""
        if evidence.known.get(name, 0) or evidence.telling.get(name, 0):
            return evidence.own <= evidence.known.get(name, 0) + evidence.telling.get(name, 0)
        return code == "ru" and not evidence.special and not evidence.own

    def _by_letters(self, evidence: Evidence, unsure: bool) -> str | None:
        """By letters alone. Where CLD2 knows the language and was not sure of it, they are an older spelling or a dialect."""
        telling = {name: times for name, times in evidence.telling.items()
                   if not (self.detector and unsure and name in self.coded and times >= evidence.known.get(name, 0))}  # fmt: skip
        name = max(telling, key=lambda key: (telling[key], evidence.known.get(key, 0)), default=None)
        if name is None or evidence.telling[name] < LETTER_SHARE * evidence.letters:
            return None
        # Words of another language, or in an older spelling, inside a sentence of this one: its own words outweigh them
        own, few = evidence.own, evidence.telling[name] < 3 * LETTER_SHARE * evidence.letters
        if own and own >= evidence.known.get(name, 0) and (own >= 2 or few):
            return None
        return name

    @staticmethod
    def _by_words(evidence: Evidence) -> str | None:
        """Two different words that make up an eighth of the line, or a single one that makes up a quarter.

        A line with special letters needs more: names such as Гөлнара stand in foreign sentences, a foreign word in own ones.
        """
        name = max(evidence.known, key=lambda key: (evidence.known[key], evidence.distinct[key]), default=None)
        if name is None or evidence.own >= evidence.known[name]:
            return None
        known, distinct = evidence.known[name], evidence.distinct[name]
        if evidence.special:
            return name if distinct >= 2 and (known - evidence.own) * 5 >= evidence.words else None
        share = 8 if distinct >= 2 else 4
        return name if (known - evidence.own) * share >= evidence.words else None

    def _by_guess(self, line: str, evidence: Evidence) -> str | None:
        """CLD2's guess, for a line that nothing marks as the language's own; believed only where it guesses Russian."""
        if evidence.special or evidence.own or self._ask(line, evidence, guess=True) != "ru":
            return None
        return self.by_code.get("ru")

    def document(self, lines: Sequence[tuple[str, str | None]]) -> str | None:
        """The language of a document whose lines were judged one by one: lines and their neighbour or None.

        When most of the text is foreign, the short lines between that nobody can judge are so too.
        """
        weight: dict[str, int] = {}
        total = 0
        for line, name in lines:
            total += len(line)
            if name:
                weight[name] = weight.get(name, 0) + len(line)
        if not weight or sum(weight.values()) < DOCUMENT_SHARE * total:
            return None
        return max(weight, key=lambda key: weight[key])


def _most(counts: dict[str, int]) -> str | None:
    return max(counts, key=lambda key: counts[key], default=None)


def _letters(other: Neighbour) -> re.Pattern[str]:
    return _any([other.letters])


def _any(alphabets: Any) -> re.Pattern[str]:
    found = "".join(sorted(set("".join(alphabets))))
    capital = "".join(char.upper() for char in found if not char.upper().isascii())  # not I, which is ı's
    return re.compile(f"[{re.escape(found)}{re.escape(capital)}]") if found else re.compile(r"(?!)")
