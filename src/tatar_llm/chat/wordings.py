"""The wordings of wordings.toml, and how their slots are filled."""

from __future__ import annotations

import functools
import random
import tomllib
from importlib import resources
from typing import Any

from tatar_llm.grammar.generate import fact_word
from tatar_llm.grammar.lexicon import lexicon
from tatar_llm.grammar.templates import Filler, Pick

THINNED, LEFT_OUT, REPLACED = 0.4, 0.25, 0.1
"""Share of the questions that are thinned; of their words what is left out and what is replaced."""


@functools.cache
def chat_wordings() -> dict[str, Any]:
    """wordings.toml."""
    return tomllib.loads(resources.files("tatar_llm.chat").joinpath("wordings.toml").read_text(encoding="utf-8"))


def proper(text: str) -> Pick:
    """A subject or an answer, to be declined."""
    return fact_word(text, possessed=text in chat_wordings()["possessed"])


def fill(wording: str, **named: Pick) -> str:
    """The wording with these in its slots."""
    filler = Filler(random.Random(0))
    filler.named = named
    return filler.fill(wording)


def thinned(wording: str, rng: random.Random) -> str:
    """A wording as it is or, in `THINNED` of the cases, with words left out and replaced at random, its slots apart.

    So a network learns by which words to answer, and to pass over words that it does not know. Only questions are thinned:
    nobody learns to write them.
    """
    if rng.random() > THINNED:
        return wording
    words = []
    for word in wording.split():
        chance = rng.random()
        if "{" in word or chance > LEFT_OUT + REPLACED:
            words.append(word)
        elif chance < REPLACED:
            words.append(rng.choice(lexicon()).word)
    return " ".join(words)
