"""Fetches an archive into data/raw: resumable, verified before it gets its name, quick to notice that there is no net."""

from __future__ import annotations

import contextlib
import os
import threading
import time
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tatar_llm import console
from tatar_llm.corpus.sources import LEIPZIG_URLS, Remote
from tatar_llm.errors import TatarLLMError, explain_os_error
from tatar_llm.workspace import read_json, sha256_file, write_json

URLS_VARIABLE = "TATAR_LLM_LEIPZIG_URLS"
"""Environment variable: base URLs, separated by commas, to use instead of Leipzig's two."""
CHUNK = 1 << 18


class SourceUnavailable(TatarLLMError):
    """A source could not be fetched: no network, a wrong answer, a damaged file."""


class _Refused(Exception):
    """The answer is not the archive: what came is thrown away and the next mirror asked."""


class _Lost(Exception):
    """The connection failed or broke: what came is kept."""


@dataclass(frozen=True)
class Patience:
    """How long to wait for what, in seconds. A machine without a network waits `connect` once per mirror."""

    connect: float = 6.0
    stall: float = 30.0
    backoff: float = 1.0
    retries: int = 5


PATIENCE = Patience()


def fetch(
    source: Remote, folder: Path, urls: tuple[str, ...] | None = None, patience: Patience = PATIENCE
) -> tuple[Path, dict[str, Any]]:
    """The verified archive in `folder` and its lock {url, bytes, sha256, mtime_ns}; without network if it is there.

    A broken download leaves ``NAME.part`` and goes on from there, also in a later process. Raises SourceUnavailable
    when no mirror gave the archive, TatarLLMError when the disk refuses.
    """
    target = folder / source.archive
    lock = verified(source, folder)
    if lock:
        return target, lock
    folder.mkdir(parents=True, exist_ok=True)
    reasons = []
    for base in urls or mirrors():
        url = base.rstrip("/") + "/" + source.archive
        part = folder / f"{source.archive}.part"
        try:
            sha256 = _from_mirror(source, url, part, patience)
        except _Refused as error:
            part.unlink(missing_ok=True)
            reasons.append(f"{_host(url)}: {error}")
            continue
        except _Lost as error:
            reasons.append(f"{_host(url)}: {error}")
            continue
        os.replace(part, target)
        return target, _write_lock(target, url, sha256)
    part = folder / f"{source.archive}.part"
    kept = ""
    if part.exists():
        kept = f"; the {console.human_bytes(part.stat().st_size)} that arrived are kept in {part} and the next try goes on from there"
    raise SourceUnavailable(
        f"{source.name} could not be downloaded ({'; '.join(reasons)}){kept}: check the connection and run the same "
        f"command again, or give a file of your own with --source PATH"
    )


def verified(source: Remote, folder: Path) -> dict[str, Any] | None:
    """The lock of an archive that already lies in `folder` and is what it should be, or None. Hashes it once."""
    target = folder / source.archive
    if not target.is_file():
        return None
    state = target.stat()
    lock: dict[str, Any] = {}
    with contextlib.suppress(OSError, ValueError):
        found = read_json(_lock_path(target))
        lock = found if isinstance(found, dict) else {}
    wanted = source.sha256 or lock.get("sha256")
    if lock.get("bytes") == state.st_size and lock.get("mtime_ns") == state.st_mtime_ns and lock.get("sha256") == wanted:
        return lock
    sha256 = sha256_file(target)
    if wanted and sha256 != wanted:
        console.say(f"{target} is not the archive it should be (its SHA-256 differs): it is downloaded again")
        return None
    if not wanted:
        try:
            _check_gzip(target)
        except _Refused as error:
            console.say(f"{target} is {error}: it is downloaded again")
            return None
    return _write_lock(target, lock.get("url", ""), sha256)


def mirrors() -> tuple[str, ...]:
    """Where to look, in order."""
    given = os.environ.get(URLS_VARIABLE, "")
    return tuple(url.strip() for url in given.split(",") if url.strip()) or LEIPZIG_URLS


def _lock_path(target: Path) -> Path:
    return target.with_name(target.name + ".lock.json")


def _write_lock(target: Path, url: str, sha256: str) -> dict[str, Any]:
    state = target.stat()
    lock = {"url": url, "bytes": state.st_size, "sha256": sha256, "mtime_ns": state.st_mtime_ns}
    write_json(_lock_path(target), lock)
    return lock


def _host(url: str) -> str:
    return url.split("//", 1)[-1].split("/", 1)[0]


def _from_mirror(source: Remote, url: str, part: Path, patience: Patience) -> str:
    """Fill `part` from one mirror, verify it, return its SHA-256."""
    failures = 0
    came = False
    furthest = _size(part)
    while True:
        try:
            total = _attempt(source, url, part, patience)
            break
        except _Lost:
            gained = _size(part) - furthest
            # A mirror that never sent anything is left at once; one that sends a good piece each time is not given up
            failures = 0 if gained >= 1 << 20 else failures + 1
            came = came or gained > 0
            if not came or failures > patience.retries:
                raise
            furthest = max(furthest, _size(part))
            wait = patience.backoff * 2**failures
            console.say(f"the connection broke after {console.human_bytes(furthest)}: going on in {wait:.0f} s")
            time.sleep(wait)
    size = _size(part)
    if total is not None and size != total:
        raise _Refused(f"{size:,} bytes came instead of {total:,}")
    sha256 = sha256_file(part)
    if source.sha256 and sha256 != source.sha256:
        raise _Refused("the SHA-256 of what came is not the one published")
    if not source.sha256:
        _check_gzip(part)
    return sha256


