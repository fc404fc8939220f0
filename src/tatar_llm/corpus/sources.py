"""The list of sources, as data, and what a name or path on the command line stands for."""

from __future__ import annotations

import glob
from dataclasses import dataclass
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path

from tatar_llm.config import DEFAULT_SOURCE
from tatar_llm.errors import TatarLLMError, nearest
from tatar_llm.languages import Language

SAMPLE = "sample"
LEIPZIG_URLS = (
    "https://downloads.wortschatz-leipzig.de/corpora/",
    "https://wortschatz.uni-leipzig.de/download/",
)
LEIPZIG_FAMILIES = ("mixed-2015", "news-2015", "web-2018")
LEIPZIG_SIZES = ("10k", "30k", "100k", "300k", "1m")
PINNED = {
    "tat_mixed_2015_1M.tar.gz": (200_822_852, "c5a27c731116c2540a1053b8b9d6cb3a16134f519f0bf7535bca274173d01fc7"),
    "tat_news_2015_1M.tar.gz": (201_497_714, "e7421c8d036bfaf6ce5dec6b2a121b2c85a55ae1a26004e51b71202f6765b2d7"),
    "tat_web_2018_1M.tar.gz": (180_057_807, "de7816dbd8334ad9cd516be43ddca76e157316db9a53576dc3e813005d7b3f87"),
}
"""Archive -> size and SHA-256. For the other archives none is published: the first download is trusted and recorded."""

LOCAL_SUFFIXES = (
    ".txt", ".txt.gz", ".txt.xz", ".jsonl", ".jsonl.gz", ".jsonl.xz", ".tar", ".tar.gz", ".tar.xz", ".tgz", ".txz",
)


@dataclass(frozen=True)
class Remote:
    """A Leipzig archive to download."""

    name: str
    archive: str
    bytes: int | None = None
    sha256: str | None = None


@dataclass(frozen=True)
class Local:
    """A file that the user named."""

    name: str
    path: Path


@dataclass(frozen=True)
class Sample:
    """The texts inside the package: small, but always there."""

    name: str = SAMPLE

    def files(self) -> list[Traversable]:
        """The package's text files, sorted by name."""
        folder = resources.files("tatar_llm.corpus").joinpath("sample")
        return sorted((file for file in folder.iterdir() if file.name.endswith(".txt")), key=lambda file: file.name)


Source = Remote | Local | Sample


def leipzig_sources(language: Language) -> dict[str, Remote]:
    """Name -> archive of every Leipzig corpus on the list."""
    found = {}
    for family in LEIPZIG_FAMILIES:
        for size in LEIPZIG_SIZES:
            archive = f"{language.leipzig}_{family.replace('-', '_')}_{size.upper()}.tar.gz"
            name = f"leipzig-{family}-{size}"
            found[name] = Remote(name, archive, *PINNED.get(archive, (None, None)))
    return found


def source_names(language: Language) -> list[str]:
    """Every name that `--source` knows."""
    return [*leipzig_sources(language), *([SAMPLE] if language.code == "tat" else [])]


def resolve(names: tuple[str, ...], language: Language) -> list[Source]:
    """What the names and paths given with `--source` stand for, each file once, in the order given.

    Raises TatarLLMError for a name that is neither on the list nor an existing path, and for a folder or pattern
    without a readable file.
    """
    if not names:
        raise TatarLLMError(f"no source was given: name one, for example --source {DEFAULT_SOURCE}")
    known = leipzig_sources(language)
    found: dict[str, Source] = {}
    for name in names:
        if name in known:
            found[name] = known[name]
        elif name == SAMPLE:
            if language.code != "tat":
                raise TatarLLMError(f"the sample corpus is Tatar; for {language.english_name} give --source PATH")
            found[name] = Sample()
        else:
            for path in _local_files(name, language):
                found[str(path.resolve())] = Local(path.name, path)
    return list(found.values())


def _local_files(name: str, language: Language) -> list[Path]:
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
    names = source_names(language)
    raise TatarLLMError(f"no source or file {name!r}{nearest(name, names)}: the names are {', '.join(names)}")


def is_readable(path: Path) -> bool:
    """Whether the name ends like a kind of file that a reader knows."""
    return path.name.lower().endswith(LOCAL_SUFFIXES)
