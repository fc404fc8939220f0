"""Exact and near repeats, found over the whole corpus from a few bytes a line.

Exact: equal letters and digits, whatever the case and the marks. Near: the sets of runs of 5 characters have a Jaccard
similarity of at least a threshold. MinHash signatures (Broder 1997; made by rensa) are cut into bands and the bands
hashed (locality-sensitive hashing: Leskovec, Rajaraman, Ullman, Mining of Massive Datasets, section 3.4); lines that
agree in a band are compared themselves, so that nothing is dropped on a guess.

The first of several equal texts stays. All of it depends on the order of the text alone.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import xxhash

SHINGLE = 5
"""Characters in a run. Words would be coarser: one changed ending in a sentence of ten is a fifth of its words."""
PERMUTATIONS = 60
SEED = 1
NEAR_CHARS = 60
"""Sentences of a list are compared from this length on: in a shorter one a single changed letter is below any threshold."""
NEAR_PARAGRAPH = 100
"""Paragraphs inside documents, from this length on: greetings, refrains and headings may recur."""
EXACT_PARAGRAPH = 60
"""Characters. Shorter lines inside documents may repeat: "Yes.", a chorus, a heading."""
LEADERS = 8
"""A line is compared with at most so many earlier ones of its band: a template filled in 100,000 times must not take hours."""
MOST_COMPARED = 200_000
"""Pairs found to differ that are remembered, so as not to compare them again in the next band."""
LONG = 10_000
"""Characters from which a text's runs are compared by their hashes."""
SURE = 0.95
_LETTERS = re.compile(r"[^\W_]+")


def normal_form(text: str) -> str:
    """Letters and digits only, without case: what must be equal in an exact repeat."""
    return "".join(_LETTERS.findall(text.casefold()))


def exact_keys(texts: Sequence[str]) -> np.ndarray:
    """64-bit hashes of the normal forms, uint64 (n,): with 10 M lines the chance of one wrong hit is 3 in a million."""
    digest = xxhash.xxh3_64_intdigest
    return np.fromiter((digest(normal_form(text).encode()) for text in texts), np.uint64, len(texts))


def joined_keys(keys: np.ndarray, sizes: Sequence[int]) -> np.ndarray:
    """The key of each document from those of its lines: keys uint64 (n,), lines a document -> uint64 (m,)."""
    found = np.zeros(len(sizes), np.uint64)
    start = 0
    for place, size in enumerate(sizes):
        found[place] = xxhash.xxh3_64_intdigest(keys[start : start + size].tobytes())
        start += size
    return found


def band_shape(threshold: float) -> tuple[int, int]:
    """(bands, rows) of a signature: the longest bands that still find a pair at the threshold with probability 0.95."""
    for rows in (15, 12, 10, 6, 5, 4, 3, 2):
        bands = PERMUTATIONS // rows
        if 1 - (1 - threshold**rows) ** bands >= SURE:
            return bands, rows
    return PERMUTATIONS, 1


def band_keys(texts: Sequence[str], threshold: float) -> np.ndarray:
    """For each text the hash of each band of its signature: uint64 (n, bands). Texts must have SHINGLE characters or more."""
    bands, rows = band_shape(threshold)
    if not texts:
        return np.zeros((0, bands), np.uint64)
    from rensa import RMinHash

    hashes, counts = _shingle_hashes(texts)
    offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.uint64)
    matrix = RMinHash.digest_matrix_from_flat_token_hashes(hashes, offsets, PERMUTATIONS, SEED)
    signature = np.array(matrix.to_rows(), np.uint32)[:, : bands * rows].reshape(len(texts), bands, rows)
    keys = np.zeros((len(texts), bands), np.uint64)
    for row in range(rows):
        keys = (keys ^ signature[:, :, row]) * np.uint64(0x9E3779B97F4A7C15)
        keys ^= keys >> np.uint64(31)
    return keys