def _attempt(source: Remote, url: str, part: Path, patience: Patience) -> int | None:
    """One request, from where `part` ends. Returns the full size if the server or the source list tells it."""
    start = _size(part)
    response = _open(url, start, patience)
    with contextlib.closing(response):
        if response.status == 416:  # nothing beyond `start`: the part is whole, or of another file
            total = _after_slash(response.headers.get("Content-Range"))
            if total == start and source.bytes in (None, total):
                return total
            part.unlink(missing_ok=True)
            raise _Refused("the part kept from an earlier try does not belong to this file: run the command again")
        if response.status not in (200, 206):
            raise _Refused(f"HTTP {response.status} {response.reason}")
        if "html" in response.headers.get("Content-Type", "").lower():
            raise _Refused("a web page came instead of the archive")
        if response.status == 206:
            begin = (response.headers.get("Content-Range") or "").removeprefix("bytes ").split("-")[0]
            if begin != str(start):
                raise _Refused("the server sent another range than asked for")
            total = _after_slash(response.headers.get("Content-Range"))
        else:
            start = 0  # the server ignores ranges: from the beginning
            length = response.headers.get("Content-Length")
            total = int(length) if length and length.isdigit() else None
        if source.bytes and total not in (None, source.bytes):
            raise _Refused(f"the file has {total:,} bytes there instead of {source.bytes:,}")
        total = total or source.bytes
        _receive(source.name, response, part, start, total)
    return total


def _receive(name: str, response: Any, part: Path, start: int, total: int | None) -> None:
    from http.client import HTTPException

    done = start
    with console.progress(f"downloading {name}", total, "bytes") as advance, _disk(part), \
            open(part, "r+b" if start else "wb") as file:
        file.seek(start)
        while True:
            try:
                chunk = response.read1(CHUNK)
            except (OSError, HTTPException, ValueError) as error:
                raise _Lost(_reason(error)) from None
            if not chunk:
                break
            if done == 0:
                _check_head(chunk)
            file.write(chunk)
            done += len(chunk)
            advance(done)
    if total is not None and done < total:
        raise _Lost(f"the connection ended after {console.human_bytes(done)} of {console.human_bytes(total)}")


@contextlib.contextmanager
def _disk(part: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise TatarLLMError(f"the download cannot be written to {part}: {explain_os_error(error)}") from error


def _open(url: str, start: int, patience: Patience) -> Any:
    """The response, or _Lost within `patience.connect` seconds.

    The request runs in a thread of its own because looking up a name cannot be given a time limit, and a host with
    several addresses would wait the limit for each.
    """
    import urllib.error  # here, not above: importing the network costs 30 ms that other verbs need not pay
    import urllib.request

    from tatar_llm import __version__

    headers = {"User-Agent": f"tatar-llm/{__version__}", "Accept-Encoding": "identity"}
    if start:
        headers["Range"] = f"bytes={start}-"
    result: list[Any] = []
    lock = threading.Lock()
    late = False

    def ask() -> None:
        try:
            request = urllib.request.Request(url, headers=headers)
            found: Any = urllib.request.urlopen(request, timeout=patience.stall)
        except urllib.error.HTTPError as error:
            found = error
        except Exception as error:  # carried over to the waiting thread
            found = _Lost(_reason(error))
        with lock:
            if late and not isinstance(found, _Lost):
                found.close()
            result.append(found)

    thread = threading.Thread(target=ask, daemon=True, name="tatar-llm-download")
    thread.start()
    thread.join(patience.connect)
    with lock:
        late = not result
    if late:
        raise _Lost(f"no answer within {patience.connect:g} s")
    if isinstance(result[0], _Lost):
        raise result[0]
    return result[0]


def _reason(error: Exception) -> str:
    cause = getattr(error, "reason", error)
    if isinstance(cause, TimeoutError):
        return "nothing came for too long"
    if isinstance(cause, OSError) and cause.strerror:
        return cause.strerror
    return str(cause) or type(cause).__name__


def _after_slash(content_range: str | None) -> int | None:
    total = (content_range or "").rpartition("/")[2]
    return int(total) if total.isdigit() else None


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _check_head(chunk: bytes) -> None:
    if chunk.lstrip().startswith(b"<"):
        raise _Refused("a web page came instead of the archive")
    if not b"\x1f\x8b".startswith(chunk[:2]):
        raise _Refused("what came is not a gzip archive")


def _check_gzip(path: Path) -> None:
    """Unpack once without keeping anything: where no checksum is published, gzip's own must hold."""
    import gzip

    try:
        with gzip.open(path) as file:
            while file.read(1 << 20):
                pass
    except (OSError, EOFError, zlib.error) as error:
        raise _Refused(f"a damaged archive ({error})") from None
