"""Keys and values of the tokens seen so far, so that generating a token costs one token's work.

Shapes: L layers, B sequences, K key-value heads, T tokens, D head_dim.
"""

from __future__ import annotations

import copy
from typing import Protocol

import torch
from torch import Tensor

from tatar_llm.config import GPTConfig


class Cache(Protocol):
    """What the network asks of a cache."""

    @property
    def longest(self) -> int:
        """Tokens of the longest sequence inside."""

    def angles(self, table: Tensor, count: int) -> Tensor:
        """The rows of a rotary table (block_size, D) for the next `count` tokens."""

    def mask(self, count: int) -> Tensor | None:
        """What each of the next `count` tokens may see of those inside and of one another; None: all, or simply causal."""

    def extend(self, layer: int, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """Store new keys and values (B, K, T, D) of a layer; return all so far (B, K, longest + T, D)."""

    def advance(self, count: int) -> None:
        """Count the new tokens as inside, once every layer has them."""


class KVCache:
    """Sequences of one length; room for `length` tokens of `batch` sequences is taken at once."""

    def __init__(self, config: GPTConfig, batch: int, length: int, device: torch.device, dtype: torch.dtype) -> None:
        shape = (config.n_layer, batch, config.n_kv_head, length, config.head_dim)
        self.keys = torch.zeros(shape, device=device, dtype=dtype)
        self.values = torch.zeros(shape, device=device, dtype=dtype)
        self.position = 0
        """Tokens inside."""

    @property
    def longest(self) -> int:
        """Tokens inside."""
        return self.position

    def angles(self, table: Tensor, count: int) -> Tensor:
        """(T, D)."""
        return table[self.position : self.position + count]

    def mask(self, count: int) -> Tensor | None:
        """(T, position + T): query i may see the past and keys up to itself."""
        if not self.position or count == 1:
            return None
        past = self.position
        return torch.ones(count, past + count, dtype=torch.bool, device=self.keys.device).tril(past)

    def extend(self, layer: int, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """Store new keys and values (B, K, T, D) of a layer; return all so far (B, K, position + T, D)."""
        end = self.position + key.size(2)
        self.keys[layer, :, :, self.position : end] = key
        self.values[layer, :, :, self.position : end] = value
        return self.keys[layer, :, :, :end], self.values[layer, :, :, :end]

    def advance(self, count: int) -> None:
        """`count` more tokens are inside."""
        self.position += count

    def rows(self, start: int, end: int) -> KVCache:
        """Some of the sequences, sharing this cache's memory; `position` is their own from here on."""
        part = copy.copy(self)
        part.keys, part.values = self.keys[:, start:end], self.values[:, start:end]
        return part


class RaggedCache:
    """Sequences of different lengths that get a token each at a time; row i of `store` holds `lengths[i]` tokens."""

    def __init__(self, store: KVCache, lengths: list[int]) -> None:
        self.store = store
        self.lengths = torch.tensor(lengths, device=store.keys.device)
        self.every = torch.arange(len(lengths), device=store.keys.device)
        self.longest = max(lengths)

    def angles(self, table: Tensor, count: int) -> Tensor:
        """(B, 1, 1, D): each sequence has its own place."""
        return table[self.lengths][:, None, None]

    def mask(self, count: int) -> Tensor:
        """(B, 1, 1, longest + 1): the tokens of each sequence, the new one among them."""
        seen = torch.arange(self.longest + 1, device=self.lengths.device) <= self.lengths[:, None]
        return seen[:, None, None]

    def extend(self, layer: int, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """Store a key and a value of each sequence (B, K, 1, D); return all so far (B, K, longest + 1, D)."""
        found = []
        for whole, new in ((self.store.keys, key), (self.store.values, value)):
            rows = whole[layer, : len(self.every)]
            rows[self.every, :, self.lengths] = new[:, :, 0]
            found.append(rows[:, :, : self.longest + 1])
        return found[0], found[1]

    def advance(self, count: int) -> None:
        """Each sequence has a token more."""
        self.lengths += count
        self.longest += count
