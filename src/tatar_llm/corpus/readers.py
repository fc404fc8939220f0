"""Documents out of files: Leipzig archives, plain text, JSON lines, Parquet; all but the last also gzip or xz.

Everything is read as a stream, a block at a time; nothing is unpacked to disk. A document is a list of lines.

    >>> for batch in read_batches("tat_mixed_2015_1M.tar.gz"):  # doctest: +SKIP
    ...     for document in batch: ...

A few broken bytes do not spoil a file: they become U+FFFD, and the cleaner drops those lines. The file is refused when
more than 1 in 100 of its lines are not UTF-8 (in a small file: more than two lines, or more than 1 in 10).
"""

from __future__ import annotations

import codecs
import contextlib
import gzip
import json
import lzma
import os
import re
import tarfile
import zlib
from collections.abc import Container, Iterable, Iterator
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any, Protocol

from tatar_llm.errors import TatarLLMError, explain_os_error

TEXT_FIELDS = ("text", "content", "sentence", "body", "raw_content")
"""Where a record of .jsonl or .parquet keeps its text: the first of these names that it has."""
BLOCK = 1 << 16
"""Bytes read at a time: with 1 MiB, which no longer fits the processor's nearest memories, lines take twice as long."""
BATCH = 1 << 20
"""Characters of text that read_batches hands on at a time, at least."""
LONGEST_LINE = 1 << 20
"""Bytes. A longer line is handed on in pieces, so that a file without line ends does not fill the memory."""
LONGEST_RECORD = 256 << 20
"""Bytes of a line of .jsonl, which cannot be cut: a longer one is refused."""
STRAY_BLANKS = 10_000
"""A list of sentences may hold one blank line in so many lines and is still a list, not a row of huge documents."""
JUDGED_FROM = 10_000
"""Lines. Up to here a file is judged at its end, since junk at the head may be all; later at every bad line."""
BOMB_RATIO = 200
"""Packed with gzip or xz, text gets 3 to 10 times smaller, but zeros 1,000 to 7,000 times: more than 200 times is a bomb."""
BOMB_SLACK = 1 << 30
"""Bytes. So much may be unpacked from any file, however small: a short text that repeats itself is no bomb."""
_ROWS = 256  # of Parquet at a time: books of 1 MB stay below what a small machine has

_OTHER_FIELDS = ", ".join(TEXT_FIELDS[1:])
_STRINGS = ("string", "large_string", "string_view")
_HEAD = 64
_GZIP, _XZ, _PARQUET, _WEB_PAGE, _PLAIN = "a gzip file", "an xz file", "a Parquet file", "a web page", "plain text"
_MAGIC = {
    b"\x1f\x8b": _GZIP, b"\xfd7zXZ\0": _XZ, b"PAR1": _PARQUET, b"PK\x03\x04": "a zip archive",
    b"\x28\xb5\x2f\xfd": "a Zstandard file", b"BZh91AY&SY": "a bzip2 file", b"7z\xbc\xaf\x27\x1c": "a 7-Zip archive",
}
_WEB = re.compile(rb"\s*<(!doctype|html|head|\?xml)", re.I)
_SENTENCES = re.compile(r"(?:\d+\t)?+(.*)\n")
_TEXT = re.compile(rb"[^\x00-\x08\x0e-\x1f\x7f]+")
_SENTENCE_END = re.compile(rb"(?s:.*)(?:[.!?]|\xe2\x80\xa6)\s")
_SPACE = re.compile(rb"(?s:.*)\s")


def read_documents(path: str | Path) -> Iterator[list[str]]:
    """The documents of a file, one at a time, each a list of lines without line ends.

    Leipzig archives and text without blank lines are lists of sentences: a document is a line. In text with blank
    lines a block between them is a document, in .jsonl and .parquet the text of a record (see TEXT_FIELDS).

    Raises TatarLLMError when the file is damaged, not UTF-8 (or UTF-16 with its mark), or not what its name says.
    """
    for group in _groups(Path(path)):
        yield from group


