"""Downloads against a local server that misbehaves in every way a mirror can."""

from __future__ import annotations

import gzip
import hashlib
import http.server
import json
import os
import random
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tatar_llm import console
from tatar_llm.corpus import download, lock
from tatar_llm.corpus.download import Patience, SourceUnavailable, Wanted, fetch
from tatar_llm.errors import TatarLLMError

DATA = gzip.compress(random.Random(1).randbytes(100_000), mtime=0)
NEWER = gzip.compress(random.Random(2).randbytes(100_000), mtime=0)
LARGE = gzip.compress(random.Random(3).randbytes(3_500_000), mtime=0)
SHA = hashlib.sha256(DATA).hexdigest()
FILE = "tat_test.tar.gz"
QUICK = Patience(connect=2.0, stall=0.4, backoff=0.01, longest=0.05, retries=3, poll=0.01)


def pinned(*urls: str, data: bytes = DATA) -> Wanted:
    return Wanted("leipzig-test", FILE, urls, len(data), hashlib.sha256(data).hexdigest())


def loose(*urls: str) -> Wanted:
    return Wanted("leipzig-test", FILE, urls)


NOWHERE = "http://127.0.0.1:9/x"
KINDS = pytest.mark.parametrize("wanted", [pinned, loose])


class Mirror(http.server.ThreadingHTTPServer):
    """Serves `data`; `fault` is the first part of the path."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.data = DATA
        self.seen: list[dict[str, str]] = []
        self.release = threading.Event()

    @property
    def requests(self) -> list[tuple[str, str | None]]:
        return [(seen["fault"], seen.get("Range")) for seen in self.seen]

    def url(self, fault: str) -> str:
        return f"http://127.0.0.1:{self.server_port}/{fault}/{FILE}"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that leave are part of the game."""


