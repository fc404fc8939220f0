"""How likely a model finds given texts: the one function behind bits per byte, pairs, knowledge and choice."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from tokenizers import Tokenizer

from tatar_llm.errors import TatarLLMError
from tatar_llm.model import GPT, KVCache
from tatar_llm.tokenizer import encode_text

BATCH_TOKENS = 2048  # 64 MiB of logits at 8,192 ids
SHARED_FROM = 32
"""Tokens of a common beginning from which it is read once for all its endings."""


@torch.inference_mode()
def token_nats(model: GPT, sequences: Sequence[Sequence[int]]) -> list[np.ndarray]:
    """Negative log-likelihood in nats of every token but the first of each sequence, (len - 1,) each.

    Sequences are batched by length. One longer than the context is read in windows that move on by half a context, so
    that each token has at least half a context before it; every token counts once.

    Raises:
        TatarLLMError: ids beyond the vocabulary, or a model that answers NaN.
    """
    block = model.config.block_size
    highest = max((max(ids, default=0) for ids in sequences), default=0)
    if highest >= model.config.vocab_size:
        raise TatarLLMError("this tokenizer does not belong to this model: its ids go beyond the model's vocabulary")
    pieces: list[tuple[int, int, list[int], int]] = []  # sequence, place of its first score, ids, scores kept
    for number, ids in enumerate(sequences):
        pieces += [(number, *piece) for piece in _windows(list(ids), block)]
    found = [np.zeros(max(len(ids) - 1, 0)) for ids in sequences]
    was_training = model.training
    model.eval()
    try:
        for batch in _batches(pieces):
            nats = _batch_nats(model, [ids for _, _, ids, _ in batch])
            for (number, place, ids, kept), row in zip(batch, nats, strict=True):
                found[number][place : place + kept] = row[len(ids) - 1 - kept : len(ids) - 1]
    finally:
        model.train(was_training)
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


def _batches(pieces: list[tuple[int, int, list[int], int]]):
    """Pieces of like length together, so that little is padding."""
    batch: list[tuple[int, int, list[int], int]] = []
    for piece in sorted(pieces, key=lambda piece: (-len(piece[2]), piece[0], piece[1])):
        if batch and (len(batch) + 1) * len(batch[0][2]) > BATCH_TOKENS:
            yield batch
            batch = []
        batch.append(piece)
    if batch:
        yield batch


def _batch_nats(model: GPT, rows: list[list[int]]) -> np.ndarray:
    length = len(rows[0]) - 1
    ids = torch.zeros(len(rows), length + 1, dtype=torch.long)
    for number, row in enumerate(rows):
        ids[number, : len(row)] = torch.tensor(row)
    ids = ids.to(model.device)
    logits, _ = model(ids[:, :-1])
    return _picked(logits, ids[:, 1:])


def _picked(logits: torch.Tensor, targets: torch.Tensor) -> np.ndarray:
    """Nats of the targets (B, T) under logits (B, T, V)."""
    logits = logits.float()
    nats = (logits.logsumexp(dim=-1) - logits.gather(-1, targets[..., None])[..., 0]).cpu().numpy()
    if not np.isfinite(nats).all():
        raise TatarLLMError("the model answers NaN: its weights are damaged, train it again or take another --model")
    return nats


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
    totals = np.zeros(len(rows))
    alone = []
    for group in _same_beginning(rows, scored, block):
        if len(group) > 1:
            totals[group] = _shared(model, [rows[place] for place in group], [scored[place] for place in group])
        else:
            alone += group
    for place, nats in zip(alone, token_nats(model, [rows[place] for place in alone]), strict=True):
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


def _same_beginning(rows: list[list[int]], scored: list[int], block: int) -> list[list[int]]:
    """Neighbouring rows with the same long context together, the others alone."""
    groups: list[list[int]] = []
    for place, row in enumerate(rows):
        head = row[: len(row) - scored[place]]
        if groups and len(head) >= SHARED_FROM and len(row) <= block + 1:
            first = groups[-1][0]
            if rows[first][: len(rows[first]) - scored[first]] == head and len(rows[first]) <= block + 1:
                groups[-1].append(place)
                continue
        groups.append([place])
    return groups


@torch.inference_mode()
def _shared(model: GPT, rows: list[list[int]], scored: list[int]) -> np.ndarray:
    """Log-likelihoods of several endings after one beginning, which is read once."""
    was_training = model.training
    model.eval()
    head = rows[0][: len(rows[0]) - scored[0]]
    longest = max(scored)
    cache = KVCache(model.config, 1, model.config.block_size, model.device, model.embedding.weight.dtype)
    first, _ = model(torch.tensor([head], device=model.device), cache=cache)
    targets = torch.zeros(len(rows), longest, dtype=torch.long)
    for number, row in enumerate(rows):
        targets[number, : scored[number]] = torch.tensor(row[len(head) :])
    targets = targets.to(model.device)
    logits = first[:, -1:].expand(len(rows), 1, -1)
    if longest > 1:
        cache.keys = cache.keys.repeat(1, len(rows), 1, 1, 1)
        cache.values = cache.values.repeat(1, len(rows), 1, 1, 1)
        rest, _ = model(targets[:, :-1], cache=cache)
        logits = torch.cat((logits, rest), dim=1)
    model.train(was_training)
    nats = _picked(logits, targets)
    return np.array([-nats[number, :count].sum() for number, count in enumerate(scored)])


def encode(tokenizer: Tokenizer, tok_config: dict[str, Any], text: str) -> list[int]:
    """<bos> and the ids of a text."""
    return [tok_config["bos_token_id"], *encode_text(tokenizer, text)]
