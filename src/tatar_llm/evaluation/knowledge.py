"""Knowledge under paraphrase: each fact asked in words that no training text used.

The answer is chosen among the answer and others of the same relation by log-likelihood. A model that has learnt a
sentence by heart knows the fact in one wording; one that has learnt the fact knows it in all.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import Tokenizer

from tatar_llm.errors import TatarLLMError
from tatar_llm.evaluation.likelihood import likeliest
from tatar_llm.evaluation.pairs import read_rows
from tatar_llm.evaluation.statistics import Measure, share
from tatar_llm.grammar.facts import facts, wordings
from tatar_llm.grammar.generate import fill_fact
from tatar_llm.model import GPT

CHOICES = 4


@dataclass(frozen=True)
class Question:
    """A fact with its wordings, each an opening that the answer follows."""

    name: str
    kind: str
    openings: tuple[str, ...]
    choices: tuple[str, ...]
    """The right answer first."""


def known_questions() -> list[Question]:
    """The package's facts in their evaluation wordings, each with three other answers of its relation."""
    answers: dict[str, list[str]] = {}
    for fact in facts():
        answers.setdefault(fact.relation, [])
        if fact.answer not in answers[fact.relation]:
            answers[fact.relation].append(fact.answer)
    made = []
    for fact in facts():
        others = [answer for answer in answers[fact.relation] if answer != fact.answer and answer != fact.subject]
        rng = random.Random(f"{fact.relation} {fact.subject}")
        others = rng.sample(others, min(CHOICES - 1, len(others)))
        openings = tuple(fill_fact(fact, wording, rng) for wording in wordings("evaluation")[fact.relation])
        made.append(Question(f"{fact.relation}: {fact.subject}", fact.relation, openings, (fact.answer, *others)))
    return made


def read_questions(path: Path) -> list[Question]:
    """The user's own: JSON lines with openings (a list of texts), answer, and wrong (a list of other answers)."""
    made = []
    for number, row in enumerate(read_rows(path, ("openings", "answer", "wrong")), 1):
        if not (isinstance(row["openings"], list) and row["openings"] and isinstance(row["wrong"], list) and row["wrong"]):
            raise TatarLLMError(f"{path}, fact {number}: openings and wrong must be lists that are not empty")
        choices = tuple(dict.fromkeys(map(str, (row["answer"], *row["wrong"]))))
        made.append(Question(row.get("name", f"fact {number}"), row.get("kind", "all"), tuple(map(str, row["openings"])), choices))
    return made


def knowledge(
    model: GPT, tokenizer: Tokenizer, tok_config: dict[str, Any], questions: list[Question] | None = None
) -> list[Measure]:
    """Share right, share of facts answered alike in most wordings, and a control with shuffled answers.

    Returns three measures: ``knowledge`` (over all wordings; the interval draws whole facts), ``consistency`` (how often
    two wordings of a fact get the same answer) and ``knowledge_shuffled`` (another choice declared right: chance).
    """
    questions = known_questions() if questions is None else questions
    items, shape = [], []
    for question in questions:
        for opening in question.openings:
            items += [(opening, _joined(opening, choice)) for choice in question.choices]
            shape.append(len(question.choices))
    chosen = likeliest(model, tokenizer, tok_config, items, shape)
    names = [question.name for question in questions for _ in question.openings]
    kinds = [question.kind for question in questions for _ in question.openings]
    chance = float(np.mean([1 / len(question.choices) for question in questions for _ in question.openings]))
    right = np.array([choice == 0 for choice in chosen], float)
    rng = random.Random(0)
    declared = [rng.randrange(len(question.choices)) for question in questions]  # one wrong or right answer a fact, by lot
    shuffled = np.array([chosen[place] == declared[number] for place, number in enumerate(_owners(questions))], float)
    same, place, alike_by_chance = [], 0, []
    for question in questions:
        mine = chosen[place : place + len(question.openings)]
        place += len(question.openings)
        pairs = [(a, b) for number, a in enumerate(mine) for b in mine[number + 1 :]]
        same.append(sum(a == b for a, b in pairs) / len(pairs) if pairs else 1.0)
        alike_by_chance.append(1 / len(question.choices))
    return [
        share("knowledge", "facts in wordings never seen", right, chance=chance, kinds=kinds, clusters=names,
              details={"facts": len(questions)}),
        share("consistency", "same answer whatever the wording", same, chance=float(np.mean(alike_by_chance))),
        share("knowledge_shuffled", "control: answers shuffled", shuffled, chance=chance, clusters=names),
    ]  # fmt: skip


def _owners(questions: list[Question]) -> list[int]:
    return [number for number, question in enumerate(questions) for _ in question.openings]


def _joined(opening: str, answer: str) -> str:
    """The answer with the space that it needs after this opening."""
    return answer if opening.endswith(("«", "(", " ", "\n")) else f" {answer}"
