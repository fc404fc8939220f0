"""Windows of tokens in an order that is a pure function of seed and epoch.

Every epoch shuffles the documents, joins them into one ring, starts it at a random phase, cuts it into windows and
shuffles those. Every token is predicted once an epoch, never at the same place of a window twice, and a long book
never fills a whole batch.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from tatar_llm.errors import TatarLLMError
from tatar_llm.tokenizer import TokenFile


class WindowSource(Protocol):
    """Where a trainer gets its windows from: a pure function of a small state."""

    block_size: int
    epoch: int

    def next(self, count: int) -> tuple[Tensor, Tensor]:
        """The next `count` windows: inputs and targets (negative: not scored), int64 (count, block_size) each."""

    def state(self) -> dict[str, int]:
        """Where the next batch starts."""

    def restore(self, state: dict[str, int]) -> None:
        """Continue from a state."""


class Batches:
    """Endless batches over a token file; the whole state is two integers."""

    def __init__(self, tokens: TokenFile, block_size: int, seed: int) -> None:
        total = int(tokens.document_tokens.sum())
        if total < block_size + 1:
            raise TatarLLMError(
                f"the training text has {total} tokens, fewer than one window of {block_size} + 1: "
                f"take more text or a smaller --block_size"
            )
        self.ids, self.lengths = tokens.ids, tokens.document_tokens
        self.starts = np.concatenate(([0], np.cumsum(self.lengths)))[:-1]
        self.block_size, self.seed, self.total = block_size, seed, total
        self.windows = -(-total // block_size)  # the last one wraps round to the ring's start
        self.epoch, self.position = 0, 0
        self._lay_out()

    def state(self) -> dict[str, int]:
        """Where the next batch starts."""
        return {"epoch": self.epoch, "position": self.position}

    def restore(self, state: dict[str, int]) -> None:
        """Continue from a state."""
        self.epoch, self.position = state["epoch"], state["position"]
        self._lay_out()

    def next(self, count: int) -> tuple[Tensor, Tensor]:
        """The next `count` windows: inputs and the tokens that follow them, int64 (count, block_size) each."""
        rows = []
        for _ in range(count):
            if self.position == self.windows:
                self.epoch, self.position = self.epoch + 1, 0
                self._lay_out()
            rows.append(self._window(int(self.order[self.position])))
            self.position += 1
        block = torch.from_numpy(np.stack(rows).astype(np.int64))
        return block[:, :-1].contiguous(), block[:, 1:].contiguous()

    def _lay_out(self) -> None:
        random = np.random.Generator(np.random.PCG64([self.seed, self.epoch]))
        self.documents = random.permutation(len(self.lengths))
        self.ends = np.cumsum(self.lengths[self.documents])  # of each document, on the ring
        self.phase = int(random.integers(self.total))
        self.order = random.permutation(self.windows)

    def _window(self, number: int) -> np.ndarray:
        place = (self.phase + number * self.block_size) % self.total
        document = int(np.searchsorted(self.ends, place, side="right"))
        parts, need = [], self.block_size + 1
        while need:
            source = self.documents[document]
            offset = place - int(self.ends[document] - self.lengths[source])
            begin = self.starts[source] + offset
            piece = self.ids[begin : min(begin + need, self.starts[source] + self.lengths[source])]
            parts.append(piece)
            need -= len(piece)
            document = (document + 1) % len(self.documents)
            place = 0 if document == 0 else int(self.ends[document - 1])
        return np.concatenate(parts)
