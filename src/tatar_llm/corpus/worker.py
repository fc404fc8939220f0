"""Cleaning in several processes: batches of documents go out, cleaned text with its hashes comes back, in the same order.

What a batch becomes depends on the batch alone, and batches depend on the sources alone: so the corpus is the same for
any number of processes.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import signal
import threading
import time
from collections import deque
from collections.abc import Generator, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing import get_context, parent_process
from multiprocessing.process import BaseProcess

import numpy as np

from tatar_llm.config import CorpusConfig
from tatar_llm.corpus import dedup, split
from tatar_llm.corpus.clean import Cleaner, Tally, Verdict
from tatar_llm.corpus.fonts import broken_font
from tatar_llm.corpus.language import cld2
from tatar_llm.corpus.mend import split_long
from tatar_llm.corpus.overlap import Overlap
from tatar_llm.errors import TatarLLMError
from tatar_llm.languages import Language

FEW_BATCHES = 4
"""So little text is cleaned in this process: starting others takes longer."""
MOST_PROCESSES = 61
"""Windows waits for no more at once."""
EDGE_LINES = 3
"""Lines at the beginning and the end of a document where a page's furniture stands; fewer in a short one."""
REPEATABLE, EDGE = 1, 2
"""Flags of a line: it is looked for among exact repeats; it stands at a document's edge."""


@dataclass(frozen=True)
class Job:
    """What every worker needs to know."""

    language: Language
    config: CorpusConfig
    overlap: Overlap
    use_cld2: bool


@dataclass(frozen=True)
class Batch:
    """Documents of one source, each a list of lines."""

    source: int
    listed: bool
    """Each document is one line of a list of sentences."""
    documents: list[list[str]]
    generated: bool = False
    """Made by the grammar: all of it goes to training, and its lines may repeat."""


@dataclass
class Cleaned:
    """What is left of a batch: n lines in m documents, and what the search for repeats needs."""

    source: int
    listed: bool
    text: bytes
    """The kept lines in UTF-8, a line end after each."""
    tally: Tally
    line_bytes: np.ndarray  # uint32 (n,)
    line_keys: np.ndarray  # uint64 (n,)
    line_flags: np.ndarray  # uint8 (n,)
    near_lines: np.ndarray  # uint32 (k,), places of the lines that have band keys
    near_keys: np.ndarray  # uint64 (k, bands)
    document_lines: np.ndarray  # uint32 (m,)
    document_keys: np.ndarray  # uint64 (m,)
    positions: np.ndarray  # float64 (m,), where the split puts a document
    near_documents: np.ndarray  # uint32 (d,)
    near_document_keys: np.ndarray  # uint64 (d, bands)


