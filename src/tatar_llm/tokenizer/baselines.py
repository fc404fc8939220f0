"""What a model without any understanding reaches on the same tokens: is my loss normal?"""

from __future__ import annotations

import numpy as np


def ngram_baselines(
    train: np.ndarray, val: np.ndarray, val_bytes: int, vocab_size: int, bos: int
) -> dict[str, float]:
    """Bits per byte of a unigram and of an interpolated Kneser-Ney bigram, trained on `train`, measured on `val`.

    Args:
        train, val: flat token ids; each document starts with `bos`, which is never predicted.
        val_bytes: UTF-8 bytes of the text behind `val`.
        vocab_size: number of ids.
        bos: id that starts a document.

    Kneser & Ney 1995, interpolated with one absolute discount as in Chen & Goodman 1999.
    """
    scored = val[1:][val[1:] != bos]
    unigram = np.bincount(train[train != bos], minlength=vocab_size) + 1.0  # add one: no id is impossible
    unigram_nats = -np.log(unigram[scored] / unigram.sum()).sum()
    bigram_nats = _kneser_ney_bigram(train, val, vocab_size, bos)
    per_byte = np.log(2) * val_bytes
    return {"unigram": float(unigram_nats / per_byte), "bigram": float(bigram_nats / per_byte)}


def _kneser_ney_bigram(train: np.ndarray, val: np.ndarray, vocab_size: int, bos: int) -> float:
    pairs, counts = np.unique(_pairs(train, vocab_size, bos), return_counts=True)
    once, twice = (counts == 1).sum(), (counts == 2).sum()
    discount = once / (once + 2 * twice) if once else 0.5
    first, second = pairs // vocab_size, pairs % vocab_size
    seen_after = np.bincount(first, weights=counts, minlength=vocab_size)  # how often a token was followed at all
    kinds_after = np.bincount(first, minlength=vocab_size)  # by how many different tokens
    kinds_before = np.bincount(second, minlength=vocab_size) + 1e-3  # a token never seen keeps a little
    continuation = kinds_before / kinds_before.sum()
    wanted = _pairs(val, vocab_size, bos)
    where = np.minimum(np.searchsorted(pairs, wanted), max(len(pairs) - 1, 0))
    count = np.where(pairs[where] == wanted, counts[where], 0)
    before, after = wanted // vocab_size, wanted % vocab_size
    total = np.maximum(seen_after[before], 1)
    share = np.where(seen_after[before] > 0, discount * kinds_after[before] / total, 1.0)
    probability = np.maximum(count - discount, 0) / total + share * continuation[after]
    return float(-np.log(probability).sum())


def _pairs(ids: np.ndarray, vocab_size: int, bos: int) -> np.ndarray:
    """Neighbouring tokens as one number each, without those that reach into the next document."""
    pairs = ids[:-1].astype(np.int64) * vocab_size + ids[1:]
    return pairs[ids[1:] != bos]
