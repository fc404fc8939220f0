"""The wordings of wordings.toml, and how their slots are filled."""

from __future__ import annotations

import functools
import random
import tomllib
from importlib import resources
from typing import Any

from tatar_llm.chat.exchanges import exchanges
from tatar_llm.grammar.facts import facts
from tatar_llm.grammar.generate import fact_word
from tatar_llm.grammar.templates import Filler, Pick

DISTURBED, LEFT_OUT, REPLACED, ADDED = 0.5, 0.2, 0.15, 0.1
"""Share of the questions that are disturbed; of their words what is left out, replaced, followed by another."""


@functools.cache
def chat_wordings() -> dict[str, Any]:
    """wordings.toml."""
    return tomllib.loads(resources.files("tatar_llm.chat").joinpath("wordings.toml").read_text(encoding="utf-8"))


def proper(text: str, possessed: bool = False) -> Pick:
    """A subject or an answer, to be declined; `possessed`, as those listed are: it has its possessive ending."""
    return fact_word(text, possessed=possessed or text in chat_wordings()["possessed"])


def fill(wording: str, **named: Pick) -> str:
    """The wording with these in its slots."""
    filler = Filler(random.Random(0))
    filler.named = named
    return filler.fill(wording)


def disturbed(wording: str, rng: random.Random) -> str:
    """A wording as it is or, in `DISTURBED` of the cases, with words left out, replaced and added at random, its slots apart.

    So a network learns by which words to answer, and to pass over the others. Only questions are disturbed: nobody learns to
    write them.
    """
    if rng.random() > DISTURBED:
        return wording
    words = []
    for word in wording.split():
        chance = rng.random()
        if "{" in word or chance > LEFT_OUT + REPLACED:
            words.append(word)
        elif chance < REPLACED:
            words.append(rng.choice(question_words()))
        if rng.random() < ADDED:
            words.append(rng.choice(question_words()))
    return " ".join(words)


@functools.cache
def question_words() -> tuple[str, ...]:
    """Words of the questions written by hand, each as often as it stands there; no names, and nothing that facts are about."""
    asked = [wording for one in exchanges() if not one.held_out for wordings, _ in one.turns for wording in wordings if wording != one.reserved]
    about = tuple(word.lower() for fact in facts() for text in (fact.subject, fact.answer) for word in text.split())
    words = [word.strip("?!.,:;…«»—()") for wording in asked for word in wording.split()[1:]]
    return tuple(word for word in words if word.islower() and not word.startswith(about))
