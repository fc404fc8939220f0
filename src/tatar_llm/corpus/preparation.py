"""The stage `prepare`: sources in, train.txt, val.txt, manifest and report out."""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TextIO

from tatar_llm import console
from tatar_llm.config import CorpusConfig, as_dict
from tatar_llm.corpus import split
from tatar_llm.corpus.clean import CLEANING_VERSION, Cleaner, Tally
from tatar_llm.corpus.dedup import LONG_LINE, Repeats
from tatar_llm.corpus.download import PATIENCE, Patience
from tatar_llm.corpus.inputs import Input, gather, identities
from tatar_llm.corpus.report import build_report, remarks, render
from tatar_llm.corpus.sources import resolve
from tatar_llm.corpus.statistics import Statistics
from tatar_llm.errors import TatarLLMError, explain_os_error
from tatar_llm.languages import Language, load_language
from tatar_llm.workspace import Workspace, fingerprint, sha256_file, whole_file, write_json, write_text

PARTS = ("train", "val", "between")


def prepare(
    config: CorpusConfig,
    workspace: Workspace,
    *,
    force: bool = False,
    fallback: bool = False,
    urls: tuple[str, ...] | None = None,
    patience: Patience = PATIENCE,
    on_ready: Callable[[], None] | None = None,
) -> dict[str, Any]:
    """Make data/processed from the sources and return the manifest that is written there.

    Skips when settings, inputs and the finished files have not changed, unless `force`. With `fallback` (the user
    named no source) the built-in sample stands in when the default source cannot be had and the language is Tatar.
    `urls` and `patience` are passed on to the download; `on_ready` is called when it is over.

    Raises TatarLLMError when a source cannot be had or read, or when too little text is left.
    """
    started = time.monotonic()
    _check(config)
    language = load_language(config.language)
    workspace.ensure_writable()
    with _said_plainly(workspace):
        sources = resolve(config.source, language)
        known = identities(sources, workspace)
        if known and not force and (done := finished(workspace, _fingerprint(config, language, known, None))):
            _say_skipped(done, workspace, None)
            return done
        inputs, why = gather(config, language, sources, workspace, fallback, urls, patience)
        if on_ready:
            on_ready()
        key = _fingerprint(config, language, [(given.name, given.sha256) for given in inputs], why)
        if not force and (done := finished(workspace, key)):
            _say_skipped(done, workspace, why)
            return done
        return _run(config, workspace, language, inputs, why, key, started)


def finished(workspace: Workspace, wanted: str) -> dict[str, Any] | None:
    """The manifest of an earlier run if it has this fingerprint and its two files are still what it says."""
    manifest = workspace.manifest(workspace.corpus_manifest)
    if not manifest or manifest.get("fingerprint") != wanted:
        return None
    for name, path in (("train", workspace.train_text), ("val", workspace.val_text)):
        said = manifest[name]  # the fingerprint shows that this program wrote it
        if not path.is_file() or path.stat().st_size != said.get("bytes") or sha256_file(path) != said.get("sha256"):
            return None
    return manifest


def _check(config: CorpusConfig) -> None:
    for name, low, high in (("val_share", 0.0, 0.5), ("min_cyrillic", 0.0, 1.0)):
        value = getattr(config, name)
        if not low <= value <= high or (name == "val_share" and value == 0):
            raise TatarLLMError(f"{name} is {value}: it must lie between {low:g} and {high:g}")
    if not 0 <= config.min_chars <= config.max_chars:
        raise TatarLLMError(f"min_chars is {config.min_chars} and max_chars {config.max_chars}: they leave no line")
    if config.limit_bytes < 0:
        raise TatarLLMError(f"limit_bytes is {config.limit_bytes}: it must be 0 (no limit) or more")


def _fingerprint(config: CorpusConfig, language: Language, inputs: list[tuple[str, str]], why: str | None) -> str:
    return fingerprint({
        "version": CLEANING_VERSION,
        "settings": as_dict(config),
        "language": as_dict(language),
        "inputs": inputs,
        "fallback": bool(why),
    })


