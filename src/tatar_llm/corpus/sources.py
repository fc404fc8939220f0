"""The list of sources, as data in sources.toml, and what a name or path on the command line stands for."""

from __future__ import annotations

import functools
import glob
import os
import re
import tomllib
from collections import Counter
from dataclasses import dataclass
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

from tatar_llm.config import DEFAULT_SOURCE
from tatar_llm.errors import TatarLLMError, nearest
from tatar_llm.languages import Language

SAMPLE = "sample"
URLS_VARIABLE = "TATAR_LLM_LEIPZIG_URLS"
"""Environment variable: base URLs, separated by commas, to use instead of Leipzig's two."""
HUB_URL = "https://huggingface.co"
LOCAL_SUFFIXES = (
    ".txt", ".txt.gz", ".txt.xz", ".jsonl", ".jsonl.gz", ".jsonl.xz", ".parquet",
    ".tar", ".tar.gz", ".tar.xz", ".tgz", ".txz",
)  # fmt: skip
_ARCHIVE = re.compile(r"([a-z]{3})((?:-[a-z]+)?)_([a-z-]+)_(\d{4}(?:-\d{4})?)(?:_\d+[KM])?(?:\.tar\.gz)?")


@dataclass(frozen=True)
class Remote:
    """A Leipzig archive to download."""

    name: str
    archive: str
    bytes: int | None = None
    sha256: str | None = None
    """None: none is published, the first download is trusted and recorded."""
    what: str = ""
    licence: str = ""
    citation: str = ""


@dataclass(frozen=True)
class Shards:
    """The parquet files of a Hugging Face data set, or of the language's part of it."""

    name: str
    dataset: str
    files: str
    """Folder inside the data set, and a pattern: ``data/tat_Cyrl/train/*.parquet``."""
    config: str = ""
    """The language's part, where the set holds many languages."""
    bytes: int | None = None
    what: str = ""
    licence: str = ""
    citation: str = ""


@dataclass(frozen=True)
class Local:
    """A file that the user named."""

    name: str
    path: Path


@dataclass(frozen=True)
class Sample:
    """The texts inside the package: small, but always there."""

    name: str = SAMPLE
    what: str = ""
    licence: str = ""
    citation: str = ""

    def files(self) -> list[Traversable]:
        """The package's text files, sorted by name."""
        folder = resources.files("tatar_llm.corpus").joinpath("sample")
        return sorted((file for file in folder.iterdir() if file.name.endswith(".txt")), key=lambda file: file.name)


Source = Remote | Shards | Local | Sample


@functools.cache
def catalogue() -> dict[str, Any]:
    """sources.toml, as it stands there."""
    return tomllib.loads(resources.files("tatar_llm.corpus").joinpath("sources.toml").read_text(encoding="utf-8"))


def leipzig_urls() -> tuple[str, ...]:
    """The folders that hold Leipzig's archives, in the order in which to ask."""
    given = os.environ.get(URLS_VARIABLE, "")
    return tuple(url.strip() for url in given.split(",") if url.strip()) or tuple(catalogue()["leipzig"]["urls"])


def known_sources(language: Language) -> dict[str, Remote | Shards | Sample]:
    """Name -> source, of all on the list that hold this language."""
    found: dict[str, Remote | Shards | Sample] = {}
    for corpus, sizes in catalogue()["leipzig"]["corpora"].get(language.leipzig, {}).items():
        for size in sizes or [""]:
            genre, _, years = corpus.partition("-")
            stem = "_".join(filter(None, (language.leipzig, genre, years, size.upper())))
            name = "-".join(filter(None, ("leipzig", corpus, size)))
            found[name] = _archive(name, stem)
    for name, entry in catalogue()["huggingface"].items():
        config = getattr(language, entry["key"], "") if "key" in entry else ""
        if config or language.code in entry.get("languages", ()):
            found[name] = Shards(
                name, entry["dataset"], entry["files"].format(config=config), config, entry["bytes"].get(language.code),
                entry["what"], entry["licence"], entry["citation"],
            )  # fmt: skip
    sample = catalogue()[SAMPLE]
    if language.code in sample["languages"]:
        found[SAMPLE] = Sample(SAMPLE, sample["what"], sample["licence"], sample["citation"])
    return found


def _archive(name: str, stem: str) -> Remote:
    entry = catalogue()["leipzig"]
    archive = f"{stem}.tar.gz"
    pinned = entry["pinned"].get(archive, {})
    _, genre, years, *size = stem.split("_")
    count = {"K": "000", "M": "000,000"}
    sentences = f"{size[0][:-1]},{count[size[0][-1]]} sentences" if size else "sentences"
    what = f"{sentences}: {genre}, {years}"
    return Remote(name, archive, pinned.get("bytes"), pinned.get("sha256"), what, entry["licence"], entry["citation"])


