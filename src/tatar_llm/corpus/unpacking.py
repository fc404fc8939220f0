"""The bytes in a file that may be packed: told by its first bytes, no bombs, damage in one line."""

from __future__ import annotations

import contextlib
import gzip
import lzma
import re
import tarfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

from tatar_llm.errors import TatarLLMError, explain_os_error

BLOCK = 1 << 16
"""Bytes read at a time: with 1 MiB, which no longer fits the processor's nearest memories, lines take twice as long."""
BOMB_RATIO = 200
"""Packed with gzip or xz, text gets 3 to 10 times smaller, but zeros 1,000 to 7,000 times: more than 200 times is a bomb."""
BOMB_SLACK = 1 << 30
"""Bytes. So much may be unpacked from any file, however small: a short text that repeats itself is no bomb."""
HEAD = 64
_GZIP, _XZ, PARQUET, _WEB_PAGE, _PLAIN = "a gzip file", "an xz file", "a Parquet file", "a web page", "plain text"
_MAGIC = {
    b"\x1f\x8b": _GZIP, b"\xfd7zXZ\0": _XZ, b"PAR1": PARQUET, b"PK\x03\x04": "a zip archive",
    b"\x28\xb5\x2f\xfd": "a Zstandard file", b"BZh91AY&SY": "a bzip2 file", b"7z\xbc\xaf\x27\x1c": "a 7-Zip archive",
}
_WEB = re.compile(rb"\s*<(!doctype|html|head|\?xml)", re.I)
_TEXT = re.compile(rb"[^\x00-\x08\x0e-\x1f\x7f]+")


def file_kind(path: Path) -> str:
    """txt, jsonl, parquet or tar, by the file's name."""
    name = path.name.lower()
    if name.endswith((".tgz", ".txz")):
        return "tar"
    return Path(re.sub(r"\.(gz|xz)$", "", name)).suffix[1:]


class Readable(Protocol):
    def read(self, size: int, /) -> bytes: ...


class Unpacked:
    """A stream that ends the reading when far more is unpacked than text gives."""

    def __init__(self, file: Readable, path: Path) -> None:
        self.file, self.path = file, path
        self.limit = BOMB_RATIO * path.stat().st_size + BOMB_SLACK
        self.done = 0

    def check(self, size: int) -> None:
        if size > self.limit:
            raise TatarLLMError(
                f"{self.path} is damaged or no text: it unpacks to more than {BOMB_RATIO} times its size; leave it out"
            )

    def read(self, size: int) -> bytes:
        block = self.file.read(size)
        self.done += len(block)
        self.check(self.done)
        return block


@contextlib.contextmanager
def opened(path: Path) -> Iterator[Unpacked]:
    """The unpacked bytes of a file. How it is packed is told by its first bytes, as names lie."""
    tar = file_kind(path) == "tar"
    named_packed = path.name.lower().endswith((".gz", ".xz"))
    with open(path, "rb") as plain:
        what = describe(plain.peek(HEAD)[:HEAD])
        if what == _GZIP:
            with gzip.GzipFile(fileobj=plain) as file:
                yield Unpacked(file, path)
        elif what == _XZ:
            with lzma.LZMAFile(plain) as file:
                yield Unpacked(file, path)
        elif what == _WEB_PAGE and (tar or named_packed):
            raise TatarLLMError(f"{path} is a web page, not an archive: download it again")
        elif what in _MAGIC.values():
            raise TatarLLMError(f"{path} is {what}, which is not read under this name: unpack or rename it")
        elif named_packed and not tar:
            mend = "rename it" if what == _PLAIN else "download or copy it again"
            raise TatarLLMError(f"{path} is damaged or not what its name says: it is {what}, not packed; {mend}")
        else:
            yield Unpacked(plain, path)


def describe(head: bytes) -> str:
    """What the first bytes of a file show it to be."""
    if _WEB.match(head):
        return _WEB_PAGE
    found = next((what for magic, what in _MAGIC.items() if head.startswith(magic)), None)
    return found or (_PLAIN if _TEXT.fullmatch(head) else "no file of a known kind" if head else "an empty file")


@contextlib.contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn what a damaged file makes the libraries raise into one line."""
    try:
        yield
    except EOFError:
        raise TatarLLMError(f"{path} is cut off in the middle: download or copy it again") from None
    except (gzip.BadGzipFile, zlib.error, lzma.LZMAError, tarfile.TarError) as error:
        cut = "unexpected end" in str(error)
        what = "is cut off in the middle" if cut else f"is damaged or not what its name says ({error})"
        raise TatarLLMError(f"{path} {what}: download or copy it again") from None
    except OSError as error:
        raise TatarLLMError(f"{path} cannot be read: {explain_os_error(error)}") from error
