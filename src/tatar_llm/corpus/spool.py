"""Cleaned text on its way from the cleaner to train.txt: kept on disk until it is known which lines repeat others.

Memory holds a few bytes a line; the text and the hashes of the near-repeat search stay in files, one file a band.
"""

from __future__ import annotations

import contextlib
import mmap
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import compress
from pathlib import Path
from typing import BinaryIO

import numpy as np

from tatar_llm.corpus import dedup
from tatar_llm.corpus.clean import Tally
from tatar_llm.corpus.worker import EDGE, REPEATABLE, Cleaned

COLUMNS = {"line_bytes": np.uint32, "line_keys": np.uint64, "line_flags": np.uint8, "document_lines": np.uint32,
           "document_keys": np.uint64, "positions": np.float64}  # fmt: skip
BOILERPLATE_DOCUMENTS = 10
BOILERPLATE_SHARE = 0.005
"""A line at the edge of so many documents, and of such a share of them, is furniture."""
BLOCK_DOCUMENTS = 10_000


@dataclass(frozen=True)
class Kept:
    """Documents of one source after all rules: the lines of each that stay, and where the split puts it."""

    source: int
    documents: list[list[str]]
    positions: list[float]


class Spool:
    """A folder with the cleaned text and its columns; `write` batches, then `find_repeats`, then read `documents`."""

    def __init__(self, folder: Path, threshold: float) -> None:
        self.folder = folder
        self.threshold = threshold
        self.bands = dedup.band_shape(threshold or 1.0)[0]
        self.lines = self.documents = 0
        self.line_starts: list[int] = []
        """Place of the first line of each source; likewise for documents."""
        self.document_starts: list[int] = []
        self.listed: list[bool] = []
        folder.mkdir(parents=True)
        (folder / "text").touch()  # also where nothing is written
        self._files: dict[str, BinaryIO] = {}

    def __enter__(self) -> Spool:
        return self

    def __exit__(self, *_: object) -> None:
        self._close()
        shutil.rmtree(self.folder, ignore_errors=True)

    def begin_source(self, listed: bool) -> None:
        """What is written from here on belongs to the next source."""
        self.line_starts.append(self.lines)
        self.document_starts.append(self.documents)
        self.listed.append(listed)

    def write(self, cleaned: Cleaned) -> None:
        """Append a batch."""
        while len(self.listed) <= cleaned.source:
            self.begin_source(cleaned.listed)
        self._file("text").write(cleaned.text)
        for name in COLUMNS:
            self._append(name, getattr(cleaned, name))
        self._append("near_lines", cleaned.near_lines.astype(np.uint64) + self.lines)
        self._append("near_documents", cleaned.near_documents.astype(np.uint64) + self.documents)
        for band in range(self.bands):
            self._append(f"line_band_{band}", cleaned.near_keys[:, band])
            self._append(f"document_band_{band}", cleaned.near_document_keys[:, band])
        self.lines += len(cleaned.line_bytes)
        self.documents += len(cleaned.document_lines)

    def _file(self, name: str) -> BinaryIO:
        if name not in self._files:
            self._files[name] = open(self.folder / name, "ab", buffering=1 << 18)  # noqa: SIM115, closed in _close
        return self._files[name]

    def _append(self, name: str, values: np.ndarray) -> None:
        self._file(name).write(np.ascontiguousarray(values).tobytes())

    def _close(self) -> None:
        for file in self._files.values():
            with contextlib.suppress(OSError):
                file.close()
        self._files = {}

    def column(self, name: str, kind: type = np.uint64) -> np.ndarray:
        """A column, read from disk."""
        path = self.folder / name
        return np.fromfile(path, COLUMNS.get(name, kind)) if path.exists() else np.zeros(0, COLUMNS.get(name, kind))

    # repeats

    def find_repeats(self, tallies: list[Tally]) -> np.ndarray:
        """Which lines stay, bool (lines,). Each rule counts what it drops in the tally of the line's source."""
        for file in self._files.values():
            file.flush()
        stays = np.ones(self.lines, bool)
        if not self.lines:
            return stays
        first = _starts(self.column("document_lines"))
        with self._text() as text:
            self._repeated_documents(stays, first, text, tallies)
            self._boilerplate(stays, text, tallies)
            self._repeated_lines(stays, text, tallies)
            self._near_lines(stays, text, tallies)
        return stays

    def _repeated_documents(self, stays: np.ndarray, first: np.ndarray, text: _Text, tallies: list[Tally]) -> None:
        sizes = self.column("document_lines").astype(np.int64)
        alive = np.ones(self.documents, bool)
        for source, listed in enumerate(self.listed):
            if listed:
                alive[self._documents_of(source)] = False

        def drop(document: int, rule: str) -> None:
            start, size = int(first[document]), int(sizes[document])
            tallies[self._source(start)].drop(rule, text.line(start), size)
            stays[start : start + size] = False
            alive[document] = False

        for document in dedup.later_repeats(self.column("document_keys"), alive).tolist():
            drop(document, "repeated document")
        places = self.column("near_documents").astype(np.int64)
        for row, _ in dedup.near_repeats(
            self._band_loaders("document"), lambda row: text.lines(int(first[places[row]]), int(sizes[places[row]])),
            alive[places], self.threshold,
        ):  # fmt: skip
            drop(int(places[row]), "near repeat")

    def _boilerplate(self, stays: np.ndarray, text: _Text, tallies: list[Tally]) -> None:
        edge = np.flatnonzero(stays & (self.column("line_flags") & EDGE > 0))
        if not len(edge):
            return
        keys = self.column("line_keys")[edge]
        _, inverse, counts = np.unique(keys, return_inverse=True, return_counts=True)
        several = int((self.column("document_lines") > 1).sum())
        least = max(BOILERPLATE_DOCUMENTS, int(BOILERPLATE_SHARE * several))
        for place in edge[counts[inverse] >= least].tolist():
            tallies[self._source(place)].drop("boilerplate", text.line(place))
            stays[place] = False

    def _repeated_lines(self, stays: np.ndarray, text: _Text, tallies: list[Tally]) -> None:
        candidates = stays & (self.column("line_flags") & REPEATABLE > 0)
        for place in dedup.later_repeats(self.column("line_keys"), candidates).tolist():
            tallies[self._source(place)].drop("repeated line", text.line(place))
            stays[place] = False

    def _near_lines(self, stays: np.ndarray, text: _Text, tallies: list[Tally]) -> None:
        places = self.column("near_lines").astype(np.int64)
        found = dedup.near_repeats(
            self._band_loaders("line"), lambda row: text.line(int(places[row])), stays[places], self.threshold
        )
        for row, leader in sorted(found):
            place = int(places[row])
            tally = tallies[self._source(place)]
            tally.drop("near repeat", f"{text.line(place)[:60]} ≈ {text.line(int(places[leader]))[:60]}")
            stays[place] = False

    def _band_loaders(self, kind: str) -> list:
        return [lambda name=f"{kind}_band_{band}": self.column(name) for band in range(self.bands)]

    def _documents_of(self, source: int) -> slice:
        ends = [*self.document_starts, self.documents]
        return slice(ends[source], ends[source + 1])

    def _source(self, line: int) -> int:
        return int(np.searchsorted(self.line_starts, line, side="right")) - 1

    @contextlib.contextmanager
    def _text(self) -> Iterator[_Text]:
        path = self.folder / "text"
        with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as view:
            text = _Text(view, _starts(self.column("line_bytes")))
            yield text
            del text

    # reading

    def kept(self, stays: np.ndarray) -> Iterator[Kept]:
        """The documents with the lines that stay, in order and in blocks; those without any are left out."""
        sizes = self.column("document_lines").astype(np.int64)
        line_bytes = self.column("line_bytes")
        positions = self.column("positions")
        place = 0
        ends = [*self.document_starts[1:], self.documents]
        with open(self.folder / "text", "rb") as file:
            for source, listed in enumerate(self.listed):
                for block in range(self.document_starts[source], ends[source], BLOCK_DOCUMENTS):
                    part = slice(block, min(block + BLOCK_DOCUMENTS, ends[source]))
                    count = int(sizes[part].sum())
                    lines = file.read(int(line_bytes[place : place + count].sum(dtype=np.int64))).decode().split("\n")
                    good = stays[place : place + count]
                    place += count
                    if listed:
                        yield Kept(source, [[line] for line in compress(lines, good.tolist())], positions[part][good].tolist())
                    else:
                        yield _several(source, lines, good.tolist(), sizes[part].tolist(), positions[part].tolist())


def _several(source: int, lines: list[str], good: list[bool], sizes: list[int], positions: list[float]) -> Kept:
    documents, places = [], []
    start = 0
    for size, position in zip(sizes, positions, strict=True):
        end = start + size
        chosen = list(compress(lines[start:end], good[start:end]))
        start = end
        if chosen:
            documents.append(chosen)
            places.append(position)
    return Kept(source, documents, places)


class _Text:
    """Lines by their place."""

    def __init__(self, view: mmap.mmap, starts: np.ndarray) -> None:
        self.view = view
        self.starts = starts

    def line(self, place: int) -> str:
        return self.view[int(self.starts[place]) : int(self.starts[place + 1]) - 1].decode()

    def lines(self, place: int, count: int) -> str:
        return self.view[int(self.starts[place]) : int(self.starts[place + count]) - 1].decode()


def _starts(sizes: np.ndarray) -> np.ndarray:
    """Where each item begins, and at last where all end: int64 (n + 1,)."""
    return np.concatenate([[0], np.cumsum(sizes, dtype=np.int64)])