def _say_skipped(manifest: dict[str, Any], workspace: Workspace, why: str | None) -> None:
    train = manifest["train"]
    size = f"{train['documents']:,} documents, {console.human_bytes(train['bytes'])} of training text"
    console.say(f"the corpus in {workspace.processed} is up to date ({size}): nothing to do")
    if why:
        console.say(why)


@contextlib.contextmanager
def _said_plainly(workspace: Workspace) -> Iterator[None]:
    """The operating system's refusals (disk full, no permission) in one line."""
    try:
        yield
    except OSError as error:
        raise TatarLLMError(f"the corpus cannot be written to {workspace.processed}: {explain_os_error(error)}") from error


def _run(
    config: CorpusConfig, workspace: Workspace, language: Language, inputs: list[Input], why: str | None, key: str,
    started: float,
) -> dict[str, Any]:
    document = "line" if all(given.kind == "line" for given in inputs) else "blank"
    between = workspace.processed / f".between.{os.getpid()}.tmp"
    with contextlib.ExitStack() as stack:
        paths = {
            "train": stack.enter_context(whole_file(workspace.train_text)),
            "val": stack.enter_context(whole_file(workspace.val_text)),
            "between": between,
        }
        stack.callback(lambda: between.unlink(missing_ok=True))
        statistics = _write_parts(config, language, inputs, paths, document)
        small = paths["train"].stat().st_size + between.stat().st_size < split.SMALL_BYTES
        home = "val" if small else "train"
        with open(paths[home], "ab") as file, open(between, "rb") as rest:
            shutil.copyfileobj(rest, file, 1 << 20)
        statistics[home].merge(statistics.pop("between"))
        _check_enough(inputs, statistics)
        manifest = {
            "stage": "prepare",
            "fingerprint": key,
            "settings": as_dict(config),
            "language": language.code,
            "corpus": corpus_name([given.name for given in inputs]),
            "document": document,
            "sources": [
                {"name": given.name, "documents": given.tally.kept_documents, "lines": given.tally.kept_lines,
                 "bytes": given.tally.bytes, **given.where, "sha256": given.sha256}
                for given in inputs
            ],
            "fallback": why,
            "small": paths["train"].stat().st_size < split.SMALL_BYTES,
            **{name: {**statistics[name].totals(), "bytes": paths[name].stat().st_size, "sha256": sha256_file(paths[name])}
               for name in ("train", "val")},
            "seconds": round(time.monotonic() - started, 1),
        }
    whole = Statistics()
    for part in statistics.values():
        whole.merge(part)
    report = build_report(manifest, _by_name(inputs), whole, language)
    write_json(workspace.processed / "report.json", report)
    write_text(workspace.processed / "report.md", render(report))
    write_json(workspace.corpus_manifest, manifest)  # last: it says that all the others are whole
    _say_done(manifest, inputs, workspace)
    return manifest


def _write_parts(
    config: CorpusConfig, language: Language, inputs: list[Input], paths: dict[str, Path], document: str
) -> dict[str, Statistics]:
    """Read, clean, drop repeats, and write every document to the file of its part."""
    cleaner = Cleaner(language, config)
    lines_seen, documents_seen = Repeats(), Repeats()
    statistics = {name: Statistics() for name in PARTS}
    end = "\n" if document == "line" else "\n\n"
    read = kept_bytes = 0
    with contextlib.ExitStack() as stack:
        files: dict[str, TextIO] = {
            name: stack.enter_context(open(path, "w", encoding="utf-8", newline="\n", buffering=1 << 18))
            for name, path in paths.items()
        }
        advance = stack.enter_context(console.progress("cleaning", None, "lines"))
        for given in inputs:
            tally = given.tally
            with contextlib.closing(given.documents()) as documents:  # a limit stops in the middle: close the archive
                for lines in documents:
                    read += len(lines)
                    if read % 4096 < len(lines):
                        advance(read)
                    found = clean_document(lines, given.kind == "line", cleaner, lines_seen, documents_seen, tally)
                    if found is None:
                        continue
                    kept, home = found[0], split.part(found[1], config.val_share)
                    text = "\n".join(kept) + end
                    files[home].write(text)
                    statistics[home].add(kept)
                    size = len(text.encode())
                    tally.bytes += size
                    kept_bytes += size
                    if config.limit_bytes and kept_bytes >= config.limit_bytes:
                        return statistics
    return statistics


