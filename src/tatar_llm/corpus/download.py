"""Fetches files into data/raw: resumable, verified before they get their names, quick to notice that there is no net."""

from __future__ import annotations

import contextlib
import os
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tatar_llm import console
from tatar_llm.corpus.lock import only_one
from tatar_llm.corpus.wanted import (
    Refused,
    Wanted,
    Wrong,
    aside,
    check_head,
    check_whole,
    forget,
    origin_path,
    read_origin,
    remembered,
    verified,
    write_lock,
)
from tatar_llm.errors import TatarLLMError, explain_os_error
from tatar_llm.waiting import within
from tatar_llm.workspace import sha256_file, write_json

CHUNK = 1 << 18
"""Bytes read at a time; a connection that brought as much was worth while, however it ended."""
BUSY = (429, 500, 502, 503, 504)


class SourceUnavailable(TatarLLMError):
    """A source could not be fetched: no network, a wrong answer, a damaged file."""


class _Lost(Exception):
    """The connection failed or broke: what came is kept. A server that is only busy says how long to `wait`."""

    def __init__(self, reason: str, busy: bool = False, wait: float | None = None) -> None:
        super().__init__(reason)
        self.busy, self.wait = busy, wait


@dataclass(frozen=True)
class Patience:
    """How long to wait for what, in seconds. A machine without a network waits `connect` once per mirror."""

    connect: float = 6.0
    stall: float = 30.0
    backoff: float = 1.0
    longest: float = 60.0
    """Longest pause between two tries, whatever a server asks for."""
    retries: int = 5
    poll: float = 0.5
    """How often to look whether another process has finished."""


PATIENCE = Patience()


def fetch(wanted: Wanted, folder: Path, patience: Patience = PATIENCE) -> tuple[Path, dict[str, Any]]:
    """The verified file in `folder` and its lock {url, bytes, sha256, mtime_ns}; without network if it is there.

    A broken download leaves ``FILE.part`` and goes on from there, also in a later process; of two processes that want
    the same file one waits for the other. Raises SourceUnavailable when no mirror gave the file, OSError or
    TatarLLMError when the disk refuses.
    """
    target = folder / wanted.file
    lock = remembered(wanted, folder)
    if not lock:
        folder.mkdir(parents=True, exist_ok=True)
        with only_one(folder / f"{wanted.file}.busy", wanted.name, patience.poll):
            lock = verified(wanted, folder) or _download(wanted, target, patience)
    return target, lock


def _download(wanted: Wanted, target: Path, patience: Patience) -> dict[str, Any]:
    part = target.with_name(f"{target.name}.part")
    reasons = []
    for url in wanted.urls:
        try:
            sha256 = _from_mirror(wanted, url, part, patience)
        except (Refused, _Lost) as error:
            reasons.append(f"{_host(url)}: {error}")
            if not _size(part):
                forget(part)
            continue
        os.replace(part, target)
        forget(part)
        forget(aside(part))
        return write_lock(target, url, sha256)
    kept = ""
    if _size(part):
        kept = f"; the {console.human_bytes(_size(part))} that arrived are kept in {part} and the next try goes on from there"
    raise SourceUnavailable(
        f"{wanted.name} could not be downloaded ({'; '.join(reasons)}){kept}: check the connection and run the same "
        f"command again, or give a file of your own with --source PATH"
    )


def _from_mirror(wanted: Wanted, url: str, part: Path, patience: Patience) -> str:
    """Fill `part` from one mirror, verify it, return its SHA-256.

    Where the part that was here before and what this mirror sends make no whole, either may be wrong: the mirror is
    asked for all of it beside the part, which stays for the next one unless this proves right.
    """
    inherited = _size(part)
    try:
        return _filled(wanted, url, part, patience)
    except Wrong:
        if not inherited:
            forget(part)
            raise
    if _size(part) > inherited:
        os.truncate(part, inherited)
    anew = aside(part)
    try:
        sha256 = _filled(wanted, url, anew, patience)
    except Wrong:
        forget(anew)
        raise
    os.replace(anew, part)
    return sha256


