"""A measure with what belongs beside it: how many items, a 95 % interval, what chance would give."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

ROUNDS = 1000


@dataclass(frozen=True)
class Measure:
    """One number about a model.

    `outcomes` are the items' own values, in the order of the items: the same for every model, so that two models can be
    compared item by item.
    """

    name: str
    title: str
    value: float
    n: int
    """Items measured."""
    interval: tuple[float, float] | None
    """95 % bootstrap interval."""
    chance: float | None = None
    """What guessing gives."""
    unit: str = "share"
    """"share", "bits per byte", "score", ..."""
    higher_is_better: bool = True
    parts: dict[str, float] = field(default_factory=dict)
    """The same number for parts of the items, by name."""
    details: dict[str, Any] = field(default_factory=dict)
    outcomes: tuple[float, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """For report.json."""
        return {key: list(value) if isinstance(value, tuple) else value for key, value in self.__dict__.items()}


def bootstrap(values: Sequence[float] | np.ndarray, clusters: Sequence[Any] | None = None) -> tuple[float, float] | None:
    """95 % interval of the mean, drawing items (or whole clusters of them) with replacement (Efron 1979)."""
    values = np.asarray(values, dtype=float)
    sizes: np.ndarray
    if clusters is not None:
        _, where = np.unique(np.asarray(clusters), return_inverse=True)
        sums, sizes = np.bincount(where, weights=values), np.bincount(where)
    else:
        sums, sizes = values, np.ones(len(values))
    if len(sums) < 2:
        return None
    draws = np.random.Generator(np.random.PCG64(0)).integers(len(sums), size=(ROUNDS, len(sums)))
    means = sums[draws].sum(axis=1) / sizes[draws].sum(axis=1)
    low, high = np.quantile(means, [0.025, 0.975])
    return float(low), float(high)


def share(
    name: str, title: str, right: Sequence[float] | np.ndarray, *, chance: float | None = None,
    kinds: Sequence[str] | None = None, clusters: Sequence[Any] | None = None, **rest: Any,
) -> Measure:
    """The mean of outcomes between 0 and 1; by kind too, where `kinds` names each item's."""
    right = np.asarray(right, dtype=float)
    if not len(right):
        raise ValueError(f"{name}: nothing was measured")
    parts = {}
    if kinds is not None:
        names = np.asarray(kinds)
        parts = {str(kind): float(right[names == kind].mean()) for kind in dict.fromkeys(names.tolist())}
    return Measure(
        name, title, float(right.mean()), len(right), bootstrap(right, clusters), chance, parts=parts,
        outcomes=tuple(right.tolist()), **rest,
    )  # fmt: skip


def difference(first: Sequence[float], second: Sequence[float]) -> tuple[float, float, float] | None:
    """Mean difference of two models' outcomes on the same items and its 95 % interval (paired bootstrap)."""
    if len(first) != len(second) or len(first) < 2:
        return None
    gaps = np.asarray(first, float) - np.asarray(second, float)
    low, high = bootstrap(gaps) or (0.0, 0.0)
    return float(gaps.mean()), low, high