class Worker:
    """Cleans batches, one after another."""

    def __init__(self, job: Job) -> None:
        self.config = job.config
        self.language = job.language
        self.overlap = job.overlap
        self.cleaner = Cleaner(job.language, job.config, cld2() if job.use_cld2 else None)

    def __call__(self, batch: Batch) -> Cleaned:
        """All that can be said of a batch without knowing the others."""
        tally = Tally(lines=sum(map(len, batch.documents)), documents=len(batch.documents))
        documents = self._cut_long(batch, tally)
        flat = self.cleaner.mend_all([line for document in documents for line in document], tally)
        verdicts = self.cleaner.judge_all(flat, batch.listed, tally)
        self._find_overlap(flat, verdicts, tally)
        place = 0
        kept: list[list[str]] = []
        for document in documents:
            part = slice(place, place + len(document))
            place = part.stop
            kept.append(self._keep(flat[part], verdicts[part], batch.listed, tally))
        return self._described(batch, [document for document in kept if document], tally)

    def _cut_long(self, batch: Batch, tally: Tally) -> list[list[str]]:
        """The documents with lines of more than max_chars in parts; a part of a listed line is a document by itself."""
        most = self.config.max_chars
        documents: list[list[str]] = []
        for document in batch.documents:
            if max(map(len, document), default=0) <= most:
                documents.append(document)
                continue
            parts = []
            for line in document:
                cut = split_long(line, most)
                if len(cut) > 1:
                    tally.change("long line", line[-80:], cut[-1][-80:])
                    tally.changed["long line"] += len(cut) - 2  # a change for every line that is new
                parts += cut
            documents += [[part] for part in parts] if batch.listed else [parts]
        return documents

    def _find_overlap(self, lines: list[str], verdicts: list[Verdict | None], tally: Tally) -> None:
        if not self.overlap:
            return
        started = time.perf_counter()
        for place, line in enumerate(lines):
            if verdicts[place] is None and (name := self.overlap.find(line)):
                verdicts[place] = Verdict("evaluation text", name)
        tally.seconds["evaluation text"] += time.perf_counter() - started

    def _keep(self, document: list[str], verdicts: list[Verdict | None], listed: bool, tally: Tally) -> list[str]:
        """The lines of a document that stay; every other one is counted."""
        if not listed and len(document) > 1:
            judged = [(line, found.detail if found and found.rule == "foreign language" else None)
                      for line, found in zip(document, verdicts, strict=True)
                      if found is None or found.rule == "foreign language"]  # fmt: skip
            if judged and (name := self.cleaner.judge.document(judged)):
                verdicts = [found if found and found.rule not in ("foreign language",) else Verdict("foreign document", name)
                            for found in verdicts]  # fmt: skip
        kept = []
        for line, found in zip(document, verdicts, strict=True):
            if found is None:
                kept.append(line)
            else:
                tally.drop(found.rule, line, detail=found.detail)
        if not listed and kept and self.language.frequencies:
            started = time.perf_counter()
            fault = broken_font("\n".join(kept), self.language.frequencies, self.language.keyboard)
            tally.seconds["broken font"] += time.perf_counter() - started
            if fault:
                tally.drop("broken font", f"{fault}: {kept[0]}", len(kept))
                tally.fonts.append({"document": kept[0][:80], "lines": len(kept), "letters": fault.mapping})
                return []
        return kept

    def _described(self, batch: Batch, documents: list[list[str]], tally: Tally) -> Cleaned:
        clock = time.perf_counter()
        lines = [line for document in documents for line in document]
        encoded = [line.encode() + b"\n" for line in lines]
        texts = ["\n".join(document) for document in documents]
        sizes = np.fromiter(map(len, lines), np.int64, len(lines))
        flags = np.zeros(len(lines), np.uint8)
        flags[sizes >= (0 if batch.listed else dedup.EXACT_PARAGRAPH)] |= REPEATABLE
        if batch.generated:
            flags[:] = 0
        elif not batch.listed:
            flags[_edges([len(document) for document in documents])] |= EDGE
        line_keys = dedup.exact_keys(lines)
        document_keys = line_keys if batch.listed else dedup.joined_keys(line_keys, [len(document) for document in documents])
        now = time.perf_counter()
        tally.seconds["repeated line"] += now - clock
        if batch.generated:
            sizes = np.zeros_like(sizes)  # too short to be looked at
        near_lines, near_keys = self._near(lines, sizes, dedup.NEAR_CHARS if batch.listed else dedup.NEAR_PARAGRAPH)
        whole = [text if len(document) > 1 else "" for text, document in zip(texts, documents, strict=True)]
        if batch.listed or batch.generated:
            whole = []
        near_documents, near_document_keys = self._near(
            whole, np.fromiter(map(len, whole), np.int64, len(whole)), dedup.NEAR_PARAGRAPH
        )
        tally.seconds["near repeat"] += time.perf_counter() - now
        return Cleaned(
            batch.source, batch.listed, b"".join(encoded), tally,
            np.fromiter(map(len, encoded), np.uint32, len(encoded)), line_keys, flags, near_lines, near_keys,
            np.fromiter(map(len, documents), np.uint32, len(documents)), document_keys,
            np.ones(len(texts)) if batch.generated else np.fromiter(map(split.position, texts), np.float64, len(texts)), near_documents, near_document_keys,
        )  # fmt: skip

    def _near(self, texts: list[str], sizes: np.ndarray, least: int) -> tuple[np.ndarray, np.ndarray]:
        if not self.config.near_threshold:
            return np.zeros(0, np.uint32), np.zeros((0, dedup.band_shape(1.0)[0]), np.uint64)
        places = np.flatnonzero(sizes >= least)
        keys = dedup.band_keys([texts[place] for place in places], self.config.near_threshold)
        return places.astype(np.uint32), keys


def _edges(sizes: list[int]) -> list[int]:
    """Places of the lines at the beginning and the end of each document of two lines or more."""
    found = []
    start = 0
    for size in sizes:
        if size > 1:
            edge = max(1, min(EDGE_LINES, size // 4))
            found += [*range(start, start + edge), *range(start + size - edge, start + size)]
        start += size
    return found


# -- several processes -------------------------------------------------------------------------------------------


def clean_batches(batches: Iterable[Batch], job: Job) -> Generator[Cleaned, None, None]:
    """Each batch cleaned, in order. Uses `config.processes` processes, all cores where it is 0, none for little text.

    Raises TatarLLMError when a process dies, for example because the memory is full.
    """
    batches = iter(batches)
    first = list(itertools.islice(batches, FEW_BATCHES))
    batches = itertools.chain(first, batches)
    processes = min(job.config.processes or _cores(), MOST_PROCESSES)
    if processes == 1 or len(first) < FEW_BATCHES:
        yield from map(Worker(job), batches)
        return
    pool = ProcessPoolExecutor(processes, get_context("spawn"), _begin, (job,))
    try:
        yield from _in_order(pool, batches, 2 * processes)
    except BrokenProcessPool:
        raise TatarLLMError(
            "a process that cleaned the text died, perhaps because the memory is full: try --processes 1 (in a script of "
            "your own the call must stand below: if __name__ == '__main__')"
        ) from None
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def _in_order(pool: ProcessPoolExecutor, batches: Iterator[Batch], ahead: int) -> Iterator[Cleaned]:
    waiting: deque[Future[Cleaned]] = deque()
    for batch in batches:
        waiting.append(pool.submit(_clean, batch))
        if len(waiting) >= ahead:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


_worker: Worker


def _begin(job: Job) -> None:
    """Set up a worker process: it ignores Ctrl-C, which is its parent's to answer, and ends with its parent."""
    global _worker
    with contextlib.suppress(ValueError):
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = parent_process()
    if parent:
        threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    _worker = Worker(job)


def _end_with(parent: BaseProcess) -> None:
    parent.join()
    os._exit(1)


def _clean(batch: Batch) -> Cleaned:
    return _worker(batch)


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
