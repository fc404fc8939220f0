"""What the corpus tests share: an archive in Leipzig's format."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Callable

import pytest


@pytest.fixture
def leipzig() -> Callable[..., bytes]:
    """A function that packs sentences as Leipzig does."""
    return pack


def pack(lines: list[str], mode: str = "w:gz", member: str = "x/x-sentences.txt") -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as archive:
        for name, text in (("x/x-words.txt", "1\tкар\t5\n" * 2000), (member, "".join(f"{i}\t{s}\n" for i, s in enumerate(lines, 1)))):
            raw = text.encode()
            info = tarfile.TarInfo(name)
            info.size = len(raw)
            archive.addfile(info, io.BytesIO(raw))
    return buffer.getvalue()
