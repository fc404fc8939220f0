"""Documents out of files: Leipzig archives, plain text, JSON lines, Parquet; all but the last also gzip or xz.

Everything is read as a stream, a block at a time; nothing is unpacked to disk. A document is a list of lines.

    >>> for batch in read_batches("tat_mixed_2015_1M.tar.gz"):  # doctest: +SKIP
    ...     for document in batch: ...

A few broken bytes do not spoil a file: they become U+FFFD, and the cleaner drops those lines. The file is refused when
more than 1 in 100 of its lines are not UTF-8 (in a small file: more than two lines, or more than 1 in 10).
"""

from __future__ import annotations

import json
import os
import tarfile
from collections.abc import Container, Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import Any, cast

from tatar_llm.corpus.lines import bounded, text_of, whole_lines
from tatar_llm.corpus.unpacking import BLOCK, HEAD, PARQUET, describe, file_kind, opened, reading
from tatar_llm.errors import TatarLLMError

TEXT_FIELDS = ("text", "content", "sentence", "body", "raw_content")
"""Where a record of .jsonl or .parquet keeps its text: the first of these names that it has."""
BATCH = 1 << 20
"""Characters of text that read_batches hands on at a time, at least."""
LONGEST_RECORD = 256 << 20
"""Bytes of a line of .jsonl, which cannot be cut: a longer one is refused."""
STRAY_BLANKS = 10_000
"""A list of sentences may hold one blank line in so many lines and is still a list, not a row of huge documents."""
_ROWS = 256  # of Parquet at a time: books of 1 MB stay below what a small machine has

_OTHER_FIELDS = ", ".join(TEXT_FIELDS[1:])
_STRINGS = ("string", "large_string", "string_view")


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
    with reading(path):
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


def layout(path: Path) -> str:
    """"line" when a document is a line (a list of sentences), "blank" when documents hold several lines."""
    kind = file_kind(path)
    if kind != "txt":
        return "line" if kind == "tar" else "blank"
    lines = blanks = 0
    after_blank = False
    with reading(path), opened(path) as file:
        for block in whole_lines(file):
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


def _text_lines(path: Path, *, numbered: bool = False, longest: int = 0) -> Iterator[list[str]]:
    with opened(path) as file:
        yield from text_of(file, path, numbered, longest)


def _tar_lines(path: Path) -> Iterator[list[str]]:
    with opened(path) as packed, tarfile.open(fileobj=cast(Any, packed), mode="r|", bufsize=BLOCK) as archive:
        for member in iter(archive.next, None):
            # it remembers every one: millions of empty files would fill the memory
            archive.members.clear()  # type: ignore[attr-defined]
            packed.check(archive.offset)  # a member that claims 2^80 bytes: tarfile would seek its end for ages
            if _is_sentences(member):
                file = archive.extractfile(member)
                assert file is not None  # isreg() was asked
                yield from text_of(file, f"{member.name} in {path}", numbered=True)
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
    return bounded([line for line in text.splitlines() if line.strip()])


def _rows(path: Path) -> Iterator[list[str]]:
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError:
        raise TatarLLMError(f'{path} is Parquet, which needs pyarrow: pip install pyarrow') from None
    with open(path, "rb") as file:
        what = describe(file.read(HEAD))
        if what != PARQUET:
            raise TatarLLMError(f"{path} is {what}, not {PARQUET}: download it again")
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
