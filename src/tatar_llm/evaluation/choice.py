"""Multiple choice: questions in TUMLU's format (Isbarov et al. 2025), and the topic of a sentence as in SIB-200."""

from __future__ import annotations

import csv
import random
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import Tokenizer

from tatar_llm.errors import TatarLLMError
from tatar_llm.evaluation.likelihood import likeliest, log_likelihoods
from tatar_llm.evaluation.pairs import read_rows
from tatar_llm.evaluation.statistics import Measure, share
from tatar_llm.model import GPT

SHOTS = 5
TOPICS = {
    "science/technology": "фән һәм техника", "travel": "сәяхәт", "politics": "сәясәт", "sports": "спорт",
    "health": "сәламәтлек", "entertainment": "күңел ачу", "geography": "география",
}  # fmt: skip
"""SIB-200's topics in Tatar."""


def read_choices(path: Path) -> list[dict[str, Any]]:
    """Questions from a JSON-lines file or every such file of a folder: question, choices, answer (A, B, ...), subject."""
    files = sorted(path.glob("*.jsonl")) if path.is_dir() else [path]
    if not files:
        raise TatarLLMError(f"the folder {path} holds no .jsonl file")
    rows = []
    for file in files:
        for number, row in enumerate(read_rows(file, ("question", "choices", "answer")), 1):
            place = "ABCDEFGHIJ".find(str(row["answer"]).strip().upper()[:1])
            if not isinstance(row["choices"], list) or not 0 <= place < len(row["choices"]) or len(row["choices"]) < 2:
                raise TatarLLMError(f"{file}, question {number}: the answer must be the letter of one of at least two choices")
            rows.append({"subject": file.stem, **row, "right": place})
    return rows


def multiple_choice(
    model: GPT, tokenizer: Tokenizer, tok_config: dict[str, Any], rows: list[dict[str, Any]], shots: int = SHOTS
) -> Measure:
    """Share of questions whose right choice is likeliest, by log-likelihood per byte.

    Before each question stand `shots` others of its subject with their answers, as many as fit into the context.
    """
    by_subject: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        by_subject.setdefault(row["subject"], []).append(row)
    items, shape = [], []
    for row in rows:
        others = [other for other in by_subject[row["subject"]] if other is not row]
        shown = random.Random(row["question"]).sample(others, min(shots, len(others)))
        context = _few_shot(tokenizer, model.config.block_size, shown, row)
        items += [(context, f" {choice}") for choice in row["choices"]]
        shape.append(len(row["choices"]))
    chosen = likeliest(model, tokenizer, tok_config, items, shape)
    right = [pick == row["right"] for pick, row in zip(chosen, rows, strict=True)]
    chance = float(np.mean([1 / len(row["choices"]) for row in rows]))
    return share("choice", "multiple choice", right, chance=chance, kinds=[row["subject"] for row in rows], details={"shots": shots})


def _few_shot(tokenizer: Tokenizer, block: int, shown: list[dict[str, Any]], row: dict[str, Any]) -> str:
    context = f"Сорау: {row['question']}\nҖавап:"
    longest = max(len(str(choice)) for choice in row["choices"])
    for other in shown:
        longer = f"Сорау: {other['question']}\nҖавап: {other['choices'][other['right']]}\n\n{context}"
        if len(tokenizer.encode(longer).ids) + longest > block:
            break
        context = longer
    return context


def read_topics(path: Path) -> list[dict[str, str]]:
    """SIB-200's table: index_id, category, text, separated by tabs."""
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            rows = list(csv.DictReader(file, delimiter="\t"))
    except FileNotFoundError as error:
        raise TatarLLMError(f"{path} does not exist") from error
    except UnicodeDecodeError as error:
        raise TatarLLMError(f"{path} is not UTF-8 (byte {error.start}): convert it to UTF-8 first") from error
    if not rows or not {"category", "text"} <= rows[0].keys():
        raise TatarLLMError(f"{path} lacks the columns category and text, or is empty: it must be SIB-200's table")
    return rows


def topics(model: GPT, tokenizer: Tokenizer, tok_config: dict[str, Any], rows: list[dict[str, str]]) -> Measure:
    """Share of sentences whose topic, named after them, is the likeliest beyond what its name is by itself."""
    names = sorted({row["category"] for row in rows})
    words = [TOPICS.get(name, name) for name in names]
    items = [(f"{row['text']} Тема:", f" {word}") for row in rows for word in words]
    likely = log_likelihoods(model, tokenizer, tok_config, items).reshape(len(rows), len(words))
    alone = log_likelihoods(model, tokenizer, tok_config, [("Тема:", f" {word}") for word in words])
    chosen = np.argmax(likely - alone, axis=1)
    right = [names[pick] == row["category"] for pick, row in zip(chosen, rows, strict=True)]
    return share("topics", "topic of a sentence (SIB-200)", right, chance=1 / len(names), kinds=[row["category"] for row in rows])
