"""Which documents are held out: a salted hash of the document decides, so that the split stays when sources are added."""

from __future__ import annotations

from hashlib import blake2b

_SALT = b"tatar-llm split"
SMALL_BYTES = 2_000_000
"""Less training text than this holds out SMALL_SHARE, so that the validation loss is more than noise."""
SMALL_SHARE = 0.10


def position(document: str) -> float:
    """Where a document falls in [0, 1), always the same for the same text."""
    digest = blake2b(document.encode("utf-8"), digest_size=8, salt=_SALT).digest()
    return int.from_bytes(digest, "big") / 2**64


def part(where: float, val_share: float) -> str:
    """``val``, ``train``, or ``between``: those that go to val only if the corpus turns out to be small."""
    if where < val_share:
        return "val"
    return "between" if where < SMALL_SHARE else "train"
