"""Templates of sentences, and how they are filled from the lexicon.

A template is Tatar text with
    [бүген|кичә]        one of the alternatives,
    {animal.acc}        a noun of a meaning class or group (GROUPS), with case, pl, possessor (p1sg ... p3pl),
    {h=human}           the same, remembered as h; ``{h.dat}`` is the same word again, in another case,
    {ел:past}           a verb by its stem, in a tense (verbs.TENSES), with neg, a person (2pl), or ``@h``: the person of h,
    {ел:inf}            non-finite: inf, noun, ptcp, conv, before, after, without, imp (with a person),
    {size} {size.comp}  an adjective of a meaning class, plain or comparative,
    {n} {n.ord}         a number of a range of NUMBERS in words, cardinal or ordinal; ``{m=n}`` remembers it,
    {a.cap}             with a capital letter,
    ДА                  the particle "too", as the word before it asks: да, дә, та, тә;
``q`` among the features adds the question particle.
"""

from __future__ import annotations

import functools
import random
import re
from dataclasses import dataclass

from tatar_llm.grammar.lexicon import Lemma, lexicon, verb_lemma
from tatar_llm.grammar.nouns import (
    CASES,
    PERSONS,
    decline,
    noun,
    number,
    ordinal,
    possessed,
    predicate,
    pronoun,
    question,
)
from tatar_llm.grammar.phonology import Form
from tatar_llm.grammar.verbs import TENSES, imperative, non_finite, verb

_ALTERNATIVES = re.compile(r"\[([^\[\]]*)\]")
_SLOT = re.compile(r"\{([^{}]*)\}")
_NON_FINITE = {
    "inf": "infinitive", "noun": "verbal_noun", "ptcp": "participle_past", "agent": "participle_present",
    "conv": "converb", "before": "converb_before", "after": "converb_after", "without": "converb_without",
}  # fmt: skip
GROUPS: dict[str, tuple[str, ...]] = {
    "go": ("place", "building"),
    "kin": ("elder", "elder", "relative"),
    "edible": ("food", "cooked", "sweet_fruit"),
    "beast": ("animal", "domestic"),
    "creature": ("animal", "bird"),
    "growing": ("tree", "flower", "crop", "plant"),
    "thing": ("tool", "supplies", "dish", "clothing"),
    "mine": ("clothing", "supplies", "dish"),
    "human": ("given", "kin", "profession"),
    "someone": ("given", "given", "given", "kin", "profession", "pronoun"),
    "subject": ("pronoun",),
}
"""Names of several meaning classes together; ``pronoun`` is a personal pronoun."""

NUMBERS = {"n": (2, 19), "few": (2, 9), "hour": (1, 12), "minute": (2, 59)}


@dataclass(frozen=True)
class Pick:
    """What fills a slot: a lemma, a number or a pronoun, with what belongs to it wherever it comes again."""

    lemma: Lemma | None = None
    person: str = "3sg"
    possessor: str | None = None
    value: int = 0

    def text(self, features: tuple[str, ...]) -> str:
        """The word with these features."""
        case = next((feature for feature in features if feature in CASES), "nom")
        if self.value:
            return ordinal(self.value) if "ord" in features else str(decline(Form.of(number(self.value)), case))
        if self.lemma is None:
            return pronoun(self.person, case)
        if self.lemma.word_class == "adjective":
            form = self.lemma.form.add("рАк") if "comp" in features else self.lemma.form
            return self._said(form, features)
        possessor = next((feature[1:] for feature in features if feature[1:] in PERSONS and feature[0] == "p"), self.possessor)
        return self._said(noun(self.lemma, case, plural="pl" in features, possessor=possessor), features)

    @staticmethod
    def _said(form: Form, features: tuple[str, ...]) -> str:
        person = next((feature for feature in features if feature in PERSONS), "3sg")
        form = predicate(form, person)
        return question(form) if "q" in features else str(form)


class Filler:
    """Fills templates; what it has picked under a name stays for the templates that follow.

    Args:
        rng: where every choice comes from.
        without: words never to pick (those kept back for the minimal pairs).
    """

    def __init__(self, rng: random.Random, without: frozenset[str] = frozenset()) -> None:
        self.rng = rng
        self.without = without
        self.named: dict[str, Pick] = {}

    def fill(self, template: str) -> str:
        """The text, each sentence with a capital letter."""
        while match := _ALTERNATIVES.search(template):
            chosen = self.rng.choice(match[1].split("|"))
            template = template[: match.start()] + chosen + template[match.end() :]
        text = _SLOT.sub(lambda match: self._slot(match[1]), template)
        text = re.sub(r"(\S+) ДА\b", lambda match: f"{match[1]} {Form.of(match[1]).add('ДА').morphs[-1]}", text)
        text = re.sub(r"\s+", " ", text).strip()
        return re.sub(r"(^[—«\s]*|[.!?…]»?\s+«?|: «)([а-яёәөүҗңһ])", lambda match: match[1] + match[2].upper(), text)

    def pick(self, group: str) -> Pick:
        """A fresh choice from a meaning class, a group or a range of numbers."""
        if group in NUMBERS:
            return Pick(value=self.rng.randint(*NUMBERS[group]))
        meaning = group
        while meaning in GROUPS:
            meaning = self.rng.choice(GROUPS[meaning])
        if meaning == "pronoun":
            return Pick(person=self.rng.choice(PERSONS))
        words = _nominals(meaning)
        if not words:
            raise ValueError(f"no meaning class or group {group!r}")
        while (lemma := self.rng.choice(words)).word in self.without or lemma.word in {
            pick.lemma.word for pick in self.named.values() if pick.lemma
        }:
            pass
        possessor = "1sg" if meaning in GROUPS["kin"] and group not in ("kin", meaning) else None
        return Pick(lemma, possessor=possessor)

    def _slot(self, slot: str) -> str:
        if ":" in slot:
            return self._verb(*slot.split(":"))
        name, _, rest = slot.rpartition("=")
        head, *features = rest.split(".")
        if name:
            pick = self.named[name] = self.pick(head)
        else:
            pick = self.named.get(head) or self.pick(head)
        text = pick.text(tuple(features))
        return text[0].upper() + text[1:] if "cap" in features else text

    def _verb(self, stem: str, rest: str) -> str:
        rest, _, name = rest.partition("@")
        features = rest.split(".")
        person = next((feature for feature in features if feature in PERSONS), "2sg" if features[0] == "imp" else "3sg")
        if name:
            person = self.named[name].person
        lemma, negative = verb_lemma(stem), "neg" in features
        kind = features[0]
        if kind in TENSES:
            form = verb(lemma, kind, person, negative=negative)
        elif kind == "imp":
            form = imperative(lemma, person, negative=negative)
        else:
            form = non_finite(lemma, _NON_FINITE[kind], negative=negative)
            possessor = next((feature[1:] for feature in features if feature[1:] in PERSONS), None)
            form = possessed(form, possessor) if possessor else form
            form = decline(form, next((feature for feature in features if feature in CASES), "nom"), possessor)
        return question(form) if "q" in features else str(form)


@functools.cache
def _nominals(meaning: str) -> tuple[Lemma, ...]:
    """The words that a slot of this meaning class may hold; compounds that are possessed already take no more endings."""
    return tuple(
        lemma for lemma in lexicon()
        if lemma.meaning == meaning and lemma.word_class in ("noun", "name", "adjective") and "possessed" not in lemma.marks
    )  # fmt: skip