def _filled(wanted: Wanted, url: str, part: Path, patience: Patience) -> str:
    _fill(wanted, url, part, patience)
    sha256 = sha256_file(part)
    if wanted.sha256 and sha256 != wanted.sha256:
        raise Wrong("the SHA-256 of what came is not the one published")
    if not wanted.sha256:
        check_whole(part, wanted.kind)
    return sha256


def _fill(wanted: Wanted, url: str, part: Path, patience: Patience) -> None:
    """Ask one mirror until `part` is as long as the file, however often the connection breaks."""
    failures = 0
    came = told = False
    furthest = _size(part)
    with console.progress(f"downloading {wanted.name}", wanted.bytes, "bytes", furthest) as advance:
        while True:
            try:
                return _attempt(wanted, url, part, patience, advance)
            except _Lost as error:
                gained = _size(part) - furthest
                furthest = max(furthest, _size(part))
                # A mirror that never sent anything is left at once; one that sends a good piece each time is not given up
                came = came or gained > 0 or error.busy
                failures = 0 if gained >= CHUNK else failures + 1
                if not came or failures > patience.retries:
                    raise
                wait = pause(failures, error.wait, patience) if failures else 0.0
                if wait or not told:
                    console.say(f"{error}: going on from {console.human_bytes(_size(part))}{f' in {wait:.0f} s' if wait else ''}")
                    told = True
                time.sleep(wait)


def pause(failures: int, asked: float | None, patience: Patience) -> float:
    """Seconds until the next try: what the server `asked` for, or twice as long each time, never in step with others."""
    wait = patience.backoff * 2 ** (failures - 1) * random.uniform(0.5, 1.5) if asked is None else asked
    return min(wait, patience.longest)


def retry_after(headers: Any) -> float | None:
    """The seconds that an answer's Retry-After asks for, which holds a number or a date."""
    import email.utils

    text = (headers.get("Retry-After") or "").strip()
    if text.isdecimal():
        return float(text)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(text).timestamp() - time.time())
    except ValueError:
        return None


def _attempt(wanted: Wanted, url: str, part: Path, patience: Patience, advance: Callable[..., None]) -> None:
    """One request, from where `part` ends to the end of the file."""
    start = _size(part)
    # Where the SHA-256 is known it decides at the end, and a file may come in pieces from several mirrors. Where it is
    # not, the pieces must be of one version: the server is asked to send the rest only if its file is still the same.
    origin = {} if wanted.sha256 else read_origin(part)
    same_url = origin.get("url") == url
    seen = origin.get("validator") if same_url else None
    headers = {"Range": f"bytes={start}-"} if start else {}
    if start and seen:
        headers["If-Range"] = seen
    with contextlib.closing(_open(wanted, url, headers, patience)) as response:
        total = _checked_answer(wanted, response, start)
        if response.status == 416 and total == start:
            return None  # nothing beyond what is here: it is whole
        validator = response.headers.get("ETag") or ""
        if not validator or validator.startswith("W/"):  # a weak one says nothing about bytes
            validator = response.headers.get("Last-Modified") or ""
        other = bool(total and origin.get("total") and total != origin["total"])
        other = other or bool(seen and validator and seen != validator)
        if response.status == 416 or (other and not same_url):
            raise Wrong("the part that is here is not of the file that lies there")
        if response.status == 200 or not other:
            begin = start if response.status == 206 else 0
            origin = {"url": url, "validator": validator, "total": total}
            return _receive(wanted, response, part, begin, other, origin, advance)
    forget(part)  # the file has changed there, and the server sends the new one's end: once more, from the beginning
    return _attempt(wanted, url, part, patience, advance)