def _shingle_hashes(texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """The hashes of all runs of SHINGLE characters, text after text, and how many each text has."""
    lowered = [text.casefold() for text in texts]
    lengths = np.fromiter(map(len, lowered), np.int64, len(lowered))
    codes = np.frombuffer("".join(lowered).encode("utf-32-le", "surrogatepass"), np.uint32).astype(np.uint64)
    size = len(codes) - SHINGLE + 1
    hashes = np.zeros(size, np.uint64)
    for place, factor in enumerate(_FACTORS):
        hashes += codes[place : place + size] * factor
    hashes ^= hashes >> np.uint64(29)
    hashes *= np.uint64(0xBF58476D1CE4E5B9)
    hashes ^= hashes >> np.uint64(32)
    inside = np.ones(size, bool)  # a run must not reach from one text into the next
    ends = np.cumsum(lengths)
    for place in range(1, SHINGLE):
        over = ends - place
        inside[over[(over >= 0) & (over < size)]] = False
    return hashes[inside], np.maximum(lengths - SHINGLE + 1, 0)


_FACTORS = tuple(np.uint64(factor) for factor in (
    0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9, 0x27D4EB2F165667C5, 0x85EBCA77C2B2AE63))  # fmt: skip


def similarity(one: str, other: str) -> float:
    """Jaccard similarity of the sets of runs of SHINGLE characters."""
    return _jaccard(_shingles(one), _shingles(other))


def _shingles(text: str) -> set[str] | np.ndarray:
    """The runs of a text; of a long one their hashes, which take less room."""
    if len(text) > LONG:
        return np.unique(_shingle_hashes([text])[0])
    text = text.casefold()
    return set(map("".join, zip(*(text[place:] for place in range(SHINGLE)), strict=False)))


def _jaccard(one: set[str] | np.ndarray, other: set[str] | np.ndarray) -> float:
    if isinstance(one, set) and isinstance(other, set):
        both = len(one & other)
    elif isinstance(one, np.ndarray) and isinstance(other, np.ndarray):
        both = len(np.intersect1d(one, other, assume_unique=True))
    else:
        return 0.0  # a long and a short text
    return both / max(1, len(one) + len(other) - both)


def later_repeats(keys: np.ndarray, alive: np.ndarray) -> np.ndarray:
    """Places (ascending) whose key stands already at an earlier place that is alive. keys: uint64 (n,), alive: bool (n,)."""
    places = np.flatnonzero(alive)
    if not len(places):
        return places
    values = keys[places]
    order = np.argsort(values, kind="stable")
    values = values[order]
    again = np.flatnonzero(values[1:] == values[:-1]) + 1
    return np.sort(places[order[again]])


def near_repeats(
    bands: Sequence[Callable[[], np.ndarray]], text: Callable[[int], str], alive: np.ndarray, threshold: float
) -> list[tuple[int, int]]:
    """(place, the earlier place that it repeats) of each text to drop; `alive` (bool, n) is updated.

    bands: for each band a function that loads its keys, uint64 (n,): one at a time is in memory. text: place -> the text.
    """
    found: list[tuple[int, int]] = []
    compared: set[tuple[int, int]] = set()
    for load in bands:
        for group in _groups(load(), alive):
            leaders: dict[int, set[str] | np.ndarray] = {}
            for place in group:
                if not alive[place]:
                    continue
                runs = _shingles(text(place))
                for leader, others in leaders.items():
                    if len(runs) < threshold * len(others) or len(others) < threshold * len(runs):
                        continue  # sets of such different sizes cannot be so similar
                    if (leader, place) in compared:
                        continue
                    if _jaccard(others, runs) >= threshold:
                        alive[place] = False
                        found.append((place, leader))
                        break
                    if len(compared) < MOST_COMPARED:
                        compared.add((leader, place))
                else:
                    if len(leaders) < LEADERS:
                        leaders[place] = runs
    return found


def _groups(keys: np.ndarray, alive: np.ndarray) -> Iterator[list[int]]:
    """Lists of two or more places with one key, ascending within, in the order of their first places."""
    places = np.flatnonzero(alive)
    values = keys[places]
    order = np.argsort(values, kind="stable")
    values = values[order]
    same = np.concatenate([[False], values[1:] == values[:-1], [False]])
    starts = np.flatnonzero(~same[:-1] & same[1:])
    ends = np.flatnonzero(same[:-1] & ~same[1:]) + 1
    del values, same
    for group in np.argsort(order[starts], kind="stable").tolist():
        yield places[order[starts[group] : ends[group]]].tolist()
