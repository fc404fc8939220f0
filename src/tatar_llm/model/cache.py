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

    def masks(self, count: int) -> tuple[Tensor | None, Tensor | None]:
        """What each of the next `count` tokens may see of what `extend` returns, in layers with full attention and in those with
        a window; None: all that a causal layer of this kind sees."""

    def extend(self, layer: int, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """Store new keys and values (B, K, T, D) of a layer; return all so far (B, K, longest + T, D), of a layer with a window
        those that a token may see: for one new token in any order, otherwise oldest first."""

    def advance(self, count: int) -> None:
        """Count the new tokens as inside, once every layer has them."""


class KVCache:
    """Sequences of one length; room for `length` tokens of `batch` sequences is taken at once.

    A layer with a window has room for as many tokens as it sees: token i lies at place i % window, where the one that has just
    left the window lay. With `whole` it keeps all tokens, so that `position` may be set back.
    """

    def __init__(
        self, config: GPTConfig, batch: int, length: int, device: torch.device, dtype: torch.dtype, *, whole: bool = False
    ) -> None:
        self.windows, self.window = config.windows, config.sliding_window
        rooms = [min(length, window) if window and not whole else length for window in self.windows]
        shapes = [(batch, config.n_kv_head, room, config.head_dim) for room in rooms]
        self.keys = [torch.zeros(shape, device=device, dtype=dtype) for shape in shapes]
        """Of each layer (B, K, room, D)."""
        self.values = [torch.zeros(shape, device=device, dtype=dtype) for shape in shapes]
        self.position = 0
        """Tokens inside."""

    @property
    def longest(self) -> int:
        """Tokens inside."""
        return self.position

    @property
    def batch(self) -> int:
        """Sequences that there is room for."""
        return self.keys[0].size(0)

    @property
    def bytes(self) -> int:
        """Memory taken."""
        return sum(part.numel() * part.element_size() for part in (*self.keys, *self.values))

    def angles(self, table: Tensor, count: int) -> Tensor:
        """(T, D)."""
        return table[self.position : self.position + count]

    def masks(self, count: int) -> tuple[Tensor | None, None]:
        """(T, position + T): query i may see the past and keys up to itself."""
        if not self.position or count == 1:
            return None, None
        past = self.position
        return torch.ones(count, past + count, dtype=torch.bool, device=self.keys[0].device).tril(past), None

    def extend(self, layer: int, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """Store new keys and values (B, K, T, D) of a layer; return all that the new tokens may see."""
        if self.windows[layer]:
            return self._slide(self.keys[layer], key), self._slide(self.values[layer], value)
        end = self.position + key.size(2)
        self.keys[layer][:, :, self.position : end] = key
        self.values[layer][:, :, self.position : end] = value
        return self.keys[layer][:, :, :end], self.values[layer][:, :, :end]

    def _slide(self, room: Tensor, new: Tensor) -> Tensor:
        """Put new tokens (B, K, T, D) in place of those that leave the window; return what the new ones may see."""
        past, count, size = self.position, new.size(2), room.size(2)
        if count == 1:
            room[:, :, past % size] = new[:, :, 0]
            return room[:, :, max(0, past + 1 - self.window) if size > self.window else 0 : past + 1]
        known = torch.arange(max(0, past - min(size, self.window)), past, device=new.device) % size
        seen = torch.cat((room[:, :, known], new), dim=2) if past else new
        kept = min(count, size)
        room[:, :, torch.arange(past + count - kept, past + count, device=new.device) % size] = new[:, :, count - kept :]
        return seen

    def advance(self, count: int) -> None:
        """`count` more tokens are inside."""
        self.position += count

    def rows(self, start: int, end: int) -> KVCache:
        """Some of the sequences, sharing this cache's memory; `position` is their own from here on."""
        part = copy.copy(self)
        part.keys, part.values = ([whole[start:end] for whole in parts] for parts in (self.keys, self.values))
        return part

    def copy_row(self, source: int, target: int, count: int) -> None:
        """The first `count` tokens of one sequence into another's place."""
        for whole in (*self.keys, *self.values):
            whole[target, :, :count] = whole[source, :, :count]

    def take_over(self, other: KVCache) -> None:
        """All sequences of a cache with no more room than this one."""
        for mine, its in zip((*self.keys, *self.values), (*other.keys, *other.values), strict=True):
            mine[: its.size(0)] = its


class RaggedCache:
    """Sequences of different lengths that get a token each at a time; row i of `store` holds `lengths[i]` tokens."""

    def __init__(self, store: KVCache, lengths: list[int]) -> None:
        self.store = store
        self.lengths = torch.tensor(lengths, device=store.keys[0].device)
        self.every = torch.arange(len(lengths), device=self.lengths.device)
        self.longest = max(lengths)

    def angles(self, table: Tensor, count: int) -> Tensor:
        """(B, 1, 1, D): each sequence has its own place."""
        return table[self.lengths][:, None, None]

    def masks(self, count: int) -> tuple[Tensor, Tensor]:
        """(B, 1, 1, longest + 1), with a window at most as wide as that: the tokens of each sequence, the new one among them."""
        seen = (torch.arange(self.longest + 1, device=self.lengths.device) <= self.lengths[:, None])[:, None, None]
        return seen, seen[..., : self.store.window or None]

    def extend(self, layer: int, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """Store a key and a value of each sequence (B, K, 1, D); return all so far (B, K, longest + 1, D)."""
        found = []
        for whole, new in ((self.store.keys[layer], key), (self.store.values[layer], value)):
            rows = whole[: len(self.every)]
            rows[self.every, :, self.lengths % rows.size(2)] = new[:, :, 0]
            found.append(rows[:, :, : self.longest + 1])
        return found[0], found[1]

    def advance(self, count: int) -> None:
        """Each sequence has a token more."""
        self.lengths += count
        self.longest += count
