"""Sources made ready to be read: downloaded, verified, hashed; and the sample where the default one cannot be had."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path

from tatar_llm import console
from tatar_llm.config import DEFAULT_SOURCE, CorpusConfig
from tatar_llm.corpus.clean import Tally
from tatar_llm.corpus.download import Patience, SourceUnavailable, fetch
from tatar_llm.corpus.readers import blocks, decode, layout, read_documents
from tatar_llm.corpus.sources import Local, Remote, Sample, Source
from tatar_llm.errors import TatarLLMError
from tatar_llm.languages import Language
from tatar_llm.workspace import Workspace, sha256_file


@dataclass
class Input:
    """A source that is at hand, ready to be read."""

    name: str
    kind: str
    """"line" or "blank": see readers.layout."""
    sha256: str
    documents: Callable[[], Iterator[list[str]]]
    where: dict[str, str] = field(default_factory=dict)
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
                path, lock = fetch(source, workspace.raw, urls, patience)
            except SourceUnavailable as error:
                if not (fallback and config.source == (DEFAULT_SOURCE,) and language.code == "tat"):
                    raise
                console.say(f"{error}")
                why = (
                    f"The built-in sample corpus stands in because {source.name} could not be downloaded; "
                    f"run the same command with a connection to replace it."
                )
                return [_sample(Sample())], why
            inputs.append(_file(source.name, path, lock["sha256"], {"url": lock["url"]}))
        elif isinstance(source, Local):
            inputs.append(_file(source.name, source.path, sha256_file(source.path), {"file": source.path.name}))
        else:
            inputs.append(_sample(source))
    return inputs, None


def _file(name: str, path: Path, digest: str, where: dict[str, str]) -> Input:
    return Input(name, layout(path), digest, lambda: read_documents(path), where)


def _sample(sample: Sample) -> Input:
    texts = {file.name: file.read_bytes().replace(b"\r\n", b"\n") for file in sample.files()}
    if not texts:
        raise TatarLLMError("the package holds no sample texts: install it again, or give --source PATH")

    def documents() -> Iterator[list[str]]:
        for name, raw in texts.items():
            yield from blocks(iter(decode(raw, name, 0).split("\n")))

    whole = sha256(b"\n\n".join(texts.values())).hexdigest()
    return Input(sample.name, "blank", whole, documents, {"file": "built in"})


def identities(sources: list[Source], workspace: Workspace) -> list[tuple[str, str]] | None:
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
        else:
            digest = sha256_file(source.path) if isinstance(source, Local) else _sample(source).sha256
        if not digest:
            return None
        found.append((source.name, digest))
    return found
