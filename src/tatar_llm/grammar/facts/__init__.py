"""Facts that the generated texts teach, each under several wordings; other wordings are kept for the evaluation."""

from __future__ import annotations

import functools
import tomllib
from dataclasses import dataclass
from importlib import resources


@dataclass(frozen=True)
class Fact:
    """``relation(subject) = answer``: the capital of Татарстан is Казан."""

    relation: str
    subject: str
    answer: str


@functools.cache
def facts() -> tuple[Fact, ...]:
    """All facts, by relation."""
    return tuple(
        Fact(relation, subject, answer)
        for relation, rows in _read("facts").items()
        if relation != "possessed"
        for subject, answer in rows.items()
    )


@functools.cache
def is_possessed(words: str) -> bool:
    """Whether the words are a compound with a possessive ending (Каспий диңгезе)."""
    return words in _read("facts")["possessed"]


@functools.cache
def wordings(kind: str) -> dict[str, tuple[str, ...]]:
    """Relation -> its wordings for "training" or "evaluation"."""
    return {relation: tuple(found) for relation, found in _read(kind).items()}


@functools.cache
def _read(name: str) -> dict:
    return tomllib.loads(resources.files("tatar_llm.grammar.facts").joinpath(f"{name}.toml").read_text(encoding="utf-8"))
