"""Documents out of files: Leipzig archives, plain text, JSON lines, each also packed with gzip or xz.

Everything is read as a stream; nothing is unpacked to disk. A document is a list of lines.
"""

from __future__ import annotations

import contextlib
import gzip
import io
import json
import lzma
import re
import tarfile
import zlib
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import BinaryIO

from tatar_llm.errors import TatarLLMError, explain_os_error

LONGEST_LINE = 64 << 20
"""Bytes. A longer line is no text: it is refused instead of filling the memory."""
STRAY_BLANKS = 10_000
"""A list of sentences may hold one blank line in so many lines and is still a list, not a row of huge documents."""
_NUMBERED = re.compile(r"^\d+\t")
_BOM = b"\xef\xbb\xbf"


def read_documents(path: str | Path) -> Iterator[list[str]]:
    """The documents of a file, one at a time, each a list of lines without line ends.

    Leipzig archives and text without blank lines are lists of sentences: a document is a line. In text with blank
    lines a block between them is a document, in .jsonl the "text" of a record.

    Raises TatarLLMError when the file is damaged, not UTF-8, or not what its name says.
    """
    path = Path(path)
    kind = file_kind(path)
    if kind == "tar":
        lines = (line.split("\t", 1)[-1] for line in _tar_lines(path))
    elif kind == "jsonl":
        yield from _records(path)
        return
    else:
        lines = _lines(path)
        if layout(path) == "blank":
            yield from blocks(lines)
            return
        if "-sentences.txt" in path.name:  # a Leipzig list that somebody unpacked
            lines = (_NUMBERED.sub("", line) for line in lines)
    for line in lines:
        yield [line]


def file_kind(path: Path) -> str:
    """txt, jsonl or tar, by the file's name."""
    name = path.name.lower()
    if name.endswith((".tgz", ".txz")):
        return "tar"
    return Path(re.sub(r"\.(gz|xz)$", "", name)).suffix[1:]


def layout(path: Path) -> str:
    """"line" when a document is a line (a list of sentences), "blank" when documents hold several lines."""
    kind = file_kind(path)
    if kind != "txt":
        return "line" if kind == "tar" else "blank"
    lines = blanks = 0
    after_blank = False
    for line in _raw_lines(path):
        if line.strip():
            lines += 1
            blanks += after_blank and lines > 1
            after_blank = False
        else:
            after_blank = True
        if blanks > 100 and blanks * STRAY_BLANKS > lines * 100:  # plain enough: spare a large file the second reading
            return "blank"
    return "blank" if blanks and blanks * STRAY_BLANKS >= lines else "line"


def blocks(lines: Iterator[str]) -> Iterator[list[str]]:
    """Gather lines into documents that end at a blank line."""
    document: list[str] = []
    for line in lines:
        if line.strip():
            document.append(line)
        elif document:
            yield document
            document = []
    if document:
        yield document


def decode(raw: bytes, where: str | Path, offset: int) -> str:
    """UTF-8 bytes as text without the line end; raises TatarLLMError naming the byte that is not UTF-8."""
    try:
        return raw.decode("utf-8").rstrip("\r\n")
    except UnicodeDecodeError as error:
        raise TatarLLMError(
            f"{where} is not UTF-8: byte {offset + error.start} cannot be read; convert the file first, for example "
            f"with: iconv -f WINDOWS-1251 -t UTF-8"
        ) from None


def _lines(path: Path) -> Iterator[str]:
    offset = 0
    for raw in _raw_lines(path):
        yield decode(raw, path, offset)
        offset += len(raw)


def _raw_lines(path: Path) -> Iterator[bytes]:
    with _reading(path), _opened(path) as file:
        yield from _split(file, path)


def _split(file: BinaryIO, path: Path) -> Iterator[bytes]:
    first = True
    for raw in iter(partial(file.readline, LONGEST_LINE), b""):
        if len(raw) == LONGEST_LINE:
            raise TatarLLMError(f"{path} has a line of more than {LONGEST_LINE >> 20} MiB: it does not look like text")
        if first:
            first = False
            if raw[:2] in (b"\xff\xfe", b"\xfe\xff"):
                raise TatarLLMError(f"{path} is not UTF-8 but UTF-16 (byte 0): convert the file to UTF-8 first")
            if raw.startswith(_BOM):
                raw = b"" if raw == _BOM else raw[3:]
        yield raw


def _tar_lines(path: Path) -> Iterator[str]:
    with _reading(path), _opened(path) as packed, tarfile.open(fileobj=packed, mode="r|") as archive:
        for member in archive:
            if not (member.isfile() and member.name.endswith("sentences.txt")):
                continue
            file = archive.extractfile(member)
            assert file is not None  # isfile() was asked above
            offset = 0
            for raw in _split(file, path):
                yield decode(raw, f"{member.name} in {path}", offset)
                offset += len(raw)
            return
    raise TatarLLMError(f"{path} is no Leipzig archive: it holds no file whose name ends in -sentences.txt")


def _records(path: Path) -> Iterator[list[str]]:
    for number, line in enumerate(_lines(path), 1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise TatarLLMError(f"{path}, line {number}: not valid JSON ({error})") from None
        text = record.get("text") if isinstance(record, dict) else None
        if not isinstance(text, str):
            raise TatarLLMError(f'{path}, line {number}: the record has no field "text" that holds a text')
        document = [part for part in text.splitlines() if part.strip()]
        if document:
            yield document


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[BinaryIO]:
    """The unpacked bytes of a file, buffered."""
    name = path.name.lower()
    with open(path, "rb") as plain:
        head = plain.peek(64)[:64]
        packed = name.endswith((".gz", ".tgz", ".xz", ".txz"))
        if (packed or file_kind(path) == "tar") and head.lstrip().startswith(b"<"):
            raise TatarLLMError(f"{path} is a web page, not an archive: download it again")
        if name.endswith((".gz", ".tgz")):
            with gzip.GzipFile(fileobj=plain) as file:
                yield io.BufferedReader(file, 1 << 18)
        elif name.endswith((".xz", ".txz")):
            with lzma.LZMAFile(plain) as file:
                yield io.BufferedReader(file, 1 << 18)
        else:
            yield plain


@contextlib.contextmanager
def _reading(path: Path) -> Iterator[None]:
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