def read_batches(path: str | Path, known: str | None = None) -> Iterator[list[list[str]]]:
    """The same documents in the same order, gathered in lists of about 1 MiB of text: work for a pool of processes.

    `known` is what layout() said, if it was asked before: a .txt is then not read twice. Raises as read_documents.
    """
    batch: list[list[str]] = []
    size = 0
    for group in _groups(Path(path), known):
        batch += group
        size += sum(map(len, chain.from_iterable(group)))
        if size >= BATCH:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _groups(path: Path, known: str | None = None) -> Iterator[list[list[str]]]:
    """Documents in lists as they come in: a block of a list of sentences, or one document of several lines."""
    kind = file_kind(path)
    with _reading(path):
        if kind == "parquet":
            documents = _rows(path)
        elif kind == "jsonl":
            documents = _records(path)
        elif kind == "tar":
            yield from ([[line] for line in lines] for lines in _tar_lines(path))
            return
        elif (known or layout(path)) == "line":
            numbered = "-sentences.txt" in path.name  # a Leipzig list that somebody unpacked
            yield from ([[line] for line in lines] for lines in _text_lines(path, numbered=numbered))
            return
        else:
            documents = blocks(chain.from_iterable(_text_lines(path)))
        yield from ([document] for document in documents if document)


def file_kind(path: Path) -> str:
    """txt, jsonl, parquet or tar, by the file's name."""
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
    with _reading(path), _opened(path) as file:
        for block in _whole_lines(file):
            found = list(map(bytes.strip, block.removesuffix(b"\n").split(b"\n")))
            if b"" not in found:
                blanks += after_blank and lines > 0
                lines += len(found)
                after_blank = False
                continue
            for line in found:
                if line:
                    blanks += after_blank and lines > 0
                    lines += 1
                after_blank = not line
            if blanks > 100 and blanks * STRAY_BLANKS > lines * 100:  # plain enough: spare a large file two readings
                return "blank"
    return "blank" if blanks and blanks * STRAY_BLANKS >= lines else "line"


def blocks(lines: Iterable[str]) -> Iterator[list[str]]:
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
        return raw.decode().rstrip("\r\n")
    except UnicodeDecodeError as error:
        raise _not_utf8(where, offset + error.start, raw) from None


def _not_utf8(where: str | Path, offset: int, line: bytes) -> TatarLLMError:
    marks = [mark for mark in line[:LONGEST_LINE].decode("cp1251", "replace") if not mark.isascii()]
    # UTF-8 and KOI8-R read as Windows-1251 give symbols and capitals
    small = sum("а" <= mark <= "я" for mark in marks) > 0.6 * len(marks)
    guess = "it looks like Windows-1251, convert it" if small else "convert the file first, for example"
    return TatarLLMError(f"{where} is not UTF-8: byte {offset} cannot be read; {guess} with: iconv -f WINDOWS-1251 -t UTF-8")


class _Utf8:
    """Turns the lines of one file into text and counts those that are not UTF-8.

    Leipzig writes a number and a tab before every sentence; `numbered` takes them off.
    """

    def __init__(self, where: str | Path, numbered: bool) -> None:
        self.where, self.numbered = where, numbered
        self.offset = self.lines = self.bad = 0
        self.first_bad: tuple[int, bytes] = 0, b""

    def split(self, block: bytes) -> list[str]:
        """The lines of a block of whole lines, with U+FFFD in place of bad bytes."""
        try:
            text = block.decode()
        except UnicodeDecodeError:
            self._count(block)
            text = block.decode(errors="replace")
        if self.numbered:
            lines = _SENTENCES.findall(text if text.endswith("\n") else f"{text}\n")
        else:
            lines = text.removesuffix("\n").split("\n")
        self.lines += len(lines) - lines.count("")
        self.offset += len(block)
        return [line.rstrip("\r") for line in lines] if "\r" in text else lines

    def _count(self, block: bytes) -> None:
        offset, seen = self.offset, self.lines
        for line in block.split(b"\n"):
            seen += bool(line)
            try:
                line.decode()
            except UnicodeDecodeError as error:
                self.first_bad = self.first_bad if self.bad else (offset + error.start, line)
                self.bad += 1
                if seen >= JUDGED_FROM:
                    self.judge(seen)
            offset += len(line) + 1

    def judge(self, lines: int) -> None:
        """Raise TatarLLMError when too many of so many lines are not UTF-8; blank lines are not counted."""
        if self.bad * 100 > lines and (self.bad > 2 or self.bad * 10 > lines):
            raise _not_utf8(self.where, *self.first_bad)


def _text_lines(path: Path, *, numbered: bool = False, longest: int = 0) -> Iterator[list[str]]:
    with _opened(path) as file:
        yield from _lines(file, path, numbered, longest)


