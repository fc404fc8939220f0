"""A server on a free port, with the tiny random model."""

from __future__ import annotations

import http.client
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest

from tatar_llm.chat import Speaker
from tatar_llm.model import GPT
from tatar_llm.serving import Limits, Worker
from tatar_llm.serving.server import listen, protocol


@dataclass
class Running:
    port: int
    worker: Worker

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def ask(self, path: str, body: Any = None, *, method: str = "", headers: dict[str, str] | None = None) -> tuple[int, Any, dict[str, str]]:
        """Status, JSON and headers of one plain request; bytes as body are sent as they are."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        raw = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        try:
            connection.request(method or ("GET" if body is None else "POST"), path, raw, {"Content-Type": "application/json"} | (headers or {}))
            answer = connection.getresponse()
            text = answer.read()
            return answer.status, json.loads(text) if text else None, {key.lower(): value for key, value in answer.getheaders()}
        finally:
            connection.close()

    def quiet(self) -> bool:
        """Wait until nothing runs or waits any more."""
        end = time.monotonic() + 20
        while any(self.worker.load().values()) and time.monotonic() < end:
            time.sleep(0.01)
        return not any(self.worker.load().values())


@pytest.fixture
def start(tiny_model: GPT, tiny_tokenizer: tuple) -> Iterator[Callable[..., Any]]:
    """A function that starts a server: `with start(limits=..., api_key=...) as running`."""
    pytest.importorskip("fastapi")
    uvicorn = pytest.importorskip("uvicorn")
    from tatar_llm.serving.answering import Served
    from tatar_llm.serving.openai import build_app

    @contextmanager
    def run(limits: Limits | None = None, chat: Speaker | None = None, **options: Any) -> Iterator[Running]:
        speaks = (chat.model, chat.tokenizer, chat.tok_config) if chat else (tiny_model, *tiny_tokenizer)
        worker = Worker(*speaks, limits)
        listening = listen("127.0.0.1", 0)
        app = build_app(Served("000-tiny", worker, "made up", 1, chat is not None), **options)
        server = uvicorn.Server(uvicorn.Config(app, http=protocol(), log_level="critical", access_log=False, timeout_graceful_shutdown=5))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
        thread.start()
        while not server.started:
            time.sleep(0.01)
        try:
            yield Running(listening.getsockname()[1], worker)
        finally:
            server.should_exit = True
            thread.join(10)
            worker.close()
            listening.close()

    yield run


@pytest.fixture
def running(start: Callable[..., Any]) -> Iterator[Running]:
    with start() as one:
        yield one
