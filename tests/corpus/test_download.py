"""Downloads against a local server that misbehaves in every way a mirror can."""

from __future__ import annotations

import gzip
import hashlib
import http.server
import random
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tatar_llm.corpus.download import URLS_VARIABLE, Patience, SourceUnavailable, fetch, mirrors
from tatar_llm.corpus.sources import LEIPZIG_URLS, Remote
from tatar_llm.errors import TatarLLMError

DATA = gzip.compress(random.Random(1).randbytes(100_000), mtime=0)
SHA = hashlib.sha256(DATA).hexdigest()
PINNED = Remote("leipzig-test", "tat_test.tar.gz", len(DATA), SHA)
LOOSE = Remote("leipzig-test", "tat_test.tar.gz")
QUICK = Patience(connect=2.0, stall=0.4, backoff=0.01, retries=3)


class Mirror(http.server.ThreadingHTTPServer):
    """Serves DATA; `fault` is the first part of the path."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.requests: list[tuple[str, str | None]] = []
        self.release = threading.Event()

    def url(self, fault: str) -> str:
        return f"http://127.0.0.1:{self.server_port}/{fault}/"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that leave are part of the game."""


class Handler(http.server.BaseHTTPRequestHandler):
    server: Mirror

    def log_message(self, *args: Any) -> None:
        pass

    def do_GET(self) -> None:
        fault = self.path.split("/")[1]
        wish = self.headers.get("Range")
        self.server.requests.append((fault, wish))
        first = sum(seen == fault for seen, _ in self.server.requests) == 1
        start = int(wish.removeprefix("bytes=").rstrip("-")) if wish and fault != "norange" else 0
        body, status, kind = DATA[start:], 206 if start else 200, "application/gzip"
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
            body = b"BZh9" + DATA[4:]
        elif fault == "changed":
            body = DATA[:-9] + b"x" + DATA[-8:]
        elif fault == "hang":
            self.server.release.wait(20)
            return
        elif fault in ("cut", "norange") and first:
            body = body[: len(DATA) // 2]
        elif fault == "truncated":
            body = body[: max(0, len(DATA) // 3 - start)]
        elif fault == "wrongsize":
            body += b"more"
            length = len(body)
        if start > len(DATA) or (start and not body and fault != "truncated"):
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(DATA)}")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(length))
        if status == 206:
            self.send_header("Content-Range", f"bytes {start}-{len(DATA) - 1}/{len(DATA)}")
        self.end_headers()
        if fault == "stall" and first:
            self.wfile.write(body[:5000])
            self.wfile.flush()
            self.server.release.wait(20)
            return
        self.wfile.write(body)


@pytest.fixture
def mirror() -> Iterator[Mirror]:
    server = Mirror()
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    yield server
    server.release.set()
    server.shutdown()
    server.server_close()


def part(folder: Path) -> Path:
    return folder / "tat_test.tar.gz.part"


@pytest.mark.parametrize("source", [PINNED, LOOSE])
def test_fetch_then_no_network(mirror: Mirror, tmp_path: Path, source: Remote) -> None:
    folder = tmp_path / "Минем эш" / "raw"
    path, lock = fetch(source, folder, (mirror.url("good"),), QUICK)
    assert path.read_bytes() == DATA and lock["sha256"] == SHA and lock["url"].endswith("/good/tat_test.tar.gz")
    assert not part(folder).exists()
    assert fetch(source, folder, ("http://127.0.0.1:9/",), QUICK) == (path, lock)
    path.touch()
    assert fetch(source, folder, ("http://127.0.0.1:9/",), QUICK)[1]["sha256"] == SHA
    (folder / "tat_test.tar.gz.lock.json").unlink()
    assert fetch(source, folder, ("http://127.0.0.1:9/",), QUICK)[1]["sha256"] == SHA
    assert len(mirror.requests) == 1


@pytest.mark.parametrize("source", [PINNED, LOOSE])
def test_a_damaged_file_in_the_folder_is_replaced(mirror: Mirror, tmp_path: Path, source: Remote) -> None:
    (tmp_path / source.archive).write_bytes(DATA[:5000])
    assert fetch(source, tmp_path, (mirror.url("good"),), QUICK)[0].read_bytes() == DATA


@pytest.mark.parametrize("fault", ["cut", "norange", "stall"])
def test_a_broken_connection_goes_on(mirror: Mirror, tmp_path: Path, fault: str) -> None:
    path, _ = fetch(PINNED, tmp_path, (mirror.url(fault),), QUICK)
    assert path.read_bytes() == DATA
    assert [wish is not None for _, wish in mirror.requests] == [False, True]


def test_a_part_of_an_earlier_process_is_continued(mirror: Mirror, tmp_path: Path) -> None:
    part(tmp_path).write_bytes(DATA[:1000])
    assert fetch(PINNED, tmp_path, (mirror.url("good"),), QUICK)[0].read_bytes() == DATA
    assert mirror.requests == [("good", "bytes=1000-")]


def test_a_whole_part_needs_only_its_check(mirror: Mirror, tmp_path: Path) -> None:
    part(tmp_path).write_bytes(DATA)
    assert fetch(PINNED, tmp_path, (mirror.url("good"),), QUICK)[0].read_bytes() == DATA


@pytest.mark.parametrize("wrong", [b"\x1f\x8b" + b"x" * 500, DATA + b"too long"])
def test_a_wrong_part_is_thrown_away(mirror: Mirror, tmp_path: Path, wrong: bytes) -> None:
    part(tmp_path).write_bytes(wrong)
    urls = (mirror.url("good"), mirror.url("second"))
    assert fetch(PINNED, tmp_path, urls, QUICK)[0].read_bytes() == DATA


@pytest.mark.parametrize(
    ("fault", "said", "kept"),
    [
        ("missing", "HTTP 404", False),
        ("page", "a web page came", False),
        ("disguised", "instead of", False),
        ("noise", "not a gzip archive", False),
        ("changed", "SHA-256", False),
        ("wrongsize", "instead of", False),
        ("truncated", "the connection ended after", True),
        ("hang", "no answer within", False),
    ],
)
def test_a_bad_mirror_is_left_for_the_next(mirror: Mirror, tmp_path: Path, fault: str, said: str, kept: bool) -> None:
    patience = Patience(connect=0.5, stall=2.0, backoff=0.01, retries=2)
    with pytest.raises(SourceUnavailable) as caught:
        fetch(PINNED, tmp_path, (mirror.url(fault),), patience)
    assert said in str(caught.value) and "\n" not in str(caught.value) and "leipzig-test" in str(caught.value)
    assert part(tmp_path).exists() == kept == ("are kept in" in str(caught.value))
    assert not (tmp_path / PINNED.archive).exists()
    assert fetch(PINNED, tmp_path, (mirror.url(fault), mirror.url("good")), patience)[0].read_bytes() == DATA


@pytest.mark.parametrize(("fault", "said"), [("disguised", "web page"), ("changed", "damaged archive")])
def test_without_a_published_checksum_the_archive_is_checked(
    mirror: Mirror, tmp_path: Path, fault: str, said: str
) -> None:
    with pytest.raises(SourceUnavailable, match=said):
        fetch(LOOSE, tmp_path, (mirror.url(fault),), QUICK)
    assert not part(tmp_path).exists()


def test_no_network_is_noticed_quickly(tmp_path: Path) -> None:
    started = time.monotonic()
    with pytest.raises(SourceUnavailable, match="check the connection"):
        fetch(PINNED, tmp_path, ("http://127.0.0.1:9/", "http://no-such-host.invalid/"), QUICK)
    assert time.monotonic() - started < 5
    assert 2 * Patience().connect < 15


def test_a_full_disk_is_no_network_failure(mirror: Mirror, tmp_path: Path) -> None:
    part(tmp_path).mkdir()
    with pytest.raises((TatarLLMError, OSError)) as caught:
        fetch(PINNED, tmp_path, (mirror.url("norange"),), QUICK)
    assert not isinstance(caught.value, SourceUnavailable)


def test_mirrors_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    assert mirrors() == LEIPZIG_URLS
    monkeypatch.setenv(URLS_VARIABLE, "http://a/ , http://b/x")
    assert mirrors() == ("http://a/", "http://b/x")
