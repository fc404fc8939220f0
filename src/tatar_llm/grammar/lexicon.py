"""The lexicon: lemmas with word class, meaning class, harmony, government and English gloss, read from lexicon/*.txt."""

from __future__ import annotations

import functools
from dataclasses import dataclass, field
from importlib import resources

from tatar_llm.grammar.phonology import Form, is_back


@dataclass(frozen=True)
class Lemma:
    """A dictionary word."""

    word: str
    """The stem: the nominative of nouns, the imperative of verbs."""
    word_class: str
    """noun, adjective, verb, adverb, postposition, conjunction, numeral."""
    meaning: str
    """Meaning class: kin, animal, food, motion, ..."""
    gloss: str
    """English."""
    governs: tuple[str, ...] = ()
    """Cases of what it goes with: acc, dat, abl, loc, nom; of verbs and postpositions."""
    marks: dict[str, str] = field(default_factory=dict, hash=False)

    @property
    def back(self) -> bool:
        """Vowel harmony."""
        return "back" in self.marks or ("front" not in self.marks and is_back(self.word))

    @property
    def form(self) -> Form:
        """The bare stem, ready for endings."""
        marks = self.marks
        return Form.of(
            self.word, back=self.back, firm="firm" in marks, before_vowel=marks.get("before_vowel", ""), hard="hard" in marks
        )


@functools.cache
def lexicon() -> tuple[Lemma, ...]:
    """All lemmas in the order of the files."""
    found: list[Lemma] = []
    for name in ("nouns", "names", "adjectives", "verbs", "particles"):
        found += _read(name)
    return tuple(found)


@functools.cache
def by_class(word_class: str, *meanings: str) -> tuple[Lemma, ...]:
    """The lemmas of a word class, of the meaning classes named or of all."""
    return tuple(
        lemma for lemma in lexicon() if lemma.word_class == word_class and (not meanings or lemma.meaning in meanings)
    )


@functools.cache
def _index() -> dict[tuple[str, str], Lemma]:
    return {(lemma.word_class, lemma.word): lemma for lemma in reversed(lexicon())}


def noun_lemma(word: str) -> Lemma:
    """The noun `word`; raises KeyError where the lexicon has none."""
    return _index()["noun", word]


def verb_lemma(stem: str) -> Lemma:
    """The verb with this stem; raises KeyError where the lexicon has none."""
    return _index()["verb", stem]


def _read(name: str) -> list[Lemma]:
    text = resources.files("tatar_llm.grammar").joinpath("lexicon", f"{name}.txt").read_text(encoding="utf-8")
    word_class, meaning, found = name.removesuffix("s"), "", []
    for number, line in enumerate(text.splitlines(), 1):
        if not line or line.startswith("#"):
            continue
        if line.startswith("["):
            meaning = line.strip("[]")
            continue
        word, gloss, *rest = (cell.strip() for cell in line.split("|"))
        if name == "particles":
            found.append(Lemma(word, meaning, meaning, gloss, tuple(rest)))
            continue
        governs = tuple(case for case in rest.pop(0).split() if case != "-") if name == "verbs" else ()
        marks = dict(mark.partition("=")[::2] for mark in " ".join(rest).split())
        if unknown := set(marks) - {"back", "front", "firm", "hard", "before_vowel", "possessed", "possessive", "high", "present", "noun"}:
            raise ValueError(f"lexicon/{name}.txt line {number}: unknown mark {', '.join(sorted(unknown))}")
        found.append(Lemma(word, word_class, meaning, gloss, governs, marks))
    return found
