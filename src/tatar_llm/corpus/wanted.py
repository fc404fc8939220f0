"""A file that is wanted: what it should be, whether it is that, and what is written beside it."""

from __future__ import annotations

import contextlib
import gzip
import os
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tatar_llm import console
from tatar_llm.workspace import read_json, sha256_file, write_json

MAGIC = {"gzip": b"\x1f\x8b", "parquet": b"PAR1"}


class Refused(Exception):
    """The answer is not the file: the next mirror is asked. What came from others is kept."""


class Wrong(Refused):
    """What arrived is not the file, or not the version of which a part is here."""


@dataclass(frozen=True)
class Wanted:
    """A file to fetch and what is known of it."""

    name: str
    """What messages call it."""
    file: str
    """Its name in the folder."""
    urls: tuple[str, ...]
    """Where it may lie, in the order in which to ask."""
    bytes: int | None = None
    sha256: str | None = None
    """None: the first download is trusted and recorded."""
    kind: str = "gzip"
    """gzip or parquet: how the file must begin, and how the whole is checked where no SHA-256 is known."""
    token: str = field(default="", repr=False)
    """Shown to the hosts of `urls`, not to those they redirect to."""
    denied: str = ""
    """What the user can do about an answer 401 or 403."""


def remembered(wanted: Wanted, folder: Path) -> dict[str, Any] | None:
    """The lock of a file that was verified once and has not been touched since, or None."""
    target = folder / wanted.file
    lock = _read_lock(target)
    if not lock or not target.is_file():
        return None
    state = target.stat()
    same = lock.get("bytes") == state.st_size and lock.get("mtime_ns") == state.st_mtime_ns
    return lock if same and lock.get("sha256") == (wanted.sha256 or lock.get("sha256")) else None


def verified(wanted: Wanted, folder: Path) -> dict[str, Any] | None:
    """The lock of a file that already lies in `folder` and is what it should be, or None. Hashes it once."""
    target = folder / wanted.file
    lock = remembered(wanted, folder)
    if lock or not target.is_file():
        return lock
    lock = _read_lock(target)
    should_be = wanted.sha256 or lock.get("sha256")
    sha256 = sha256_file(target)
    if should_be and sha256 != should_be:
        console.say(f"{target} is not the file it should be (its SHA-256 differs): it is downloaded again")
        return None
    if not should_be:
        try:
            check_whole(target, wanted.kind)
        except Refused as error:
            console.say(f"{target} is {error}: it is downloaded again")
            return None
    return write_lock(target, lock.get("url", ""), sha256)


def _lock_path(target: Path) -> Path:
    return target.with_name(f"{target.name}.lock.json")


def _read_lock(target: Path) -> dict[str, Any]:
    return _read(_lock_path(target))


def write_lock(target: Path, url: str, sha256: str) -> dict[str, Any]:
    state = target.stat()
    lock = {"url": url, "bytes": state.st_size, "sha256": sha256, "mtime_ns": state.st_mtime_ns}
    write_json(_lock_path(target), lock)
    return lock


def origin_path(part: Path) -> Path:
    return part.with_name(f"{part.name}.json")


def aside(part: Path) -> Path:
    """Where a file is fetched anew while a part of it is kept."""
    return part.with_name(f"{part.name}.anew")


def read_origin(part: Path) -> dict[str, Any]:
    """{url, validator, total} of the part's newest piece; validator is the ETag, or the date, of the whole file."""
    return _read(origin_path(part))


def _read(path: Path) -> dict[str, Any]:
    with contextlib.suppress(OSError, ValueError):
        found = read_json(path)
        return found if isinstance(found, dict) else {}
    return {}


def forget(part: Path) -> None:
    part.unlink(missing_ok=True)
    origin_path(part).unlink(missing_ok=True)


def check_head(chunk: bytes, kind: str) -> None:
    if chunk.lstrip().startswith(b"<"):
        raise Refused("a web page came instead of the file")
    if not chunk.startswith(MAGIC[kind][: len(chunk)]):
        raise Refused(f"what came is not a {kind} file")


def check_whole(path: Path, kind: str) -> None:
    """Where no checksum is published, gzip's own must hold: unpack once without keeping anything. Parquet has none."""
    if kind == "parquet":
        with open(path, "rb") as file:
            whole = file.read(4) == MAGIC[kind] and file.seek(-4, os.SEEK_END) and file.read(4) == MAGIC[kind]
        if not whole:
            raise Wrong("a damaged parquet file")
        return
    try:
        with gzip.open(path) as file:
            while file.read(1 << 20):
                pass
    except (OSError, EOFError, zlib.error) as error:
        raise Wrong(f"a damaged archive ({error})") from None
