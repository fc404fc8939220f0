"""Continuations of held-out prompts against the true ones: chrF++, BLEU, repetition, variety."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from tokenizers import Tokenizer

from tatar_llm.evaluation.copying import words
from tatar_llm.evaluation.statistics import Measure, bootstrap
from tatar_llm.generation import Settings, generate_batch
from tatar_llm.model import GPT

PROMPT_WORDS, TRUE_WORDS = 16, 24
NEW_TOKENS = 48


def held_out_prompts(text: str, count: int) -> list[tuple[str, str]]:
    """`count` openings of 16 words and the 24 words that follow, evenly spread over the text's paragraphs."""
    found = []
    for line in text.split("\n"):
        parts = line.split(" ")
        if len(parts) >= PROMPT_WORDS + TRUE_WORDS // 2:
            found.append((" ".join(parts[:PROMPT_WORDS]), " ".join(parts[PROMPT_WORDS : PROMPT_WORDS + TRUE_WORDS])))
    if not found:  # short lines, as in the sample: whole documents
        for document in text.split("\n\n"):
            parts = document.strip().replace("\n", " ").split(" ")
            for start in range(0, len(parts) - PROMPT_WORDS - TRUE_WORDS + 1, PROMPT_WORDS + TRUE_WORDS):
                middle = start + PROMPT_WORDS
                found.append((" ".join(parts[start:middle]), " ".join(parts[middle : middle + TRUE_WORDS])))
    places: list[int] = np.unique(np.linspace(0, len(found) - 1, min(count, len(found))).astype(int)).tolist() if found else []
    return [found[place] for place in places]


def continuations(
    model: GPT, tokenizer: Tokenizer, tok_config: dict[str, Any], prompts: Sequence[tuple[str, str]]
) -> tuple[list[Measure], list[dict[str, str]]]:
    """Measures of the continuations (seed 0, 1, ...: none selected), and the continuations themselves.

    chrF++ (Popović 2017) and BLEU are sacrebleu's; they are left out where it is not installed. ``repetition`` is the share
    of words that repeat a run of four words of the same text, ``distinct`` the share of different word pairs.
    """
    settings = [Settings(NEW_TOKENS, seed=number) for number in range(len(prompts))]
    found = generate_batch(model, tokenizer, tok_config, [prompt for prompt, _ in prompts], settings)
    made = [{"prompt": prompt, "true": true, "continuation": " ".join(texts[0].text.split(" ")[: TRUE_WORDS + 1]).strip()}
            for (prompt, true), texts in zip(prompts, found, strict=True)]  # fmt: skip
    texts = [row["continuation"] for row in made]
    measures = []
    try:
        import sacrebleu
    except ImportError:
        pass
    else:
        chrf, bleu = sacrebleu.CHRF(word_order=2), sacrebleu.BLEU(effective_order=True)
        for name, title, metric in (("chrf", "chrF++ against the true continuation", chrf), ("bleu", "BLEU against it", bleu)):
            scores = [metric.sentence_score(row["continuation"], [row["true"]]).score for row in made]
            measures.append(_mean(name, title, scores, "score"))
    measures.append(_mean("repetition", "words inside a repeated run of four", [repetition(text) for text in texts], "share", False))
    measures.append(_mean("distinct", "different word pairs", [distinct(text) for text in texts], "share"))
    return measures, made


def _mean(name: str, title: str, scores: list[float], unit: str, higher: bool = True) -> Measure:
    return Measure(name, title, float(np.mean(scores)), len(scores), bootstrap(scores), unit=unit, higher_is_better=higher,
                   outcomes=tuple(scores))  # fmt: skip


def repetition(text: str, run: int = 4) -> float:
    """Share of the words that belong to a run of `run` words standing in the text before."""
    found = words(text)
    seen: set[tuple[str, ...]] = set()
    inside = [False] * len(found)
    for start in range(len(found) - run + 1):
        gram = tuple(found[start : start + run])
        if gram in seen:
            inside[start : start + run] = [True] * run
        seen.add(gram)
    return sum(inside) / len(found) if found else 0.0


def distinct(text: str, size: int = 2) -> float:
    """Share of a text's word pairs that are different ones."""
    found = words(text)
    grams = [tuple(found[start : start + size]) for start in range(len(found) - size + 1)]
    return len(set(grams)) / len(grams) if grams else 0.0
