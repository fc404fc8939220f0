"""Words cut where the grammar knows a morpheme to end: китаб-ым-нан. While merges are learnt, none reaches across."""

from __future__ import annotations

import functools
import itertools
import re
from collections.abc import Iterator

from tatar_llm.grammar.lexicon import Lemma, lexicon
from tatar_llm.grammar.nouns import CASES, PERSONS, decline, noun, possessed
from tatar_llm.grammar.phonology import Form
from tatar_llm.grammar.verbs import NON_FINITE, TENSES, imperative, non_finite, verb

BORDER = "\uffff"  # never a character of a text; PIECES begins a new piece with it, as with any single sign before letters
WORD = re.compile(r"[^\W\d_]+")
IMPERATIVES = ("2sg", "2pl", "3sg", "3pl", "1sg", "1pl")


def marked(texts: Iterator[str]) -> Iterator[str]:
    """The texts with BORDER at the morpheme ends inside words that the grammar knows, whatever their case."""
    ends = morpheme_ends()

    def cut(match: re.Match[str]) -> str:
        word = match[0]
        found = ends.get(word.lower())
        if not found:
            return word
        return BORDER.join(word[first:last] for first, last in itertools.pairwise((0, *found, len(word))))

    for text in texts:
        yield WORD.sub(cut, text)


@functools.cache
def morpheme_ends() -> dict[str, tuple[int, ...]]:
    """Inflected word -> places inside it where a morpheme ends, by every reading that the grammar has of it.

    алма is an apple as well as a prohibition to take (ал-ма): it has no end that both share, and does not occur here.
    """
    found: dict[str, set[int]] = {}
    for lemma in lexicon():
        if " " in lemma.word:
            continue
        for form in forms(lemma):
            places = set(itertools.accumulate(len(morph) for morph in form.morphs)) - {0, len(str(form))}
            found[str(form)] = places & found.get(str(form), places)
    return {word: tuple(sorted(places)) for word, places in found.items() if places}


def forms(lemma: Lemma) -> Iterator[Form]:
    """The forms of a dictionary word that texts are full of, itself among them."""
    yield lemma.form
    if lemma.word_class in ("noun", "name"):
        several = (False,) if "possessed" in lemma.marks else (False, True)
        owners = (None,) if "possessed" in lemma.marks else (None, *PERSONS)
        for case, plural, possessor in itertools.product(CASES, several, owners):
            yield noun(lemma, case, plural=plural, possessor=possessor)
    elif lemma.word_class == "verb":
        for negative in (False, True):
            for tense, person in itertools.product(TENSES, PERSONS):
                yield verb(lemma, tense, person, negative=negative)
            yield from (imperative(lemma, person, negative=negative) for person in IMPERATIVES)
            for kind in NON_FINITE:
                form = non_finite(lemma, kind, negative=negative)
                yield form
                if kind in ("verbal_noun", "participle_past", "participle_present"):
                    for case, owner in itertools.product(CASES, (None, *PERSONS)):
                        yield decline(possessed(form, owner) if owner else form, case, owner)
