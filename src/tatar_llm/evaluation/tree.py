"""Many texts scored in few passes: what several begin with alike is read once.

Texts become a tree of tokens. A pass reads whole trees as if they were sequences: a token's position is its depth, and it sees
its ancestors alone. Every sum is that of the text read by itself, in another order of rounding. (The mask is that of tree
attention, Miao et al. 2023, SpecInfer, there for guessing ahead.)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from tatar_llm.errors import TatarLLMError
from tatar_llm.model import GPT

PASS_TOKENS = 2048  # 64 MiB of logits at 8,192 ids


@dataclass
class Tree:
    """Token sequences, joined where they begin alike; nodes in an order in which parents come first."""

    tokens: list[int] = field(default_factory=list)
    parents: list[int] = field(default_factory=list)
    depths: list[int] = field(default_factory=list)
    children: dict[tuple[int, int], int] = field(default_factory=dict)
    edges: dict[tuple[int, int], int] = field(default_factory=dict)
    """(node, next token) that are scored, numbered."""
    members: list[tuple[int, list[int]]] = field(default_factory=list)
    """(number of a sequence, its scored edges in order)."""

    def missing(self, ids: Sequence[int]) -> int:
        """Nodes that a sequence would add; its last token needs none, for nothing follows it."""
        node, known = -1, 0
        for token in ids[:-1]:
            found = self.children.get((node, token))
            if found is None:
                break
            node, known = found, known + 1
        return len(ids) - 1 - known

    def add(self, number: int, ids: Sequence[int], scored: int) -> None:
        """Add a sequence whose last `scored` tokens count."""
        node, mine = -1, []
        for place, token in enumerate(ids):
            if place and place >= len(ids) - scored:
                mine.append(self.edges.setdefault((node, token), len(self.edges)))
            if place < len(ids) - 1:
                found = self.children.get((node, token))
                if found is None:
                    found = self.children[node, token] = len(self.tokens)
                    self.tokens.append(token)
                    self.parents.append(node)
                    self.depths.append(place)
                node = found
        self.members.append((number, mine))

    def ancestors(self) -> np.ndarray:
        """(nodes, nodes) True where a node sees another: itself and what leads to it."""
        seen = np.eye(len(self.tokens), dtype=bool)
        for node, parent in enumerate(self.parents):
            if parent >= 0:
                seen[node] |= seen[parent]
        return seen


class TreeCache:
    """Trees side by side, as the network's `Cache`: nothing lies inside yet, positions and sight are the trees'."""

    longest = 0

    def __init__(self, trees: Sequence[Tree], device: torch.device, window: int = 0) -> None:
        width = max(len(tree.tokens) for tree in trees)
        depths = np.zeros((len(trees), width), np.int64)
        sight = np.broadcast_to(np.eye(width, dtype=bool), (len(trees), 1, width, width)).copy()
        self.ids = np.zeros((len(trees), width), np.int64)
        for number, tree in enumerate(trees):
            size = len(tree.tokens)
            self.ids[number, :size], depths[number, :size] = tree.tokens, tree.depths
            sight[number, 0, :size, :size] = tree.ancestors()
        self.depths, self.sight, self.near = torch.from_numpy(depths).to(device), torch.from_numpy(sight).to(device), None
        if window:
            self.near = self.sight & (self.depths[:, None, :, None] - self.depths[:, None, None, :] < window)

    def angles(self, table: Tensor, count: int) -> Tensor:
        """(B, 1, T, D)."""
        return table[self.depths][:, None]

    def masks(self, count: int) -> tuple[Tensor, Tensor | None]:
        """(B, 1, T, T)."""
        return self.sight, self.near

    def extend(self, layer: int, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """Nothing was before."""
        return key, value

    def advance(self, count: int) -> None:
        """Nothing comes after."""


@torch.inference_mode()
def tail_nats(model: GPT, sequences: Sequence[Sequence[int]], scored: Sequence[int]) -> list[np.ndarray]:
    """Negative log-likelihood in nats of the last tokens of each sequence, (scored,) each.

    Args:
        sequences: token ids, 2 to block_size + 1 of each.
        scored: how many tokens at each end count; the first token of a sequence is never scored.

    Raises:
        TatarLLMError: ids beyond the vocabulary, or a model that answers NaN.
    """
    if max((max(ids, default=0) for ids in sequences), default=0) >= model.config.vocab_size:
        raise TatarLLMError("this tokenizer does not belong to this model: its ids go beyond the model's vocabulary")
    found: list[np.ndarray] = [np.zeros(0)] * len(sequences)
    was_training = model.training
    model.eval()
    try:
        trees = sorted(_trees(sequences, scored, model.config.block_size), key=lambda tree: -len(tree.tokens))
        while trees:
            count = max(1, PASS_TOKENS // len(trees[0].tokens))
            together, trees = trees[:count], trees[count:]
            for tree, nats in zip(together, _pass(model, together), strict=True):
                for number, edges in tree.members:
                    found[number] = nats[edges]
    finally:
        model.train(was_training)
    return found


def _trees(sequences: Sequence[Sequence[int]], scored: Sequence[int], most: int) -> list[Tree]:
    """Trees of at most `most` nodes; neighbours in alphabetical order share the most."""
    trees = [Tree()]
    for number in sorted(range(len(sequences)), key=lambda number: list(sequences[number])):
        if len(trees[-1].tokens) + trees[-1].missing(sequences[number]) > most:
            trees.append(Tree())
        trees[-1].add(number, sequences[number], scored[number])
    return [tree for tree in trees if tree.tokens]


def _pass(model: GPT, trees: Sequence[Tree]) -> list[np.ndarray]:
    """Nats of the scored edges of each tree."""
    cache = TreeCache(trees, model.device, model.config.sliding_window)
    width = cache.ids.shape[1]
    nodes = np.array([number * width + node for number, tree in enumerate(trees) for node, _ in tree.edges], np.int64)
    targets = np.array([token for tree in trees for _, token in tree.edges], np.int64)
    if not len(nodes):
        return [np.zeros(0) for _ in trees]
    places, row = np.unique(nodes, return_inverse=True)
    ids, at, row_of, targets_of = (torch.from_numpy(array).to(model.device) for array in (cache.ids, places, row, targets))
    logits, _ = model(ids, cache=cache, at=at)
    logits = logits.float()  # (places, V)
    nats = (logits.logsumexp(dim=-1)[row_of] - logits[row_of, targets_of]).cpu().numpy()
    if not np.isfinite(nats).all():
        raise TatarLLMError("the model answers NaN: its weights are damaged, train it again or take another --model")
    return np.split(nats, np.cumsum([len(tree.edges) for tree in trees])[:-1])