def _lines(file: _Readable, where: str | Path, numbered: bool, longest: int = 0) -> Iterator[list[str]]:
    text = _Utf8(where, numbered)
    for block in _whole_lines(file, where, longest):
        yield text.split(block)
    text.judge(text.lines)


def _whole_lines(file: _Readable, where: str | Path = "", longest: int = 0) -> Iterator[bytes]:
    """A stream in blocks that end at a line end.

    A line beyond LONGEST_LINE is cut: its pieces come as blocks without a line end. With `longest` no line is cut, and
    one that is longer raises TatarLLMError.
    """
    held: list[bytes] = []
    size = 0  # of the line that `held` ends with
    for block in _stream(file, min(BLOCK, LONGEST_LINE)):
        held.append(block)
        first = block.find(b"\n")
        size += len(block) if first < 0 else first
        if size > (longest or LONGEST_LINE):
            if longest:
                raise TatarLLMError(f"{where} has a line of more than {longest >> 20} MiB: it does not look like text")
            *pieces, rest = _pieces(b"".join(held), size)
            yield from pieces
            size -= sum(map(len, pieces))
            held = [rest]
        if first >= 0:
            whole = b"".join(held)
            end = whole.rindex(b"\n") + 1
            yield whole[:end]
            held = [whole[end:]]
            size = len(held[0])
    if size:
        yield b"".join(held)


def _pieces(line: bytes, size: int) -> Iterator[bytes]:
    """The first `size` bytes cut into pieces of at most LONGEST_LINE, and the rest.

    A cut falls, best first, behind the last sentence or the last space in the last tenth of a piece, or between two
    letters.
    """
    start = 0
    while size - start > LONGEST_LINE:
        stop = start + LONGEST_LINE
        window = stop - LONGEST_LINE // 10
        found = _SENTENCE_END.match(line, window, stop) or _SPACE.match(line, window, stop)
        if found:
            stop = found.end()
        else:  # not inside a letter: its further bytes, at most three, are 0b10xxxxxx
            stop = next((at for at in range(stop, stop - 4, -1) if line[at] & 0xC0 != 0x80), stop)
        yield line[start:stop]
        start = stop
    yield line[start:]


