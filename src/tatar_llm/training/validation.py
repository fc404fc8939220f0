"""Bits per byte on held-out text: the loss that people see, because it compares across tokenizers."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch

from tatar_llm.config import GPTConfig
from tatar_llm.model import GPT
from tatar_llm.tokenizer import TokenFile


@dataclass(frozen=True)
class HeldOut:
    """A fixed piece of held-out text as windows, each token scored once."""

    inputs: torch.Tensor
    """Token ids (windows, block_size)."""
    targets: torch.Tensor
    """The tokens that follow; -100 where nothing is scored (padding, <bos>)."""
    bytes: int
    """UTF-8 bytes of the text behind the scored tokens, line ends included."""
    tokens: int
    """Scored tokens."""
    share: float
    """How much of the held-out text this is, 0 to 1."""


def held_out(tokens: TokenFile, config: GPTConfig, bos: int, most_tokens: int = 0) -> HeldOut:
    """Cut whole documents of `tokens` into windows of the context length.

    `most_tokens` takes documents spread evenly over the file until that many tokens are reached (0 takes all). A
    document that alone is longer than what is wanted is cut at that length, and its bytes counted in proportion to
    its tokens.
    """
    chosen = np.arange(len(tokens.document_tokens))
    total = int(tokens.document_tokens.sum())
    wanted = total if not most_tokens else min(most_tokens, total)
    if wanted < total:
        chosen = np.random.Generator(np.random.PCG64(0)).permutation(chosen)
    starts = np.concatenate(([0], np.cumsum(tokens.document_tokens)))
    pieces, size, scored_bytes = [], 0, 0.0
    longest = max(config.block_size, wanted // min(8, len(chosen))) if wanted < total else total  # several documents, not one book
    for document in chosen:
        length = int(tokens.document_tokens[document])
        take = min(length, longest, max(wanted - size, 2))
        pieces.append(tokens.ids[starts[document] : starts[document] + take])
        scored_bytes += float(tokens.document_bytes[document]) * (take / length)
        size += take
        if size >= wanted:
            break
    stream = np.concatenate(pieces).astype(np.int64)
    width = config.block_size
    windows = -(-(len(stream) - 1) // width)
    padded = np.full(windows * width + 1, bos, dtype=np.int64)
    padded[: len(stream)] = stream
    inputs = torch.from_numpy(padded[:-1].reshape(windows, width).copy())
    targets = torch.from_numpy(padded[1:].reshape(windows, width).copy())
    targets[targets == bos] = -100  # a document's start is given, not predicted; padding is <bos> too
    return HeldOut(inputs, targets, round(scored_bytes), int((targets >= 0).sum()), size / total)


@dataclass(frozen=True)
class Score:
    """What a model lost on a piece of text."""

    nats: float
    """Sum over all scored tokens."""
    tokens: int
    bytes: int
    parts: tuple[tuple[float, int], ...] = ()
    """(nats, tokens) of each stretch of neighbouring windows, for intervals."""

    @property
    def bits_per_byte(self) -> float:
        return self.nats / (math.log(2) * self.bytes)

    @property
    def nats_per_token(self) -> float:
        return self.nats / self.tokens

    @property
    def perplexity(self) -> float:
        """exp(nats per token)."""
        return math.exp(min(self.nats_per_token, 700))


@torch.no_grad()
def score(model: GPT, piece: HeldOut, batch_size: int = 8, autocast: torch.dtype | None = None) -> Score:
    """Total loss of `model` on a held-out piece; the model's training mode is left as it was."""
    was_training = model.training
    model.eval()
    parts: list[tuple[float, int]] = []
    device = model.device
    for start in range(0, len(piece.inputs), batch_size):
        inputs = piece.inputs[start : start + batch_size].to(device)
        targets = piece.targets[start : start + batch_size].to(device)
        scored = int((piece.targets[start : start + batch_size] >= 0).sum())
        with torch.autocast(device.type, dtype=autocast, enabled=autocast is not None):
            _, loss = model(inputs, targets, return_logits=False)
        parts.append((float(loss) * scored, scored))
    model.train(was_training)
    return Score(sum(nats for nats, _ in parts), piece.tokens, piece.bytes, tuple(parts))


def bootstrap_interval(result: Score, rounds: int = 1000) -> list[float]:
    """95 % interval of the bits per byte, drawing stretches of the text with replacement (Efron 1979)."""
    if len(result.parts) < 2:
        return []
    nats, tokens = (np.array(column) for column in zip(*result.parts, strict=True))
    draws = np.random.Generator(np.random.PCG64(0)).integers(len(nats), size=(rounds, len(nats)))
    per_token = nats[draws].sum(axis=1) / tokens[draws].sum(axis=1)
    return [float(value * result.tokens / result.bytes / math.log(2)) for value in np.quantile(per_token, [0.025, 0.975])]
