"""Counts over the cleaned text: documents, lines, words, characters, letters, lengths of lines and words, word frequencies."""

from __future__ import annotations

from collections import Counter
from typing import Any

BATCH_CHARS = 1 << 20
LONGEST_WORD = 40
ZIPF_WORDS = 1_000_000
"""Words whose frequencies are counted, from the beginning of the text: enough for the curve, bounded in memory."""
ZIPF_RANKS = (1, 2, 3, 5, 10, 20, 30, 50, 100, 200, 300, 500, 1_000, 2_000, 3_000, 5_000, 10_000, 20_000, 30_000, 50_000, 100_000, 200_000)
LENGTHS = (20, 40, 80, 160, 320, 640, 1280)
"""Upper bounds, in characters, of the buckets of the line length distribution; the last bucket is open."""
_MARKS = ".,:;!?…()[]\"'«»“”„–—-"


class Statistics:
    """Gathers counts of one part of the corpus. Lines are counted in batches, with numpy."""

    def __init__(self) -> None:
        self.documents = self.lines = self.words = self.characters = 0
        self.counts: Counter[int] = Counter()
        self.lengths = [0] * (len(LENGTHS) + 1)
        self.word_lengths = [0] * (LONGEST_WORD + 1)
        self.vocabulary: Counter[str] = Counter()
        self.vocabulary_words = 0
        self._batch: list[str] = []
        self._batch_chars = 0

    def add(self, documents: list[list[str]]) -> None:
        """Count documents, each a list of lines."""
        self.documents += len(documents)
        for lines in documents:
            self._batch += lines
            self._batch_chars += sum(map(len, lines))
        if self._batch_chars > BATCH_CHARS:
            self.flush()

    def flush(self) -> None:
        """Count what is still waiting."""
        if not self._batch:
            return
        import numpy as np

        text = "\n".join(self._batch)
        codes = np.frombuffer(text.encode("utf-32-le"), dtype=np.uint32)
        found, times = np.unique(codes, return_counts=True) if codes.max() > 0xFFFF else _bmp_counts(codes)
        self.counts.update(dict(zip(found.tolist(), times.tolist(), strict=True)))
        lengths = np.fromiter(map(len, self._batch), dtype=np.int64, count=len(self._batch))
        buckets = np.bincount(np.searchsorted(LENGTHS, lengths, side="right"), minlength=len(LENGTHS) + 1)
        self.lengths = [old + int(new) for old, new in zip(self.lengths, buckets, strict=True)]
        self.lines += len(self._batch)
        words = text.split()
        self.words += len(words)
        sizes = np.bincount(np.minimum(np.fromiter(map(len, words), np.int64, len(words)), LONGEST_WORD), minlength=LONGEST_WORD + 1)
        self.word_lengths = [old + int(new) for old, new in zip(self.word_lengths, sizes, strict=True)]
        if self.vocabulary_words < ZIPF_WORDS:
            self.vocabulary.update(word.strip(_MARKS) for word in text.lower().split())
            self.vocabulary_words += len(words)
        self.characters += int(lengths.sum())
        self._batch = []
        self._batch_chars = 0

    def merge(self, other: Statistics) -> None:
        """Add another part's counts to this one's."""
        self.flush()
        other.flush()
        self.documents += other.documents
        self.lines += other.lines
        self.words += other.words
        self.characters += other.characters
        self.counts.update(other.counts)
        self.lengths = [mine + theirs for mine, theirs in zip(self.lengths, other.lengths, strict=True)]
        self.word_lengths = [mine + theirs for mine, theirs in zip(self.word_lengths, other.word_lengths, strict=True)]
        self.vocabulary.update(other.vocabulary)
        self.vocabulary_words += other.vocabulary_words

    def word_length_rows(self) -> list[int]:
        """Words of length 0, 1, 2 ... LONGEST_WORD and more, marks at their ends included."""
        self.flush()
        return self.word_lengths

    def zipf(self) -> dict[str, Any]:
        """Frequency of the words by rank, over the first words of the text: {"words", "distinct", "once", "ranks", "top"}."""
        self.flush()
        counts = Counter({word: times for word, times in self.vocabulary.items() if word})
        ranked = sorted(counts.values(), reverse=True)
        return {
            "words": sum(ranked), "distinct": len(ranked), "once": sum(times == 1 for times in ranked),
            "ranks": [[rank, ranked[rank - 1]] for rank in ZIPF_RANKS if rank <= len(ranked)],
            "top": counts.most_common(20),
        }  # fmt: skip

    def totals(self) -> dict[str, int]:
        """The counts that the manifest shows."""
        self.flush()
        return {"documents": self.documents, "lines": self.lines, "words": self.words, "characters": self.characters}

    def letters(self, top: int) -> list[tuple[str, int]]:
        """The most frequent letters, small and capital together."""
        self.flush()
        found: Counter[str] = Counter()
        for code, times in self.counts.items():
            if chr(code).isalpha():
                found[chr(code).lower()] += times
        return found.most_common(top)

    def length_rows(self) -> list[dict[str, Any]]:
        """The distribution of line lengths: [{"from", "to" (None: open), "lines"}]."""
        self.flush()
        starts = (1, *LENGTHS)
        ends = (*(bound - 1 for bound in LENGTHS), None)
        return [{"from": a, "to": b, "lines": n} for a, b, n in zip(starts, ends, self.lengths, strict=True)]


def _bmp_counts(codes: Any) -> tuple[Any, Any]:
    import numpy as np

    times = np.bincount(codes)
    found = np.nonzero(times)[0]
    return found, times[found]
