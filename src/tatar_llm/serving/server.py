"""`tatar-llm serve`: a socket, the application, and an end that lets running answers finish."""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections.abc import Callable, Sequence
from typing import Any

from tatar_llm.console import say
from tatar_llm.errors import TatarLLMError
from tatar_llm.model import load_model, load_model_file
from tatar_llm.serving.worker import Limits, Worker
from tatar_llm.tokenizer import load_tokenizer
from tatar_llm.training import ModelPlace

HEADER_SECONDS = 30
"""In which a new connection must have sent its first request's head."""
LAST_SECONDS = 30
"""Given to running answers after Ctrl-C."""
MOST_CONNECTIONS = 1000
KEY_VARIABLE = "TATAR_LLM_API_KEY"


def serve(
    place: ModelPlace, *, host: str = "127.0.0.1", port: int = 8000, api_key: str = "", cors: Sequence[str] = (),
    web: bool = False, limits: Limits | None = None,
) -> None:
    """Answer requests until Ctrl-C or SIGTERM.

    Args:
        place: the model and its tokenizer.
        host, port: where to listen; port 0 takes a free one.
        api_key: what clients of /v1 must send; empty takes $TATAR_LLM_API_KEY, or nothing.
        cors: origins whose pages may call the server.
        web: also the page for people, at /.
        limits: what the server does not go beyond.

    Raises:
        TatarLLMError: the libraries are missing, or the address cannot be had.
    """
    _need_libraries(web)
    import uvicorn

    from tatar_llm.serving.answering import Served
    from tatar_llm.serving.openai import build_app

    api_key = api_key or os.environ.get(KEY_VARIABLE, "")
    listening = listen(host, port)
    model, _ = load_model(place.model)
    facts = load_model_file(place.model)
    worker = Worker(model, *load_tokenizer(place.tokenizer), limits)
    try:
        app = build_app(Served(place.name, worker, facts.get("corpus") or "", int(time.time()), bool(facts.get("chat"))), api_key=api_key, cors=cors)
        if web:
            from tatar_llm.serving.web import add_page

            app = add_page(app, place, worker, bool(facts.get("chat")))
        where = address(listening)
        say(f"listening on {where}: {'a page at / and ' if web else ''}OpenAI's API at {where}/v1; Ctrl-C ends it")
        if not _is_local(host) and not api_key:
            say(f"note: anybody who reaches {host} can use it; --api-key KEY (or ${KEY_VARIABLE}) asks for a key")
        if web and api_key:
            say("note: the page at / asks for no key; the key is for /v1")
        config = uvicorn.Config(
            app, http=protocol(), log_level="critical", access_log=False, server_header=False, limit_concurrency=MOST_CONNECTIONS,
            timeout_graceful_shutdown=LAST_SECONDS,
        )  # fmt: skip
        server(config, getattr(app.state, "endless", ())).run(sockets=[listening])
    finally:
        worker.close()
        listening.close()


def listen(host: str, port: int) -> socket.socket:
    """A listening socket; raises TatarLLMError where the address is taken, forbidden or no address."""
    try:
        family, kind, _, _, where = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        made = socket.socket(family, kind)
        if os.name == "posix":  # on Windows the option lets two programs share a port
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind(where)
        made.listen(2048)
    except (OSError, OverflowError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise TatarLLMError(f"cannot listen on {host}:{port} ({reason}): choose another --port, or --host 127.0.0.1") from error
    return made


def address(listening: socket.socket) -> str:
    """Where a socket listens, as a URL that works on this machine."""
    host, port = listening.getsockname()[:2]
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"


def protocol() -> type[asyncio.Protocol]:
    """uvicorn's HTTP/1.1, which closes connections that say nothing."""
    from uvicorn.protocols.http.h11_impl import H11Protocol

    class Impatient(H11Protocol):
        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            self.silence = self.loop.call_later(HEADER_SECONDS, self._close_if_silent)

        def connection_lost(self, exc: Exception | None) -> None:
            self.silence.cancel()  # it would keep what this connection has read in memory
            super().connection_lost(exc)

        def _close_if_silent(self) -> None:
            if self.cycle is None and not self.transport.is_closing():
                self.transport.close()

    return Impatient


def server(config: Any, endless: Sequence[Callable[[], Any]]) -> Any:
    """uvicorn's server, which ends by `endless` the streams that would go on for ever before it waits for the others."""
    import uvicorn

    class Ending(uvicorn.Server):
        async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
            for end in endless:
                end()
            await super().shutdown(sockets)

    return Ending(config)


def _is_local(host: str) -> bool:
    return host in ("localhost", "::1") or host.startswith("127.")


def _need_libraries(web: bool) -> None:
    try:
        import fastapi  # noqa: F401
        import uvicorn  # noqa: F401

        if web:
            import gradio  # noqa: F401
    except ImportError as error:
        extra = "web" if web else "serve"
        raise TatarLLMError(f'{"serve --web" if web else "serve"} needs {error.name}: pip install "tatar-llm[{extra}]"') from error