def listing(language: Language) -> list[dict[str, Any]]:
    """A row {name, kind, bytes, licence, what, citation, reader, urls, sha256} for every source of a language."""
    rows = []
    for source in known_sources(language).values():
        size, sha256 = getattr(source, "bytes", None), getattr(source, "sha256", None)
        if isinstance(source, Remote):
            kind, entry, urls = "Leipzig archive", catalogue()["leipzig"], [url + source.archive for url in leipzig_urls()]
        elif isinstance(source, Shards):
            kind, entry = "Hugging Face", catalogue()["huggingface"][source.name]
            urls = [f"{HUB_URL}/datasets/{source.dataset}"]
        else:
            kind, entry, urls = "built in", catalogue()[SAMPLE], []
            size = sum(len(file.read_bytes()) for file in source.files())
        rows.append({
            "name": source.name, "kind": kind, "bytes": size, "licence": source.licence, "what": source.what,
            "citation": source.citation, "reader": entry["reader"], "urls": urls, "sha256": sha256,
        })  # fmt: skip
    return rows


def resolve(names: tuple[str, ...], language: Language) -> list[Source]:
    """What the names and paths given with `--source` stand for, each once, in the order given, under distinct names.

    A name is one of the list, a Leipzig archive's (``sah_wikipedia_2021_30K``), or a path. Raises TatarLLMError for a
    name that is none of these, and for a folder or pattern without a readable file.
    """
    if not names:
        raise TatarLLMError(f"no source was given: name one, for example --source {DEFAULT_SOURCE}")
    known = known_sources(language)
    found: dict[str, Source] = {}
    for name in names:
        if not name.strip():  # a shell variable that is not set; as a path it would be the whole current folder
            raise TatarLLMError("--source is empty: name a source, a file or a folder (. for this one)")
        if name in known:
            source = known[name]
            found[source.archive if isinstance(source, Remote) else name] = source
        elif name == SAMPLE:
            raise TatarLLMError(f"the sample corpus is Tatar; for {language.english_name} give --source PATH")
        elif (files := _local_files(name)) is not None:
            for path in files:
                found.setdefault(str(path.resolve()), Local(path.name, path))
        elif remote := _leipzig_archive(name, known, language):
            found[remote.archive] = remote
        else:
            raise TatarLLMError(_unknown(name, known, language))
    return _distinct(list(found.values()))


def _leipzig_archive(name: str, known: dict[str, Any], language: Language) -> Remote | None:
    match = _ARCHIVE.fullmatch(name)
    if not match:
        return None
    code = language.leipzig or language.code
    if match[1] + match[2] != code and match[1] != code:
        raise TatarLLMError(
            f"{name} is an archive of the language {match[1]!r}, not of {language.english_name}: add --language {match[1]}"
        )
    stem = name.removesuffix(".tar.gz")
    listed = [source for source in known.values() if isinstance(source, Remote) and source.archive == f"{stem}.tar.gz"]
    return listed[0] if listed else _archive(stem, stem)


def _unknown(name: str, known: dict[str, Any], language: Language) -> str:
    flag = "" if language.code == "tat" else f" --language {language.code}"
    hint = f"`tatar-llm prepare --list{flag}` shows the names"
    entry = catalogue()["huggingface"].get(name, {})
    if "key" in entry:
        return f"the language file of {language.english_name} does not name its part of {name}: add {entry['key']} = \"...\" to it"
    if "languages" in entry or name.startswith("leipzig-"):
        return f"there is no source {name!r} for {language.english_name}{nearest(name, known)}: {hint}; or give --source PATH"
    return f"no source or file {name!r}{nearest(name, known)}: {hint}"


def _local_files(name: str) -> list[Path] | None:
    """The files that a path or pattern stands for; None when it is neither."""
    path = Path(name).expanduser()
    if path.is_dir():
        files = sorted(file for file in path.rglob("*") if file.is_file() and is_readable(file))
        if not files:
            raise TatarLLMError(f"the folder {path} holds no file that can be read: {', '.join(LOCAL_SUFFIXES)}")
        return files
    if path.is_file():
        if not is_readable(path):
            raise TatarLLMError(f"{path} is of a kind that cannot be read: it must be one of {', '.join(LOCAL_SUFFIXES)}")
        return [path]
    if glob.has_magic(name):
        matches = sorted(Path(match) for match in glob.glob(str(path), recursive=True))
        files = [match for match in matches if match.is_file() and is_readable(match)]
        if not files:
            raise TatarLLMError(f"the pattern {name} matches no file that can be read: {', '.join(LOCAL_SUFFIXES)}")
        return files
    return None


def _distinct(sources: list[Source]) -> list[Source]:
    """The same sources; files that share a name carry their folder's too, and a number where that is not enough."""
    times = Counter(source.name for source in sources)
    taken = {name for name, count in times.items() if count == 1}
    found: list[Source] = []
    for source in sources:
        if isinstance(source, Local) and times[source.name] > 1:
            stem = name = f"{source.path.resolve().parent.name}/{source.name}"
            number = 2
            while name in taken:
                name = f"{stem} ({number})"
                number += 1
            taken.add(name)
            source = Local(name, source.path)
        found.append(source)
    return found


def is_readable(path: Path) -> bool:
    """Whether the name ends like a kind of file that a reader knows."""
    return path.name.lower().endswith(LOCAL_SUFFIXES)