def clean_document(
    lines: list[str], listed: bool, cleaner: Cleaner, lines_seen: Repeats, documents_seen: Repeats, tally: Tally
) -> tuple[list[str], str] | None:
    """The lines to keep and the text that decides the split, or None when nothing is left.

    The split is decided before repeated lines are taken out, so that it does not depend on what was read earlier.
    """
    tally.documents += 1
    tally.lines += len(lines)
    kept = [line for line in (cleaner.clean(line, listed, tally) for line in lines) if line is not None]
    if not kept:
        return None
    text = "\n".join(kept)
    if not listed and documents_seen.seen(text):
        tally.drop("repeated document", kept[0], len(kept))
        return None
    fresh = []
    for line in kept:
        if (listed or len(line) >= LONG_LINE) and lines_seen.seen(line):
            tally.drop("repeated line", line)
        else:
            fresh.append(line)
    if not fresh:
        return None
    tally.kept_documents += 1
    tally.kept_lines += len(fresh)
    return fresh, text


def corpus_name(names: list[str]) -> str:
    """A name for cards and plots; a folder of a hundred files is not spelled out."""
    return " + ".join(names) if len(names) <= 4 else " + ".join(names[:3]) + f" + {len(names) - 3} more"


def _by_name(inputs: list[Input]) -> dict[str, Tally]:
    """Tallies under distinct names: two files in different folders may share theirs."""
    found: dict[str, Tally] = {}
    for given in inputs:
        name = given.name
        number = 2
        while name in found:
            name = f"{given.name} ({number})"
            number += 1
        found[name] = given.tally
    return found


def _check_enough(inputs: list[Input], statistics: dict[str, Statistics]) -> None:
    lines = sum(given.tally.lines - given.tally.dropped["empty"] for given in inputs)
    name = corpus_name([given.name for given in inputs])
    train, val = statistics["train"].documents, statistics["val"].documents
    if not lines:
        raise TatarLLMError(f"{name} is empty: it holds no line of text")
    if not train + val:
        rules = {rule: sum(given.tally.dropped[rule] for given in inputs) for rule in inputs[0].tally.dropped}
        worst = max(rules, key=lambda rule: rules[rule])
        raise TatarLLMError(
            f"nothing is left of {name}: all {lines:,} lines were dropped, most of them ({rules[worst]:,}) by the rule "
            f"{worst!r}; give other text, or change --min_chars, --max_chars, --min_cyrillic"
        )
    if not train or not val:
        raise TatarLLMError(
            f"the corpus {name} is too small: after cleaning it gives {train} documents for training and {val} for "
            f"validation, and each needs at least one; add text (a few hundred sentences at least)"
        )


def _say_done(manifest: dict[str, Any], inputs: list[Input], workspace: Workspace) -> None:
    read = sum(given.tally.lines for given in inputs)
    train, val = manifest["train"], manifest["val"]
    console.say(
        f"corpus {manifest['corpus']}: {train['lines'] + val['lines']:,} of {read:,} lines kept, "
        f"{console.human_bytes(train['bytes'])} for training, {console.human_bytes(val['bytes'])} for validation "
        f"({console.human_time(manifest['seconds'])}); details in {workspace.processed / 'report.md'}"
    )
    for sentence in remarks(manifest):
        console.say(sentence)
