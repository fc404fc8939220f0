"""A minute of 64 clients on loopback, good ones and bad ones: no crash, flat memory, nobody starved."""

from __future__ import annotations

import contextlib
import http.client
import json
import random
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import pytest

SECONDS = 60
GOOD, HANGING, LEAVING, JUNK = 40, 8, 8, 8


def resident(process: int) -> int:
    """MiB in memory."""
    found = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{process}/status").read_text(encoding="utf-8"))
    return int(found.group(1)) // 1024


class Load:
    def __init__(self, port: int) -> None:
        self.port, self.end = port, time.monotonic() + SECONDS
        self.answers: Counter[int] = Counter()
        self.slowest = 0.0
        self.wrong: list[str] = []

    def going(self) -> bool:
        return time.monotonic() < self.end

    def request(self, body: bytes) -> http.client.HTTPConnection:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=150)
        connection.request("POST", "/v1/completions", body, {"Content-Type": "application/json"})
        return connection

    def good(self, number: int) -> None:
        source = random.Random(number)
        while self.going():
            body = {"prompt": "Казан шәһәре " * source.choice((1, 1, 40)), "max_tokens": source.choice((8, 40)), "stream": source.random() < 0.5, "n": source.choice((1, 1, 2))}
            began = time.monotonic()
            connection = self.request(json.dumps(body).encode())
            answer = connection.getresponse()
            text = answer.read().decode()
            connection.close()
            if answer.status != 200 or (body["stream"] and not text.endswith("data: [DONE]\n\n")) or (not body["stream"] and len(json.loads(text)["choices"]) != body["n"]):
                self.wrong.append(f"{answer.status} {text[-300:]}")
                return
            self.answers[number] += 1
            self.slowest = max(self.slowest, time.monotonic() - began)

    def hanging(self, _number: int) -> None:
        """Asks for a long stream and never reads it; or says half a request."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=150) as connection:
            body = json.dumps({"prompt": "Казан", "max_tokens": 2000, "n": 2, "stream": True}).encode()
            head = f"POST /v1/completions HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n".encode()
            connection.sendall(head + (body if _number % 2 else body[:5]))
            while self.going():
                time.sleep(0.5)

    def leaving(self, number: int) -> None:
        while self.going():
            with contextlib.suppress(OSError, http.client.HTTPException):
                connection = self.request(json.dumps({"prompt": "Казан", "max_tokens": 500, "stream": number % 2 == 0}).encode())
                if number % 2 == 0:
                    connection.getresponse().read(50)
                else:
                    time.sleep(0.3)
                connection.close()

    def junk(self, number: int) -> None:
        source = random.Random(number)
        sent = [
            b"\x16\x03\x01" + source.randbytes(200), b"GET / HTTP/9.9\r\n\r\n", b"POST /v1/completions HTTP/1.1\r\nContent-Length: 99999999999\r\n\r\n",
            b"POST /v1/completions HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", b"A" * 100_000,
        ]  # fmt: skip
        while self.going():
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), timeout=5) as connection:
                connection.sendall(source.choice(sent))
                connection.settimeout(0.5)
                connection.recv(1000)
            with contextlib.suppress(OSError, http.client.HTTPException):
                self.request(source.choice([b"{", b"[]", b'{"prompt": 5}', b'{"prompt": "' + b"a" * 2_000_000])).getresponse().read()


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_a_minute_of_everything(tmp_path: Path) -> None:
    pytest.importorskip("fastapi")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = subprocess.Popen(
        [sys.executable, "-m", "tatar_llm", "serve", "--workspace", str(tmp_path), "--model", "shipped", "--port", str(port)],
        stderr=subprocess.PIPE, text=True, encoding="utf-8",
    )  # fmt: skip
    try:
        for line in process.stderr:
            if "listening" in line:
                break
        said: list[str] = []
        reader = threading.Thread(target=lambda: said.extend(process.stderr), daemon=True)  # a full pipe would hold the server up
        reader.start()
        load = Load(port)
        kinds = [load.good] * GOOD + [load.hanging] * HANGING + [load.leaving] * LEAVING + [load.junk] * JUNK
        threads = [threading.Thread(target=kind, args=(number,), daemon=True) for number, kind in enumerate(kinds)]
        for thread in threads:
            thread.start()
        time.sleep(SECONDS / 3)
        early = resident(process.pid)
        for thread in threads:
            thread.join(SECONDS + 150)
        late = resident(process.pid)
        assert process.poll() is None and not load.wrong, load.wrong[:3]
        assert min(load.answers[number] for number in range(GOOD)) >= 1
        assert late < 1.1 * early + 20, f"{early} MiB after {SECONDS // 3} s, {late} MiB at the end"
        end = time.monotonic() + 30
        while time.monotonic() < end:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
            connection.request("GET", "/health")
            state = json.loads(connection.getresponse().read())
            connection.close()
            if not state["running"] + state["waiting"]:
                break
            time.sleep(0.2)
        assert state["running"] == state["waiting"] == 0, state
        print(f"\n{sum(load.answers.values())} answers, {min(load.answers.values())} to {max(load.answers.values())} a client, "
              f"slowest {load.slowest:.1f} s; {early} MiB, then {late} MiB")  # fmt: skip
        process.send_signal(signal.SIGTERM)
        assert process.wait(45) == 143
        reader.join(10)
        assert len(said) < 20 and "Traceback" not in "".join(said), said[:20]
    finally:
        process.kill()
