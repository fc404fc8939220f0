"""The stage `prepare`: sources in, train.txt, val.txt, manifest and report out."""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tatar_llm import console
from tatar_llm.config import CorpusConfig, as_dict
from tatar_llm.corpus import split
from tatar_llm.corpus.clean import CLEANING_VERSION, DROPPING
from tatar_llm.corpus.download import PATIENCE, Patience
from tatar_llm.corpus.inputs import Input, gather, identities
from tatar_llm.corpus.language import cld2
from tatar_llm.corpus.lock import process_lives
from tatar_llm.corpus.overlap import LEAST, Overlap
from tatar_llm.corpus.plots import draw
from tatar_llm.corpus.readers import read_documents
from tatar_llm.corpus.report import build_report, remarks, render
from tatar_llm.corpus.sources import LOCAL_SUFFIXES, is_readable, resolve
from tatar_llm.corpus.spool import Kept, Spool
from tatar_llm.corpus.statistics import Statistics
from tatar_llm.corpus.worker import Batch, Job, clean_batches
from tatar_llm.errors import TatarLLMError, explain_os_error
from tatar_llm.languages import LANGUAGE_FILE, Language, load_language
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
    overlap = holdout(config)
    workspace.ensure_writable()
    with _said_plainly(workspace):
        sources = resolve(config.source, language)
        known = identities(sources, workspace, config.sample_size)
        if known and not force and (done := finished(workspace, _fingerprint(config, language, known, None, overlap))):
            _say_skipped(done, workspace, None)
            return done
        inputs, why = gather(config, language, sources, workspace, fallback, urls, patience)
        if on_ready:
            on_ready()
        key = _fingerprint(config, language, [(given.name, given.sha256) for given in inputs], why, overlap)
        if not force and (done := finished(workspace, key)):
            _say_skipped(done, workspace, why)
            return done
        return _run(config, workspace, language, inputs, overlap, why, key, started)


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
    for name, low, high in (("val_share", 0.0, 0.5), ("min_cyrillic", 0.0, 1.0), ("near_threshold", 0.0, 1.0)):
        value = getattr(config, name)
        if not low <= value <= high or (name == "val_share" and value == 0):
            raise TatarLLMError(f"{name} is {value}: it must lie between {low:g} and {high:g}")
    if not 0 <= config.min_chars <= config.max_chars:
        raise TatarLLMError(f"min_chars is {config.min_chars} and max_chars {config.max_chars}: they leave no line")
    if config.near_threshold and config.near_threshold < 0.5:
        raise TatarLLMError(f"near_threshold is {config.near_threshold}: below 0.5 texts are not repeats; 0 keeps all")
    if config.processes < 0:
        raise TatarLLMError(f"processes is {config.processes}: it must be 0 (all cores) or more")
    if config.sample_size < 0:
        raise TatarLLMError(f"sample_size is {config.sample_size}: it must be 0 (hand-written texts alone) or more")
    if config.limit_bytes < 0:
        raise TatarLLMError(f"limit_bytes is {config.limit_bytes}: it must be 0 (no limit) or more")


def _fingerprint(
    config: CorpusConfig, language: Language, inputs: list[tuple[str, str]], why: str | None, overlap: Overlap
) -> str:
    settings = as_dict(config)
    del settings["processes"]  # the text does not depend on their number
    del settings["sample_size"]  # the hash of the generated text tells it
    return fingerprint({
        "version": CLEANING_VERSION,
        "settings": settings,
        "holdout": sorted(overlap.grams),
        "cld2": cld2() is not None,
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
    config: CorpusConfig, workspace: Workspace, language: Language, inputs: list[Input], overlap: Overlap, why: str | None,
    key: str, started: float,
) -> dict[str, Any]:
    document = "line" if all(given.kind == "line" for given in inputs) else "blank"
    workspace.processed.mkdir(parents=True, exist_ok=True)
    _clear_leftovers(workspace)
    between = workspace.processed / f".between.{os.getpid()}.tmp"
    with contextlib.ExitStack() as stack:
        paths = {
            "train": stack.enter_context(whole_file(workspace.train_text)),
            "val": stack.enter_context(whole_file(workspace.val_text)),
            "between": between,
        }
        stack.callback(lambda: between.unlink(missing_ok=True))
        job = Job(language, config, overlap, cld2() is not None)
        with Spool(workspace.processed / f".spool.{os.getpid()}.tmp", config.near_threshold) as spool:
            _clean(job, inputs, spool)
            console.say("looking for repeats in the whole text")
            stays = spool.find_repeats([given.tally for given in inputs])
            statistics = _write_parts(config, inputs, spool.kept(stays), paths, document)
        generated = sum(given.tally.bytes for given in inputs if given.generated)
        small = paths["train"].stat().st_size + between.stat().st_size - generated < split.SMALL_BYTES
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
            "corpus": corpus_name([given.name for given in inputs if not given.generated]),
            "document": document,
            "sources": [
                {"name": given.name, "documents": given.tally.kept_documents, "lines": given.tally.kept_lines,
                 "bytes": given.tally.bytes, **given.where, "sha256": given.sha256}
                for given in inputs
            ],
            "fallback": why,
            "cld2": job.use_cld2,
            "holdout": _holdout_rows(overlap, inputs),
            "small": paths["train"].stat().st_size - generated < split.SMALL_BYTES,
            "generated_bytes": generated,
            **{name: {**statistics[name].totals(), "bytes": paths[name].stat().st_size, "sha256": sha256_file(paths[name])}
               for name in ("train", "val")},
            "seconds": round(time.monotonic() - started, 1),
        }
    whole = Statistics()
    for part in statistics.values():
        whole.merge(part)
    report = build_report(manifest, {given.name: given.tally for given in inputs}, whole, language)
    write_json(workspace.processed / "report.json", report)
    draw(report, workspace.processed / "report.png")
    write_text(workspace.processed / "report.md", render(report))
    own_language = workspace.processed / LANGUAGE_FILE
    if config.language.endswith(".toml"):
        write_text(own_language, Path(config.language).expanduser().read_text(encoding="utf-8"))
    else:
        own_language.unlink(missing_ok=True)
    write_json(workspace.corpus_manifest, manifest)  # last: it says that all the others are whole
    _say_done(manifest, inputs, workspace)
    return manifest