def _checked_answer(wanted: Wanted, response: Any, start: int) -> int | None:
    """The file's size, where the server or the list of sources tells it; raises for an answer that is not the file."""
    status, headers = response.status, response.headers
    if status in BUSY:
        raise _Lost(f"HTTP {status} {response.reason}", busy=True, wait=retry_after(headers))
    if status in (401, 403) and wanted.denied:
        raise Refused(f"HTTP {status} {response.reason}, {wanted.denied}")
    if status not in (200, 206, 416) or (status == 416 and not start):
        raise Refused(f"HTTP {status} {response.reason}")
    if status != 416 and "html" in headers.get("Content-Type", "").lower():
        raise Refused("a web page came instead of the file")
    if status == 206:
        begin = (headers.get("Content-Range") or "").removeprefix("bytes ").split("-")[0]
        if begin != str(start):
            raise Refused("the server sent another range than asked for")
    if status in (206, 416):
        total = _after_slash(headers.get("Content-Range"))
    else:
        length = headers.get("Content-Length")
        total = int(length) if length and length.isdigit() else None
    if wanted.bytes and total not in (None, wanted.bytes):
        raise Refused(f"the file has {total:,} bytes there instead of {wanted.bytes:,}")
    return total or wanted.bytes


def _receive(
    wanted: Wanted, response: Any, part: Path, begin: int, anew: bool, origin: dict[str, Any],
    advance: Callable[..., None],
) -> None:
    """Write the answer to `part`, from byte `begin`; instead of what is there if that is of no use (`anew`).

    Otherwise it is compared: a mirror that knows no ranges, and breaks off early or sends nonsense, takes nothing away.
    """
    done, total = begin, origin["total"]
    known = bool(wanted.sha256)
    advance(done, total=total)
    chunk = _next(response)
    if not begin and chunk:
        check_head(chunk, wanted.kind)
    with _disk(part), open(part, "w+b" if anew or not part.exists() else "r+b") as file:
        while chunk:
            file.seek(done)
            here = file.read(len(chunk))
            if not chunk.startswith(here):
                raise Wrong("what came is not the file of which a part is here")
            if here != chunk:
                if not known:
                    write_json(origin_path(part), origin)
                    known = True
                file.seek(done)
                file.write(chunk)
            done += len(chunk)
            advance(done)
            chunk = _next(response)
        if total is not None and done < total:
            raise _Lost(f"the connection ended after {console.human_bytes(done)} of {console.human_bytes(total)}")
        if _size(part) > done:
            raise Wrong("the part that is here is longer than the file")
        file.flush()
        os.fsync(file.fileno())


def _next(response: Any) -> bytes:
    from http.client import HTTPException

    try:
        return response.read1(CHUNK)
    except (OSError, HTTPException, ValueError) as error:
        raise _Lost(_reason(error)) from None


def _open(wanted: Wanted, url: str, headers: dict[str, str], patience: Patience) -> Any:
    """The response, whatever its status, or _Lost within `patience.connect` seconds."""
    import urllib.error  # here, not above: importing the network costs 30 ms that other verbs need not pay
    import urllib.request

    from tatar_llm import __version__

    def ask() -> Any:
        own = {"User-Agent": f"tatar-llm/{__version__}", "Accept-Encoding": "identity"}
        request = urllib.request.Request(url, headers=own | headers)
        if wanted.token:
            request.add_unredirected_header("Authorization", f"Bearer {wanted.token}")
        try:
            return urllib.request.urlopen(request, timeout=patience.stall)
        except urllib.error.HTTPError as error:
            return error

    try:
        return within(patience.connect, ask)
    except Exception as error:
        raise _Lost(_reason(error)) from None


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


def _host(url: str) -> str:
    return url.split("//", 1)[-1].split("/", 1)[0]


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


@contextlib.contextmanager
def _disk(part: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise TatarLLMError(f"the download cannot be written to {part}: {explain_os_error(error)}") from error
