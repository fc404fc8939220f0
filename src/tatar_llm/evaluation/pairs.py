"""Minimal pairs: how often a model finds the right sentence likelier than the one with a wrong form.

The method is BLiMP's (Warstadt et al. 2020): both sentences by their whole log-likelihood. What the pairs are and how
they were made: data/CARD.md.
"""

from __future__ import annotations

import json
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import Tokenizer

from tatar_llm.errors import TatarLLMError
from tatar_llm.evaluation.likelihood import encode, token_nats
from tatar_llm.evaluation.statistics import Measure, share
from tatar_llm.model import GPT


def read_pairs(path: Path | None = None) -> list[dict[str, str]]:
    """Pairs from a JSON-lines file with the keys good, bad and phenomenon (optional); None reads those of the package.

    Raises:
        TatarLLMError: the file is missing, empty, or a line is not such an object.
    """
    if path is None:
        text = resources.files("tatar_llm.evaluation").joinpath("data", "pairs.jsonl").read_text(encoding="utf-8")
        return [json.loads(line) for line in text.splitlines()]
    return [
        {"phenomenon": row.get("phenomenon", "all"), "good": row["good"], "bad": row["bad"]}
        for row in read_rows(path, ("good", "bad"))
    ]


def read_rows(path: Path, needed: tuple[str, ...]) -> list[dict[str, Any]]:
    """The objects of a JSON-lines file, each with the keys `needed`; raises TatarLLMError naming file and line."""
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except FileNotFoundError as error:
        raise TatarLLMError(f"{path} does not exist") from error
    except UnicodeDecodeError as error:
        raise TatarLLMError(f"{path} is not UTF-8 (byte {error.start}): convert it to UTF-8 first") from error
    rows = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            raise TatarLLMError(f"{path} line {number} is not JSON: every line must be one object") from error
        missing = [key for key in needed if not isinstance(row, dict) or key not in row]
        if missing:
            raise TatarLLMError(f"{path} line {number} lacks {', '.join(missing)}: each line needs {', '.join(needed)}")
        rows.append(row)
    if not rows:
        raise TatarLLMError(f"{path} is empty: there is nothing to measure on")
    return rows


def minimal_pairs(
    model: GPT, tokenizer: Tokenizer, tok_config: dict[str, Any], pairs: list[dict[str, str]] | None = None
) -> Measure:
    """Share of pairs whose right sentence is likelier; chance is one half, a tie counts half."""
    pairs = read_pairs() if pairs is None else pairs
    texts = [pair[side] for pair in pairs for side in ("good", "bad")]
    nats = [found.sum() for found in token_nats(model, [encode(tokenizer, tok_config, text) for text in texts])]
    good, bad = np.array(nats[::2]), np.array(nats[1::2])
    right = np.where(good < bad, 1.0, np.where(good == bad, 0.5, 0.0))
    return share("pairs", "minimal pairs of Tatar grammar", right, chance=0.5, kinds=[pair["phenomenon"] for pair in pairs])