def _clear_leftovers(workspace: Workspace) -> None:
    """What a run that was killed left behind; a run that is still going on has written to its files within the hour."""
    for path in workspace.processed.glob(".*.tmp"):
        with contextlib.suppress(OSError):
            newest = max((file.stat().st_mtime for file in path.rglob("*")), default=path.stat().st_mtime)
            number = path.name.split(".")[-2]
            if time.time() - newest < 3600 and not (number.isdigit() and not process_lives(int(number))):
                continue
            shutil.rmtree(path) if path.is_dir() else path.unlink()


def _clean(job: Job, inputs: list[Input], spool: Spool) -> None:
    """Read every source and write what the rules on lines and documents leave of it to the spool."""
    limit = job.config.limit_bytes
    read = cleaned_bytes = 0
    with console.progress("cleaning", None, "lines") as advance, contextlib.ExitStack() as stack:
        for number, given in enumerate(inputs):
            spool.begin_source(given.kind == "line")
            # a limit stops in the middle: close the archive and the processes
            found = stack.enter_context(contextlib.closing(given.batches()))
            batches = (Batch(number, given.kind == "line", documents, given.generated) for documents in found)
            for cleaned in stack.enter_context(contextlib.closing(clean_batches(batches, job))):
                spool.write(cleaned)
                given.tally.merge(cleaned.tally)
                read += cleaned.tally.lines
                cleaned_bytes += len(cleaned.text)
                advance(read)
                if limit and cleaned_bytes > limit + limit // 10:  # repeats come off later
                    return


def _write_parts(
    config: CorpusConfig, inputs: list[Input], documents: Iterator[Kept], paths: dict[str, Path], document: str
) -> dict[str, Statistics]:
    """Write every document to the file of its part."""
    statistics = {name: Statistics() for name in PARTS}
    end = "\n" if document == "line" else "\n\n"
    kept_bytes = 0
    with contextlib.ExitStack() as stack:
        files = {name: stack.enter_context(open(path, "wb")) for name, path in paths.items()}
        for block in documents:
            tally = inputs[block.source].tally
            parts: dict[str, list[list[str]]] = {name: [] for name in PARTS}
            written = 0
            for lines, position in zip(block.documents, block.positions, strict=True):
                if config.limit_bytes and kept_bytes >= config.limit_bytes:
                    tally.drop("beyond the limit", lines[0], len(lines))
                    continue
                parts[split.part(position, config.val_share)].append(lines)
                tally.kept_documents += 1
                tally.kept_lines += len(lines)
                if config.limit_bytes:
                    kept_bytes += len("\n".join(lines).encode()) + len(end)
            for name, found in parts.items():
                if found:
                    text = (end.join("\n".join(lines) for lines in found) + end).encode()
                    files[name].write(text)
                    statistics[name].add(found)
                    written += len(text)
            tally.bytes += written
    return statistics


def holdout(config: CorpusConfig) -> Overlap:
    """The evaluation texts that the user named."""
    overlap = Overlap()
    for name in config.holdout:
        path = Path(name).expanduser()
        if not path.is_file() or not is_readable(path):
            raise TatarLLMError(f"--holdout {name}: no file of a kind that can be read ({', '.join(LOCAL_SUFFIXES)})")
        overlap.add(path.name, (line for lines in read_documents(path) for line in lines))
        if not overlap.texts[-1]:
            raise TatarLLMError(f"--holdout {name}: no line of {LEAST} words or more to search for")
    return overlap


def _holdout_rows(overlap: Overlap, inputs: list[Input]) -> list[dict[str, Any]]:
    return [{"file": name, "texts": texts, "lines_removed": sum(given.tally.details.get("evaluation text", {}).get(name, 0) for given in inputs)}
            for name, texts in zip(overlap.names, overlap.texts, strict=True)]  # fmt: skip


def corpus_name(names: list[str]) -> str:
    """A name for cards and plots; a folder of a hundred files is not spelled out."""
    return " + ".join(names) if len(names) <= 4 else " + ".join(names[:3]) + f" + {len(names) - 3} more"


def _check_enough(inputs: list[Input], statistics: dict[str, Statistics]) -> None:
    lines = sum(given.tally.lines + given.tally.changed["long line"] - given.tally.dropped["empty"] for given in inputs)
    name = corpus_name([given.name for given in inputs])
    train, val = statistics["train"].documents, statistics["val"].documents
    if not lines:
        raise TatarLLMError(f"{name} is empty: it holds no line of text")
    if not train + val:
        rules = {rule: sum(given.tally.dropped[rule] for given in inputs) for rule in DROPPING}
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
