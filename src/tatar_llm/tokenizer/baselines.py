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
    """
    scored = val[1:][val[1:] != bos]
    unigram = np.bincount(train[train != bos], minlength=vocab_size) + 1.0  # add one: no id is impossible
    nats = {
        "unigram": -np.log(unigram[scored] / unigram.sum()).sum(),
        "bigram": KneserNey(train, 2, vocab_size, bos).nats(val).sum(),
    }
    return {name: float(total / (np.log(2) * val_bytes)) for name, total in nats.items()}


class KneserNey:
    """An interpolated Kneser-Ney n-gram over token ids.

    Kneser & Ney 1995, with one absolute discount for each order as in Chen & Goodman 1999. A token near the beginning of
    its document is predicted from what there is of it.

    Args:
        ids: flat token ids (n,); each document starts with `bos`.
        order: 2 for a bigram.
        vocab_size: number of ids.
        bos: id that starts a document, never predicted.
    """

    def __init__(self, ids: np.ndarray, order: int, vocab_size: int, bos: int) -> None:
        self.order, self.vocab_size, self.bos = order, vocab_size, bos
        self.levels: list[_Level] = []
        ids = np.asarray(ids, dtype=np.int64)
        targets, depth = self._targets(ids)
        contexts = np.zeros(len(targets), np.int64)  # the context's number among those of its length; the empty one is 0
        for length in range(1, order + 1):  # n-grams of this length: a context of length - 1 tokens, and the token
            grams, which, counts = np.unique(
                contexts * vocab_size + ids[targets], return_inverse=True, return_counts=True
            )
            if length < order:
                counts = self._kinds_before(ids, targets, depth, length, which, len(grams))
            level = _Level(grams, counts, vocab_size)
            self.levels.append(level)
            if length < order:
                longer = depth >= length
                targets, depth, contexts = targets[longer], depth[longer], contexts[longer]
                level.contexts, contexts = np.unique(contexts * vocab_size + ids[targets - length], return_inverse=True)

    def _targets(self, ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Places of the tokens to predict, and how many tokens of their document stand before each."""
        places = np.arange(len(ids))
        starts = np.maximum.accumulate(np.where(ids == self.bos, places, 0))
        targets = places[1:][ids[1:] != self.bos]
        return targets, (places - starts)[targets]

    def _kinds_before(
        self, ids: np.ndarray, targets: np.ndarray, depth: np.ndarray, length: int, which: np.ndarray, size: int
    ) -> np.ndarray:
        """How many different tokens stand before each n-gram; one that begins its document counts as often as it occurs."""
        inside = depth >= length
        pairs = np.unique(which[inside] * self.vocab_size + ids[targets[inside] - length])
        return np.bincount(pairs // self.vocab_size, minlength=size) + np.bincount(which[~inside], minlength=size)

    def nats(self, ids: np.ndarray) -> np.ndarray:
        """Negative log-likelihood of each token of `ids` but the first and `bos`, in order."""
        ids = np.asarray(ids, dtype=np.int64)
        targets, depth = self._targets(ids)
        contexts = np.zeros(len(targets), np.int64)
        probability = self.levels[0].unigram(ids[targets])
        for length in range(2, self.order + 1):
            keys = contexts * self.vocab_size + ids[np.maximum(targets - (length - 1), 0)]
            contexts = _places(self.levels[length - 2].contexts, np.where((contexts >= 0) & (depth >= length - 1), keys, -1))
            known = contexts >= 0
            probability[known] = self.levels[length - 1].interpolate(contexts[known], ids[targets[known]], probability[known])
        return -np.log(probability)


class _Level:
    """The n-grams of one length."""

    def __init__(self, grams: np.ndarray, counts: np.ndarray, vocab_size: int) -> None:
        self.grams, self.counts, self.vocab_size = grams, counts, vocab_size
        self.contexts = np.zeros(0, np.int64)
        """Keys of the contexts one token longer, sorted."""
        once, twice = (counts == 1).sum(), (counts == 2).sum()
        self.discount = once / (once + 2 * twice) if once else 0.5
        self.total = np.bincount(grams // vocab_size, weights=counts)
        self.kinds = np.bincount(grams // vocab_size)

    def unigram(self, tokens: np.ndarray) -> np.ndarray:
        """Probabilities where these are single tokens; one that was never seen keeps a little."""
        counts = np.full(self.vocab_size, 1e-3)
        counts[self.grams] += self.counts
        return (counts / counts.sum())[tokens]

    def interpolate(self, contexts: np.ndarray, tokens: np.ndarray, shorter: np.ndarray) -> np.ndarray:
        """Probabilities of the tokens after known contexts, given those after contexts one token shorter."""
        gram = _places(self.grams, contexts * self.vocab_size + tokens)
        count = np.where(gram >= 0, self.counts[np.maximum(gram, 0)], 0)
        share = self.discount * self.kinds[contexts] / self.total[contexts]
        return np.maximum(count - self.discount, 0) / self.total[contexts] + share * shorter


def _places(values: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Place of each wanted value in a sorted array, -1 where it is not there."""
    if not len(values):
        return np.full(len(wanted), -1, np.int64)
    found = np.minimum(np.searchsorted(values, wanted), len(values) - 1)
    return np.where(values[found] == wanted, found, -1)
