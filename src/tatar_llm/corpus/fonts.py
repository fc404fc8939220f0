"""Documents written in a font that showed one letter for another: found by how often each letter stands in them.

Before Unicode a Tatar font drew ә where the file says э, ќ or a Latin letter. Such a text reads well on its author's
machine and nowhere else. A letter that every Tatar text is full of is then missing, and another character stands about as often.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

LEAST_LETTERS = 2_000
"""A document with fewer letters is too short to judge."""
COMMON = 0.4
"""Per cent of the letters. Only letters that the language uses so often can be missed."""
MISSING = 0.1
"""A letter is missing when it stands less than this often, as a share of what is expected."""
LEAST_MISSING = 2
"""So many common letters must be missing: one alone may be an author's habit (а text without җ)."""


@dataclass(frozen=True)
class BrokenFont:
    """What is wrong with a document: missing letter -> the character that seems to stand for it ("" where none does)."""

    mapping: dict[str, str]

    def __str__(self) -> str:
        return ", ".join(f"{letter} as {char}" if char else f"{letter} lost" for letter, char in self.mapping.items())


def broken_font(text: str, expected: dict[str, float], special: str) -> BrokenFont | None:
    """The fault of a document's font, or None where there is none or it cannot be told.

    `expected`: per cent of each letter in the language's texts; `special`: the letters that fonts get wrong.
    """
    counts = Counter(text.lower())
    letters = sum(times for char, times in counts.items() if char.isalpha())
    if letters < LEAST_LETTERS or not expected:
        return None
    share = {char: 100 * times / letters for char, times in counts.items()}
    missing = [letter for letter in special if expected.get(letter, 0) >= COMMON
               and share.get(letter, 0.0) < MISSING * expected[letter]]  # fmt: skip
    if len(missing) < LEAST_MISSING:
        return None
    # What stands more often than it should, by how much
    surplus = {char: there - expected.get(char, 0.0) for char, there in share.items()
               if not char.isspace() and char not in ".,-–—!?:;\"«»" and not char.isdigit()}  # fmt: skip
    mapping: dict[str, str] = {}
    for letter in sorted(missing, key=lambda one: -expected[one]):
        fits = {char: more for char, more in surplus.items()
                if expected[letter] / 2 < more < expected[letter] * 2 and more > 2 * expected.get(char, 0.0)
                and char not in mapping.values()}  # fmt: skip
        mapping[letter] = min(fits, key=lambda char: abs(fits[char] - expected[letter])) if fits else ""
    if not any(mapping.values()) and len(missing) < len([one for one in special if expected.get(one, 0) >= COMMON]):
        return None
    return BrokenFont(mapping)
