"""The FLORES protocol of Goldfish (Chang et al. 2024, arXiv 2408.10441): bits of the second half of each sentence."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import Tokenizer

from tatar_llm.errors import TatarLLMError
from tatar_llm.evaluation.likelihood import token_nats
from tatar_llm.evaluation.statistics import Measure, bootstrap
from tatar_llm.model import GPT
from tatar_llm.tokenizer import encode_text

LONGEST = 512
PUBLISHED = {
    "Goldfish 1000mb (125 M)": 76.67, "MaLA-500 (10 B)": 88.82, "Goldfish 100mb (125 M)": 89.36, "bigram": 107.20,
    "Goldfish 10mb (39 M)": 116.40, "Goldfish 5mb (39 M)": 122.96, "unigram": 146.56, "BLOOM-7.1B": 192.83, "XGLM-7.5B": 227.31,
}  # fmt: skip
"""Bits on FLORES-200 for Tatar: Goldfish's own table."""
FLORES_LINES = (997, 1012)
"""Lines of the dev and devtest parts of FLORES-200: with another number it is another text."""


def read_lines(path: Path) -> list[str]:
    """The stripped lines of a UTF-8 file that hold text; raises TatarLLMError when there are none."""
    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines()]
    except FileNotFoundError as error:
        raise TatarLLMError(f"--file {path} does not exist") from error
    except UnicodeDecodeError as error:
        raise TatarLLMError(f"{path} is not UTF-8 (byte {error.start}): convert it to UTF-8 first") from error
    lines = [line for line in lines if line]
    if not lines:
        raise TatarLLMError(f"{path} is empty: there is nothing to measure on")
    return lines


def goldfish(model: GPT, tokenizer: Tokenizer, tok_config: dict[str, Any], lines: list[str]) -> Measure:
    """Mean over the lines of the bits of their second half, given their first.

    For each line: its ids with <bos> in front, cut to 512; the losses in bits; the first k are zero, k being the number
    of tokens of the line's first half (of its characters) by itself; a label <unk> costs log2 of the vocabulary's size;
    no end of text is scored. A model whose context is shorter than the line reads it in a sliding window.
    """
    bos, unk = tok_config["bos_token_id"], tok_config.get("unk_token_id")
    rows = [[bos, *encode_text(tokenizer, line)][:LONGEST] for line in lines]
    skipped = [len(encode_text(tokenizer, line[: len(line) // 2])) for line in lines]
    scores = []
    for ids, nats, first in zip(rows, token_nats(model, rows), skipped, strict=True):
        bits = nats / math.log(2)
        if unk is not None:
            bits = np.where(np.array(ids[1:]) == unk, math.log2(model.config.vocab_size), bits)
        scores.append(float(bits[first:].sum()))
    return Measure(
        "goldfish", "bits of the second half of a sentence (Goldfish's protocol)", float(np.mean(scores)), len(scores),
        bootstrap(scores), unit="bits", higher_is_better=False, outcomes=tuple(scores),
        details={"published": PUBLISHED} if len(lines) in FLORES_LINES else {},
    )  # fmt: skip
