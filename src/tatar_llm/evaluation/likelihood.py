"""How likely a model finds given texts: the one function behind bits per byte, pairs, knowledge and choice."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from tokenizers import Tokenizer

from tatar_llm.errors import TatarLLMError
from tatar_llm.evaluation.tree import tail_nats
from tatar_llm.model import GPT
from tatar_llm.tokenizer import encode_text


def token_nats(model: GPT, sequences: Sequence[Sequence[int]]) -> list[np.ndarray]:
    """Negative log-likelihood in nats of every token but the first of each sequence, (len - 1,) each.

    A sequence longer than the context is read in windows that move on by half a context, so that each token has at least
    half a context before it; every token counts once.

    Raises:
        TatarLLMError: ids beyond the vocabulary, or a model that answers NaN.
    """
    block = model.config.block_size
    pieces: list[tuple[int, int, list[int], int]] = []  # sequence, place of its first score, ids, scores kept
    for number, ids in enumerate(sequences):
        pieces += [(number, *piece) for piece in _windows(list(ids), block)]
    found = [np.zeros(max(len(ids) - 1, 0)) for ids in sequences]
    nats = tail_nats(model, [ids for _, _, ids, _ in pieces], [kept for _, _, _, kept in pieces])
    for (number, place, _, kept), row in zip(pieces, nats, strict=True):
        found[number][place : place + kept] = row
    return found


def _windows(ids: list[int], block: int) -> list[tuple[int, list[int], int]]:
    """(place of the first score, ids of the window, scores kept) so that each token after the first is scored once."""
    if len(ids) < 2:
        return []
    pieces = [(0, ids[: block + 1], min(len(ids), block + 1) - 1)]
    end, step = block + 1, max(1, block // 2)
    while end < len(ids):
        kept = min(step, len(ids) - end)
        stop = end + kept
        pieces.append((end - 1, ids[max(0, stop - block - 1) : stop], kept))
        end = stop
    return pieces


def log_likelihoods(
    model: GPT, tokenizer: Tokenizer, tok_config: dict[str, Any], items: Sequence[tuple[str, str]]
) -> np.ndarray:
    """Log-likelihood in nats of each continuation after its context, (n,): ``log P(continuation | <bos> context)``.

    Tokens are those of context + continuation together; those that begin before the continuation belong to the context.
    Where the context is too long, its beginning is left out.
    """
    block, bos = model.config.block_size, tok_config["bos_token_id"]
    rows: list[list[int]] = []
    scored: list[int] = []
    for context, continuation in items:
        ids, split = split_tokens(tokenizer, context, continuation)
        count = max(len(ids) - split, 1)  # a token may reach over the border: then it is scored
        if not continuation:
            raise TatarLLMError(f"an item without a continuation: {context!r}")
        ids = [bos, *ids]
        if len(ids) > block + 1 and count < block:
            ids = [bos, *ids[-block:]]
        rows.append(ids)
        scored.append(count)
    short = [place for place, ids in enumerate(rows) if len(ids) <= block + 1]
    totals = np.zeros(len(rows))
    for place, nats in zip(short, tail_nats(model, [rows[i] for i in short], [scored[i] for i in short]), strict=True):
        totals[place] = -nats.sum()
    long = [place for place, ids in enumerate(rows) if len(ids) > block + 1]  # continuations longer than the context
    for place, nats in zip(long, token_nats(model, [rows[i] for i in long]), strict=True):
        totals[place] = -nats[len(nats) - scored[place] :].sum()
    return totals


def likeliest(
    model: GPT, tokenizer: Tokenizer, tok_config: dict[str, Any], items: Sequence[tuple[str, str]], shape: Sequence[int]
) -> list[int]:
    """Of each group of `shape` items the place of the one with the highest log-likelihood per byte."""
    likely = log_likelihoods(model, tokenizer, tok_config, items)
    likely /= np.array([len(text.encode()) for _, text in items])
    ends = np.cumsum(shape)
    return [int(np.argmax(likely[end - count : end])) for end, count in zip(ends, shape, strict=True)]


def split_tokens(tokenizer: Tokenizer, context: str, continuation: str) -> tuple[list[int], int]:
    """Ids of both together, and how many of them belong to the context."""
    text = (context + continuation).encode("utf-8", "replace").decode("utf-8")
    encoding = tokenizer.encode(text, add_special_tokens=False)
    split = sum(1 for start, _ in encoding.offsets if start < len(context))
    stripped = context.rstrip(" ")
    if len(stripped) < len(context):  # the space belongs to the word that follows
        split = sum(1 for start, _ in encoding.offsets if start < len(stripped))
    return encoding.ids, split


def encode(tokenizer: Tokenizer, tok_config: dict[str, Any], text: str) -> list[int]:
    """<bos> and the ids of a text."""
    return [tok_config["bos_token_id"], *encode_text(tokenizer, text)]