def _stream(file: _Readable, size: int) -> Iterator[bytes]:
    """A file in blocks of at most `size` bytes (but for the first), in UTF-8, without byte order mark."""
    head = file.read(3)
    if head[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):  # as Windows Notepad writes it
        decoder = codecs.getincrementaldecoder("utf-16")("replace")
        half = max(1, size // 2)  # two bytes may become three
        for block in chain([head], iter(partial(file.read, half), b"")):
            yield decoder.decode(block).encode()
        yield decoder.decode(b"", final=True).encode()
        return
    yield head.removeprefix(codecs.BOM_UTF8)
    yield from iter(partial(file.read, size), b"")


def _tar_lines(path: Path) -> Iterator[list[str]]:
    with _opened(path) as packed, tarfile.open(fileobj=packed, mode="r|", bufsize=BLOCK) as archive:
        for member in iter(archive.next, None):
            archive.members.clear()  # it remembers every one: millions of empty files would fill the memory
            packed.check(archive.offset)  # a member that claims 2^80 bytes: tarfile would seek its end for ages
            if _is_sentences(member):
                file = archive.extractfile(member)
                assert file is not None  # isreg() was asked
                yield from _lines(file, f"{member.name} in {path}", numbered=True)
                return
    raise TatarLLMError(
        f"{path} is no Leipzig archive: it holds no file whose name ends in -sentences.txt (a link is not followed)"
    )


def _is_sentences(member: tarfile.TarInfo) -> bool:
    """A plain file of sentences: no link or device, no hole of a terabyte, no path that leads out of the archive."""
    name = member.name
    return (
        name.endswith("sentences.txt") and member.isreg() and not member.issparse() and name.isprintable()
        and not name.startswith("/") and ".." not in name.split("/")
    )


def _records(path: Path) -> Iterator[list[str]]:
    for number, line in enumerate(chain.from_iterable(_text_lines(path, longest=LONGEST_RECORD)), 1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise TatarLLMError(f"{path}, line {number}: not valid JSON ({error})") from None
        text = record.get(_text_field(record), False) if isinstance(record, dict) else False
        if text is not None and not isinstance(text, str):
            raise TatarLLMError(
                f'{path}, line {number}: the record has no field "text" (or {_OTHER_FIELDS}) that holds a text'
            )
        if text:
            yield _document(text)


def _text_field(names: Container[str]) -> str | None:
    return next((name for name in TEXT_FIELDS if name in names), None)


def _document(text: str) -> list[str]:
    """The lines of a record's text that hold something."""
    document = [line for line in text.splitlines() if line.strip()]
    if len(text) > LONGEST_LINE // 4 and max(map(len, document), default=0) > LONGEST_LINE // 4:  # 4 bytes a letter
        raw = (line.encode("utf-8", "surrogatepass") for line in document)
        pieces = chain.from_iterable(_pieces(line, len(line)) for line in raw)
        document = [piece.decode("utf-8", "surrogatepass") for piece in pieces]
    return document


def _rows(path: Path) -> Iterator[list[str]]:
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError:
        raise TatarLLMError(f'{path} is Parquet, which needs pyarrow: pip install pyarrow') from None
    with open(path, "rb") as file:
        what = _describe(file.read(_HEAD))
        if what != _PARQUET:
            raise TatarLLMError(f"{path} is {what}, not {_PARQUET}: download it again")
        file.seek(-4, os.SEEK_END)
        if file.read() != b"PAR1":
            raise EOFError
        try:
            table = parquet.ParquetFile(file, buffer_size=BLOCK)
            column = _text_column(path, table.schema_arrow)
            for batch in table.iter_batches(_ROWS, columns=[column]):
                yield from (_document(text) for text in _values(batch.column(0), pyarrow) if text)
        except (pyarrow.ArrowException, OSError, ValueError) as error:
            reason = str(error).partition("\n")[0]
            raise TatarLLMError(f"{path} is damaged ({reason}): download or copy it again") from None


def _text_column(path: Path, schema: Any) -> str:
    name = _text_field(schema.names)
    if name is None:
        found = ", ".join(schema.names[:20])
        raise TatarLLMError(f'{path} has no column "text" (or {_OTHER_FIELDS}); its columns are: {found}')
    kind = schema.field(schema.names.index(name)).type
    if str(kind.value_type if str(kind).startswith("dictionary") else kind) not in _STRINGS:
        raise TatarLLMError(f'{path}: the column "{name}" holds no text but {kind}')
    return name


def _values(column: Any, pyarrow: Any) -> list[str | None]:
    try:
        return column.to_pylist()
    except UnicodeDecodeError:
        raw = column.cast(pyarrow.large_string()).cast(pyarrow.large_binary()).to_pylist()
        return [value if value is None else value.decode(errors="replace") for value in raw]


class _Readable(Protocol):
    def read(self, size: int, /) -> bytes: ...


class _Unpacked:
    """A stream that ends the reading when far more is unpacked than text gives."""

    def __init__(self, file: _Readable, path: Path) -> None:
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
def _opened(path: Path) -> Iterator[_Unpacked]:
    """The unpacked bytes of a file. How it is packed is told by its first bytes, as names lie."""
    tar = file_kind(path) == "tar"
    named_packed = path.name.lower().endswith((".gz", ".xz"))
    with open(path, "rb") as plain:
        what = _describe(plain.peek(_HEAD)[:_HEAD])
        if what == _GZIP:
            with gzip.GzipFile(fileobj=plain) as file:
                yield _Unpacked(file, path)
        elif what == _XZ:
            with lzma.LZMAFile(plain) as file:
                yield _Unpacked(file, path)
        elif what == _WEB_PAGE and (tar or named_packed):
            raise TatarLLMError(f"{path} is a web page, not an archive: download it again")
        elif what in _MAGIC.values():
            raise TatarLLMError(f"{path} is {what}, which is not read under this name: unpack or rename it")
        elif named_packed and not tar:
            mend = "rename it" if what == _PLAIN else "download or copy it again"
            raise TatarLLMError(f"{path} is damaged or not what its name says: it is {what}, not packed; {mend}")
        else:
            yield _Unpacked(plain, path)


def _describe(head: bytes) -> str:
    """What the first bytes of a file show it to be."""
    if _WEB.match(head):
        return _WEB_PAGE
    found = next((what for magic, what in _MAGIC.items() if head.startswith(magic)), None)
    return found or (_PLAIN if _TEXT.fullmatch(head) else "no file of a known kind" if head else "an empty file")


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