class Handler(http.server.BaseHTTPRequestHandler):
    server: Mirror

    def log_message(self, *args: Any) -> None:
        pass

    def do_GET(self) -> None:
        fault = self.path.split("/")[1]
        self.server.seen.append({"fault": fault, **self.headers})
        visit = sum(seen["fault"] == fault for seen in self.server.seen)
        data = NEWER if fault in ("newer", "newer-blind") and visit > 1 else self.server.data
        etag = f'"{hashlib.sha256(data).hexdigest()[:8]}"'
        wish = self.headers.get("Range")
        if fault != "newer-blind" and self.headers.get("If-Range") not in (None, etag):
            wish = None
        start = int(wish.removeprefix("bytes=").rstrip("-")) if wish and not fault.startswith(("norange", "disguised")) else 0
        body, status, kind = data[start:], 206 if start else 200, "application/gzip"
        length = len(body)
        if fault == "missing":
            body, status, kind = b"<html>no such file</html>", 404, "text/html"
            length = len(body)
        elif fault == "page":
            body, kind = b"<!DOCTYPE html><p>log in", "text/html; charset=utf-8"
            length = len(body)
        elif fault == "disguised":
            body = b"\n<html>log in" * 50
            length = len(body)
        elif fault == "noise":
            body = b"BZh9" + data[4:]
        elif fault in ("changed", "norange-changed"):
            body = data[:-9] + b"x" + data[-8:]
        elif fault == "hang":
            self.server.release.wait(20)
            return
        elif fault in ("cut", "norange", "newer", "newer-blind") and visit == 1:
            body = body[: len(data) // 2]
        elif fault == "norange-always-cut":
            body = body[: len(data) // 4]
        elif fault == "megabytes":
            body = body[:1_000_000]
        elif fault == "truncated":
            body = body[: max(0, len(data) // 3 - start)]
        elif fault == "wrongsize":
            body += b"more"
            length = len(body)
        elif (fault in ("busy", "busy-long") and visit < 3) or fault == "always-busy":
            self.send_response(503 if visit == 1 else 429)
            self.send_header("Retry-After", {"busy": "0", "busy-long": "86400"}.get(fault, "Fri, 01 Jan 2100 00:00:00 GMT"))
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        elif fault == "away":
            self.send_response(302)
            self.send_header("Location", f"http://localhost:{self.server.server_port}/good/{FILE}")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        if start > len(data) or (start and not body and fault != "truncated"):
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(data)}")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(length))
        self.send_header("ETag", etag)
        if status == 206:
            self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
        self.end_headers()
        if fault in ("stall", "slow") and visit == 1:
            self.wfile.write(body[:5000])
            self.wfile.flush()
            self.server.release.wait(20)
            if fault == "stall":
                return
            body = body[5000:]
        self.wfile.write(body)


@pytest.fixture
def mirror() -> Iterator[Mirror]:
    server = Mirror()
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    yield server
    server.release.set()
    server.shutdown()
    server.server_close()


@pytest.fixture
def say(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is told to the user."""
    told: list[str] = []
    monkeypatch.setattr(console, "say", told.append)
    return told


def part(folder: Path) -> Path:
    return folder / f"{FILE}.part"


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


DONE = [FILE, f"{FILE}.lock.json"]


@KINDS
def test_fetch_then_no_network(mirror: Mirror, tmp_path: Path, wanted: Any) -> None:
    folder = tmp_path / "Минем эш" / "raw"
    path, lock = fetch(wanted(mirror.url("good")), folder, QUICK)
    assert path.read_bytes() == DATA and lock["sha256"] == SHA and lock["url"] == mirror.url("good")
    assert names(folder) == DONE
    assert fetch(wanted(NOWHERE), folder, QUICK) == (path, lock)
    path.touch()
    assert fetch(wanted(NOWHERE), folder, QUICK)[1]["sha256"] == SHA
    (folder / DONE[1]).unlink()
    assert fetch(wanted(NOWHERE), folder, QUICK)[1]["sha256"] == SHA
    assert len(mirror.requests) == 1


@KINDS
def test_a_damaged_file_in_the_folder_is_replaced(mirror: Mirror, tmp_path: Path, say: list[str], wanted: Any) -> None:
    (tmp_path / FILE).write_bytes(DATA[:5000])
    assert fetch(wanted(mirror.url("good")), tmp_path, QUICK)[0].read_bytes() == DATA
    assert len(say) == 1 and "it is downloaded again" in say[0]


@KINDS
def test_a_file_that_changes_after_its_check_is_repaired(mirror: Mirror, tmp_path: Path, wanted: Any) -> None:
    path, _ = fetch(wanted(mirror.url("good")), tmp_path, QUICK)
    path.write_bytes(DATA[:-1] + b"?")
    with pytest.raises(SourceUnavailable):
        fetch(wanted(NOWHERE), tmp_path, QUICK)
    assert fetch(wanted(mirror.url("good")), tmp_path, QUICK)[0].read_bytes() == DATA


@pytest.mark.parametrize("fault", ["cut", "norange", "stall"])
@KINDS
def test_a_broken_connection_goes_on(mirror: Mirror, tmp_path: Path, wanted: Any, fault: str) -> None:
    path, _ = fetch(wanted(mirror.url(fault)), tmp_path, QUICK)
    assert path.read_bytes() == DATA and names(tmp_path) == DONE
    assert [wish is not None for _, wish in mirror.requests] == [False, True]


@KINDS
def test_a_server_that_closes_after_every_megabyte(mirror: Mirror, tmp_path: Path, say: list[str], wanted: Any) -> None:
    mirror.data = LARGE
    patience = Patience(connect=2.0, stall=2.0, backoff=1000.0, longest=1000.0, retries=0)  # each piece is good: no pause
    known = {"data": LARGE} if wanted is pinned else {}
    assert fetch(wanted(mirror.url("megabytes"), **known), tmp_path, patience)[0].read_bytes() == LARGE
    wishes = [wish for _, wish in mirror.requests]
    assert wishes == [None, "bytes=1000000-", "bytes=2000000-", "bytes=3000000-"]
    assert len(say) == 1 and "going on from" in say[0], "said once, not for every megabyte"


@pytest.mark.parametrize("fault", ["busy", "busy-long"])
def test_a_busy_server_is_asked_again(mirror: Mirror, tmp_path: Path, say: list[str], fault: str) -> None:
    assert fetch(loose(mirror.url(fault)), tmp_path, QUICK)[0].read_bytes() == DATA
    assert len(mirror.requests) == 3 and "HTTP 503" in say[0], "the pause it asks for has a bound"


def test_a_server_that_stays_busy_is_left(mirror: Mirror, tmp_path: Path) -> None:
    path, _ = fetch(pinned(mirror.url("always-busy"), mirror.url("good")), tmp_path, QUICK)
    assert path.read_bytes() == DATA and len(mirror.requests) == QUICK.retries + 2


def test_retry_after() -> None:
    def asked(text: str) -> float | None:
        return download.retry_after({"Retry-After": text})

    assert download.retry_after({}) is None and asked("soon") is None and asked("7") == 7
    assert asked("Fri, 01 Jan 2100 00:00:00 GMT") > 1e9 and asked("Fri, 01 Jan 1999 00:00:00 GMT") == 0
    assert download.pause(1, 86400.0, Patience()) == 60 and download.pause(30, None, Patience()) == 60
    assert 2 <= download.pause(3, None, Patience()) <= 6


@KINDS
def test_a_part_of_an_earlier_process_is_continued(mirror: Mirror, tmp_path: Path, wanted: Any) -> None:
    part(tmp_path).write_bytes(DATA[:1000])
    assert fetch(wanted(mirror.url("good")), tmp_path, QUICK)[0].read_bytes() == DATA
    assert mirror.requests == [("good", "bytes=1000-")]


@KINDS
def test_a_whole_part_needs_only_its_check(mirror: Mirror, tmp_path: Path, wanted: Any) -> None:
    part(tmp_path).write_bytes(DATA)
    assert fetch(wanted(mirror.url("good")), tmp_path, QUICK)[0].read_bytes() == DATA
    assert mirror.requests == [("good", f"bytes={len(DATA)}-")]


@pytest.mark.parametrize("wrong", [b"\x1f\x8b" + b"x" * 500, DATA + b"too long", b"y" * len(DATA)])
@KINDS
def test_a_wrong_part_is_thrown_away(mirror: Mirror, tmp_path: Path, wanted: Any, wrong: bytes) -> None:
    part(tmp_path).write_bytes(wrong)
    assert fetch(wanted(mirror.url("good")), tmp_path, QUICK)[0].read_bytes() == DATA
    assert names(tmp_path) == DONE


@pytest.mark.parametrize("fault", ["newer", "newer-blind"])
def test_pieces_of_two_versions_are_not_glued(mirror: Mirror, tmp_path: Path, fault: str) -> None:
    """The file changes between two requests; one server honours If-Range, the other sends the rest of the new one."""
    path, _ = fetch(loose(mirror.url(fault)), tmp_path, QUICK)
    assert path.read_bytes() == NEWER and names(tmp_path) == DONE
    first, second = mirror.seen[:2]
    assert "If-Range" not in first and second["If-Range"] and second["Range"] == f"bytes={len(DATA) // 2}-"
    assert len(mirror.seen) == (2 if fault == "newer" else 3)


def test_pieces_of_two_mirrors_make_one_file(mirror: Mirror, tmp_path: Path) -> None:
    for wanted in (pinned, loose):
        folder = tmp_path / wanted.__name__
        assert fetch(wanted(mirror.url("truncated"), mirror.url("good")), folder, QUICK)[0].read_bytes() == DATA
        assert mirror.requests[-1] == ("good", f"bytes={len(DATA) // 3}-")


def test_what_came_survives_worse_mirrors(mirror: Mirror, tmp_path: Path) -> None:
    worse = ("missing", "page", "disguised", "norange-always-cut", "changed", "norange-changed", "hang")
    patience = Patience(connect=0.3, stall=2.0, backoff=0.0, retries=1)
    for wanted in (pinned, loose):
        folder = tmp_path / wanted.__name__
        with pytest.raises(SourceUnavailable, match="are kept in"):
            fetch(wanted(mirror.url("truncated"), *map(mirror.url, worse)), folder, patience)
        assert part(folder).read_bytes() == DATA[: len(DATA) // 3]
        seen = len(mirror.seen)
        assert fetch(wanted(mirror.url("good")), folder, patience)[0].read_bytes() == DATA and names(folder) == DONE
        assert mirror.requests[seen:] == [("good", f"bytes={len(DATA) // 3}-")]


@pytest.mark.parametrize(
    ("fault", "said", "kept"),
    [
        ("missing", "HTTP 404", False),
        ("page", "a web page came", False),
        ("disguised", "instead of", False),
        ("noise", "not a gzip file", False),
        ("changed", "SHA-256", False),
        ("wrongsize", "instead of", False),
        ("truncated", "the connection ended after", True),
        ("hang", "no answer within", False),
        ("always-busy", "HTTP 429", False),
    ],
)
def test_a_bad_mirror_is_left_for_the_next(mirror: Mirror, tmp_path: Path, fault: str, said: str, kept: bool) -> None:
    patience = Patience(connect=1.0, stall=2.0, backoff=0.01, longest=0.02, retries=2)
    with pytest.raises(SourceUnavailable) as caught:
        fetch(pinned(mirror.url(fault)), tmp_path, patience)
    assert said in str(caught.value) and "\n" not in str(caught.value) and "leipzig-test" in str(caught.value)
    assert part(tmp_path).exists() == kept == ("are kept in" in str(caught.value))
    assert not (tmp_path / FILE).exists()
    assert fetch(pinned(mirror.url(fault), mirror.url("good")), tmp_path, patience)[0].read_bytes() == DATA


@pytest.mark.parametrize(("fault", "said"), [("disguised", "web page"), ("changed", "damaged archive")])
def test_without_a_published_checksum_the_archive_is_checked(
    mirror: Mirror, tmp_path: Path, fault: str, said: str
) -> None:
    with pytest.raises(SourceUnavailable, match=said):
        fetch(loose(mirror.url(fault)), tmp_path, QUICK)
    assert names(tmp_path) == []


def test_no_network_is_noticed_quickly(tmp_path: Path) -> None:
    started = time.monotonic()
    with pytest.raises(SourceUnavailable, match="check the connection"):
        fetch(pinned(NOWHERE, "http://no-such-host.invalid/x"), tmp_path, QUICK)
    assert time.monotonic() - started < 30
    assert 2 * Patience().connect < 15


def test_a_full_disk_is_no_network_failure(mirror: Mirror, tmp_path: Path) -> None:
    part(tmp_path).mkdir()
    with pytest.raises((TatarLLMError, OSError)) as caught:
        fetch(pinned(mirror.url("norange")), tmp_path, QUICK)
    assert not isinstance(caught.value, SourceUnavailable)


def test_a_token_stays_with_its_host(mirror: Mirror, tmp_path: Path) -> None:
    wanted = Wanted("x", FILE, (mirror.url("away"),), len(DATA), SHA, token="secret")
    assert fetch(wanted, tmp_path, QUICK)[0].read_bytes() == DATA and "secret" not in repr(wanted)
    assert [seen.get("Authorization") for seen in mirror.seen] == ["Bearer secret", None]


# -- several processes ---------------------------------------------------------------------------------------------

PROCESS = """
import sys
from pathlib import Path
from tatar_llm.corpus.download import Patience, Wanted, fetch
url, file, folder, size, sha = sys.argv[1:]
wanted = Wanted("leipzig-test", file, (url,), int(size) or None, sha or None)
fetch(wanted, Path(folder), Patience(connect=20.0, stall=20.0, backoff=0.01, poll=0.02))
"""


def start(url: str, folder: Path, known: bool) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", PROCESS, url, FILE, str(folder), str(len(DATA) * known), SHA * known]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True, encoding="utf-8")


def until(condition: Any) -> None:
    ends = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < ends
        time.sleep(0.01)


@KINDS
def test_killed_in_the_middle_and_continued_by_another(mirror: Mirror, tmp_path: Path, wanted: Any) -> None:
    process = start(mirror.url("slow"), tmp_path, wanted is pinned)
    until(lambda: part(tmp_path).exists() and part(tmp_path).stat().st_size)
    process.kill()
    process.communicate()
    size = part(tmp_path).stat().st_size
    assert 0 < size <= 5000 and (tmp_path / f"{FILE}.busy").exists()
    if os.name == "nt":  # there only the silence of the dead process tells
        os.utime(tmp_path / f"{FILE}.busy", (0, 0))
    assert fetch(wanted(mirror.url("slow")), tmp_path, QUICK)[0].read_bytes() == DATA
    assert mirror.requests == [("slow", None), ("slow", f"bytes={size}-")]
    assert names(tmp_path) == DONE


@KINDS
def test_two_processes_download_once(mirror: Mirror, tmp_path: Path, wanted: Any) -> None:
    first = start(mirror.url("slow"), tmp_path, wanted is pinned)
    until(lambda: mirror.seen)
    second = start(mirror.url("slow"), tmp_path, wanted is pinned)
    line = second.stderr.readline()
    assert line == "another process is at work on leipzig-test: waiting for it\n"
    mirror.release.set()
    assert first.wait() == second.wait() == 0
    assert second.stderr.read() == "" and len(mirror.requests) == 1
    first.communicate()
    second.communicate()
    assert (tmp_path / FILE).read_bytes() == DATA and names(tmp_path) == DONE


def test_a_lock_of_another_machine_ends_with_its_signs_of_life(tmp_path: Path, say: list[str]) -> None:
    path = tmp_path / "x.busy"
    for text in (json.dumps({"pid": 1, "host": "elsewhere"}), "", "[]"):
        path.write_text(text)
        os.utime(path, (time.time() - lock.STALE - 1,) * 2)
        with lock.only_one(path, "x"):
            assert json.loads(path.read_text())["pid"] == os.getpid()
        assert not path.exists() and not say


def test_the_holder_shows_that_it_lives_and_others_wait(
    tmp_path: Path, say: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lock, "HEARTBEAT", 0.01)
    path, entered, leave = tmp_path / "x.busy", threading.Event(), threading.Event()

    def hold() -> None:
        with lock.only_one(path, "x"):
            entered.set()
            leave.wait(60)

    thread = threading.Thread(target=hold)
    thread.start()
    assert entered.wait(60)
    os.utime(path, (0, 0))
    until(lambda: path.stat().st_mtime > 0)
    threading.Timer(0.05, leave.set).start()
    with lock.only_one(path, "x", poll=0.01):
        assert leave.is_set()
    thread.join()
    assert say == ["another process is at work on x: waiting for it"] and not path.exists()


def test_a_lock_that_was_taken_over_is_not_taken_back(tmp_path: Path) -> None:
    path = tmp_path / "x.busy"
    with lock.only_one(path, "x"):
        path.write_text("another's")
    assert path.read_text() == "another's"
