"""Sources made ready to be read: downloaded, verified, hashed; and the sample where the default one cannot be had."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path

from tatar_llm import console
from tatar_llm.config import DEFAULT_SOURCE, CorpusConfig
from tatar_llm.corpus.clean import Tally
from tatar_llm.corpus.download import Patience, SourceUnavailable, fetch
from tatar_llm.corpus.lines import decode
from tatar_llm.corpus.readers import blocks, layout, read_batches
from tatar_llm.corpus.sources import Local, Remote, Sample, Shards, Source, leipzig_urls
from tatar_llm.corpus.wanted import Wanted
from tatar_llm.errors import TatarLLMError
from tatar_llm.grammar.generate import documents, fingerprint
from tatar_llm.languages import Language
from tatar_llm.workspace import Workspace, sha256_file

GENERATED = "grammar"
"""Name of the generated texts among the sources."""
GENERATED_BATCH = 2000


@dataclass
class Input:
    """A source that is at hand, ready to be read."""

    name: str
    kind: str
    """"line" or "blank": see readers.layout."""
    sha256: str
    batches: Callable[[], Generator[list[list[str]], None, None]]
    """Its documents, each a list of lines, gathered in lists of about 1 MiB."""
    where: dict[str, str] = field(default_factory=dict)
    generated: bool = False
    """Made by the grammar: for training only, and its sentences may resemble each other."""
    tally: Tally = field(default_factory=Tally)


def gather(
    config: CorpusConfig, language: Language, sources: list[Source], workspace: Workspace, fallback: bool,
    urls: tuple[str, ...] | None, patience: Patience,
) -> tuple[list[Input], str | None]:
    """Every source at hand (downloaded, verified, hashed), and why the sample stands in, if it does."""
    inputs = []
    for source in sources:
        if isinstance(source, Remote):
            try:
                inputs.append(_leipzig(source, workspace, urls or leipzig_urls(), patience))
            except SourceUnavailable as error:
                if not (fallback and config.source == (DEFAULT_SOURCE,) and language.code == "tat"):
                    raise
                console.say(f"{error}")
                why = (
                    f"The built-in sample corpus stands in because {source.name} could not be downloaded; "
                    f"run the same command with a connection to replace it."
                )
                return _sample(Sample(), config.sample_size), why
        elif isinstance(source, Shards):
            inputs.append(_shards(source, workspace, config.limit_bytes, patience))
        elif isinstance(source, Local):
            inputs.append(_files(source.name, [source.path], sha256_file(source.path), {"file": source.path.name}))
        else:
            inputs += _sample(source, config.sample_size)
    return inputs, None


def _leipzig(source: Remote, workspace: Workspace, folders: tuple[str, ...], patience: Patience) -> Input:
    urls = tuple(f"{folder.rstrip('/')}/{source.archive}" for folder in folders)
    path, lock = fetch(Wanted(source.name, source.archive, urls, source.bytes, source.sha256), workspace.raw, patience)
    return _files(source.name, [path], lock["sha256"], {"url": lock["url"], "licence": source.licence})


def _shards(source: Shards, workspace: Workspace, limit_bytes: int, patience: Patience) -> Input:
    from tatar_llm.corpus import hub

    paths, found = hub.fetch_shards(source, workspace.raw, limit_bytes, patience)
    digest = hub.identity(found, limit_bytes) or sha256("".join(map(sha256_file, paths)).encode()).hexdigest()
    url = f"{hub.site()}/datasets/{source.dataset}/tree/{found['commit']}"
    return _files(source.name, paths, digest, {"url": url, "licence": source.licence})


def _files(name: str, paths: list[Path], digest: str, where: dict[str, str]) -> Input:
    kind = layout(paths[0])

    def batches() -> Generator[list[list[str]], None, None]:
        for path in paths:
            yield from read_batches(path, kind)

    return Input(name, kind, digest, batches, where)


def _sample(sample: Sample, generated: int) -> list[Input]:
    """The hand-written texts, and `generated` bytes of the grammar's."""
    return [_handwritten(sample), *([_generated(generated)] if generated else [])]


def _handwritten(sample: Sample) -> Input:
    texts = {file.name: file.read_bytes().replace(b"\r\n", b"\n") for file in sample.files()}
    if not texts:
        raise TatarLLMError("the package holds no sample texts: install it again, or give --source PATH")

    def batches() -> Generator[list[list[str]], None, None]:
        for name, raw in texts.items():
            yield list(blocks(decode(raw, name, 0).split("\n")))

    whole = sha256(b"\n\n".join(texts.values())).hexdigest()
    return Input(sample.name, "blank", whole, batches, {"file": "built in"})


def _generated(size: int) -> Input:
    def batches() -> Generator[list[list[str]], None, None]:
        found = documents(size)
        while batch := list(itertools.islice(found, GENERATED_BATCH)):
            yield batch

    digest = sha256(f"{fingerprint()} {size}".encode()).hexdigest()
    return Input(GENERATED, "blank", digest, batches, {"file": f"generated, {size:,} bytes"}, generated=True)


def identities(sources: list[Source], workspace: Workspace, sample_size: int) -> list[tuple[str, str]] | None:
    """Name and SHA-256 of the sources without asking the network, or None when one is not known.

    A finished corpus needs its download no longer: who deleted data/raw to save space keeps the corpus, also offline.
    """
    manifest = workspace.manifest(workspace.corpus_manifest) or {}
    rows = manifest.get("sources")
    remembered = {row["name"]: row.get("sha256") for row in rows if "name" in row} if isinstance(rows, list) else {}
    found = []
    for source in sources:
        if isinstance(source, Remote):
            digest = source.sha256 or remembered.get(source.name)
        elif isinstance(source, Shards):
            digest = remembered.get(source.name)
        elif isinstance(source, Local):
            digest = sha256_file(source.path)
        else:
            found += [(given.name, given.sha256) for given in _sample(source, sample_size)]
            continue
        if not digest:
            return None
        found.append((source.name, digest))
    return found
