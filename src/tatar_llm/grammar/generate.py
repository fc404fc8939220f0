"""Texts made by the grammar: sentences of a theme, stories, dialogues and facts, any amount, the same for the same seed."""

from __future__ import annotations

import functools
import random
from collections.abc import Iterator
from hashlib import sha256
from importlib import resources

from tatar_llm.grammar.facts import Fact, facts, is_possessed, wordings
from tatar_llm.grammar.lexicon import Lemma, by_class
from tatar_llm.grammar.templates import Filler, Pick

SEED = 0
KINDS = {"sentences": 9, "stories": 6, "dialogues": 3, "facts": 2}
"""Kinds of documents and how often each comes."""


def documents(size: int, seed: int = SEED) -> Iterator[list[str]]:
    """Documents, each a list of lines, of `size` bytes of UTF-8 together or a little more.

    Document number i depends on `seed` and i alone: a larger size only adds documents.
    """
    made = number = 0
    while made < size:
        document = make(random.Random(f"{seed} {number}"))
        made += sum(len(line.encode()) + 1 for line in document) + 1
        number += 1
        yield document


def make(rng: random.Random) -> list[str]:
    """One document."""
    kind = rng.choices(list(KINDS), list(KINDS.values()))[0]
    if kind == "facts":
        return _facts(rng)
    block = rng.choice(blocks(kind))
    filler = Filler(rng)
    if kind != "sentences":
        return [filler.fill(line) for line in block]
    lines = []
    for line in rng.choices(block, k=rng.randint(5, 10)):
        filler.named.clear()
        lines.append(filler.fill(line))
    return lines


@functools.cache
def blocks(kind: str) -> tuple[tuple[str, ...], ...]:
    """The templates of a kind: of each theme, story or dialogue."""
    found: list[list[str]] = []
    text = resources.files("tatar_llm.grammar").joinpath("texts", f"{kind}.txt").read_text(encoding="utf-8")
    for line in text.splitlines():
        if line.startswith("[") and line.endswith("]") and "|" not in line:
            found.append([])
        elif line and not line.startswith("#"):
            found[-1].append(line)
    return tuple(map(tuple, found))


def fill_fact(fact: Fact, wording: str, rng: random.Random) -> str:
    """A wording with the fact's subject and answer in their places."""
    filler = Filler(rng)
    filler.named = {"s": fact_word(fact.subject), "a": fact_word(fact.answer)}
    return filler.fill(wording)


@functools.cache
def fingerprint() -> str:
    """SHA-256 of all that the texts depend on besides size and seed."""
    digest = sha256()
    folder = resources.files("tatar_llm.grammar")
    for part in ("", "lexicon", "texts", "facts"):
        place = folder.joinpath(part) if part else folder
        for file in sorted(place.iterdir(), key=lambda file: file.name):
            if file.name.endswith((".py", ".txt", ".toml")):
                digest.update(file.read_bytes().replace(b"\r\n", b"\n"))
    return digest.hexdigest()


def _facts(rng: random.Random) -> list[str]:
    """Some facts, of one relation or of several, each in one or two of the training wordings."""
    known = facts()
    relation = rng.choice([*wordings("training"), "", "", ""])
    chosen = [fact for fact in known if fact.relation == relation] if relation else list(known)
    chosen = rng.sample(chosen, min(len(chosen), rng.randint(4, 8)))
    lines = []
    for fact in chosen:
        for wording in rng.sample(wordings("training")[fact.relation], rng.randint(1, 2)):
            lines.append(fill_fact(fact, wording, rng))
    return lines


def fact_word(text: str, possessed: bool = False) -> Pick:
    """A fact's subject or answer, to be declined: a compound (Яңа ел) as its last word."""
    if possessed or is_possessed(text):
        return Pick(Lemma(text, "noun", "", "", marks={"possessed": ""}))
    known = [lemma for lemma in by_class("noun") if lemma.word == text.split()[-1]]
    marks: dict[str, str] = {mark: "" for mark in ("back", "front", "firm", "hard") if known and mark in known[0].marks}
    return Pick(Lemma(text, "noun", "", "", marks=marks))
