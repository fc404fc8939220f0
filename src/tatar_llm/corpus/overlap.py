"""Texts that must not stand in the training data: lines that share a run of 13 words with them are found and removed.

The n-gram rule and its length are those of GPT-3 (Brown et al. 2020, appendix C).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

N = 13
LEAST = 6
"""Words. A shorter text than this is found in any corpus by chance; one of 6 to 12 words is searched for as a whole."""
_WORD = re.compile(r"[^\W_]+")


class Overlap:
    """The n-grams of evaluation texts, ready to be searched for in lines."""

    def __init__(self) -> None:
        self.grams: dict[str, int] = {}
        """N-gram -> which text it came from (the first that has it)."""
        self.sizes: dict[str, tuple[int, ...]] = {}
        """First word of an n-gram -> lengths of the n-grams that begin with it."""
        self.names: list[str] = []
        self.texts: list[int] = []

    def add(self, name: str, lines: Iterable[str]) -> None:
        """Take in an evaluation text, line by line."""
        source = len(self.names)
        self.names.append(name)
        count = 0
        for line in lines:
            words = words_of(line)
            if len(words) < LEAST:
                continue
            count += 1
            size = min(N, len(words))
            for start in range(len(words) - size + 1):
                self.grams.setdefault(" ".join(words[start : start + size]), source)
                known = self.sizes.get(words[start], ())
                if size not in known:
                    self.sizes[words[start]] = (*known, size)
        self.texts.append(count)

    def __bool__(self) -> bool:
        return bool(self.grams)

    def find(self, line: str) -> str | None:
        """The name of an evaluation text that shares an n-gram with this line, or None."""
        words = words_of(line)
        if len(words) < LEAST:
            return None
        for start, word in enumerate(words):
            for size in self.sizes.get(word, ()):
                source = self.grams.get(" ".join(words[start : start + size]))
                if source is not None:
                    return self.names[source]
        return None


def words_of(line: str) -> Sequence[str]:
    """Words and numbers without case and marks."""
    return _WORD.findall(line.casefold())
