"""How Tatar endings fit their stems: vowel harmony, assimilation, voicing, and the spelling of й and у before vowels.

Endings are written with the archiphonemes of Turkic grammars, each of which the stem decides:
А а/ә, Ы ы/е, У у/ү (harmony); Д д/т, Г г/к (after a voiceless sound); Л л/н (after a nasal); Т д/т/н (the ablative's).
Source of the rules: Zakiev (ed.), Татар грамматикасы, vol. 1-2 (2015-2016), and the word counts of Tatar books.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

BACK = "аоуыёюя"
FRONT = "әөүиеэ"
VOWELS = BACK + FRONT
VOICELESS = "пфктшщчцсхһ"
NASALS = "мнң"
_HARMONY = {"А": "аә", "Ы": "ые", "У": "уү"}
_VOICED = {"к": "г", "п": "б"}


def is_back(word: str) -> bool:
    """Whether a word takes back-vowel endings, as far as its letters tell.

    The last vowel decides; у, ү, ю, я and е right after a vowel stand for a glide and follow that vowel (каен is
    back, сөяк front); a final ь makes the word front.
    """
    if word.endswith("ь"):
        return False
    for position in range(len(word) - 1, -1, -1):
        letter = word[position]
        if letter in "уүюяе" and position and word[position - 1] in VOWELS:
            continue
        if letter in VOWELS:
            return letter in BACK
    return True


def syllables(word: str) -> int:
    """Number of syllables; у and ү after a vowel are glides."""
    return sum(
        letter in VOWELS and not (letter in "уү" and position and word[position - 1] in VOWELS)
        for position, letter in enumerate(word)
    )


@dataclass(frozen=True)
class Form:
    """A word form as its morphemes in their written shape: китаб-ым-нан.

    >>> str(Form.of("китап").add("Ым").add("Тан"))
    'китабымнан'
    """

    morphs: tuple[str, ...]
    back: bool
    firm: bool = False
    """A final к or п stays before vowels (банкы), as in most loans."""
    before_vowel: str = ""
    """The stem that vowels follow, where no rule gives it: халык, халк-ы."""
    hard: bool = False
    """A final б, в, г, д, з counts as voiceless: завод-та."""

    @classmethod
    def of(
        cls, stem: str, *, back: bool | None = None, firm: bool = False, before_vowel: str = "", hard: bool = False
    ) -> Form:
        """A bare stem; `back` None lets its letters decide."""
        return cls((stem,), is_back(stem) if back is None else back, firm, before_vowel, hard)

    def __str__(self) -> str:
        return "".join(self.morphs)

    @property
    def last(self) -> str:
        """The last letter that sounds."""
        return self.morphs[-1].rstrip("ьъ")[-1]

    @property
    def ends_in_vowel(self) -> bool:
        """Whether it takes the endings of vowel stems: not after и, у, ү, ю (әбием, суым)."""
        return self.last in VOWELS and self.last not in "иуүю"

    def add(self, ending: str) -> Form:
        """The form with one more ending, given with archiphonemes."""
        if ending[0] in "АЫУ" or ending[0] in VOWELS:
            stem, ending = self._before_vowel(), self._spelt(ending)
            if stem.endswith("й"):
                joined = {"ы": "е", "е": "е", "а": "я", "ә": "я", "у": "ю", "ү": "ю"}.get(ending[0])
                if joined:
                    stem, ending = stem[:-1], joined + ending[1:]
        else:
            stem, ending = self.morphs[-1], self._spelt(ending)
        return replace(self, morphs=(*self.morphs[:-1], stem, ending), firm=False, before_vowel="", hard=False)

    def _spelt(self, ending: str) -> str:
        last = self.last
        voiceless = last in VOICELESS or (self.hard and last in "бвгдз")
        letters = {
            "Д": "т" if voiceless else "д",
            "Г": "к" if voiceless else "г",
            "Л": "н" if last in NASALS else "л",
            "Т": "т" if voiceless else "н" if last in NASALS else "д",
            **{letter: pair[0 if self.back else 1] for letter, pair in _HARMONY.items()},
        }
        return letters.get(ending[0], ending[0]) + "".join(
            letters[letter] if letter in _HARMONY else letter for letter in ending[1:]
        )

    def _before_vowel(self) -> str:
        stem = self.morphs[-1]
        if self.before_vowel:
            head, _, _ = stem.rpartition(" ")
            return f"{head} {self.before_vowel}".strip() if head else self.before_vowel
        if stem.endswith("ь"):
            return stem[:-1]
        if stem[-1] in "уү" and stem[-2:-1] and stem[-2] in VOWELS:  # тау: тавы
            return stem[:-1] + "в"
        if stem[-1] in _VOICED and not self.firm and (len(stem) < 2 or stem[-2] in VOWELS):
            return stem[:-1] + _VOICED[stem[-1]]
        return stem
