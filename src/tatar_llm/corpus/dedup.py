"""Exact repeats: only a hash of 8 bytes is kept of each line and document seen."""

from __future__ import annotations

LONG_LINE = 60
"""Characters. Shorter lines inside documents may repeat: "Yes.", a chorus, a heading."""


class Repeats:
    """Remembers what was seen; letter case does not count.

    Python's own 64-bit hash serves, since it need only hold within one run: with 10 M lines the chance of a single
    wrong hit is 3 in a million.
    """

    def __init__(self) -> None:
        self._seen: set[int] = set()

    def seen(self, text: str) -> bool:
        """Whether this text came before; from now on it has."""
        key = hash(text.casefold())
        before = len(self._seen)
        self._seen.add(key)
        return len(self._seen) == before
