"""The server's HTTP side: OpenAI's API as its own client library speaks it, and word suggestions.

https://platform.openai.com/docs/api-reference: /v1/models, /v1/completions, /v1/chat/completions; streams are server-sent
events.
"""

from __future__ import annotations

import asyncio
import hmac
from collections.abc import Callable, Sequence
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Receive, Scope, Send

from tatar_llm.chat import ANSWER_TOKENS
from tatar_llm.errors import TatarLLMError
from tatar_llm.generation import Settings
from tatar_llm.serving.answering import Answer, Asked, EventStream, Served, prompts_of, refusal, turns_of, unless_gone
from tatar_llm.serving.requests import (
    ChatRequest,
    CompletionRequest,
    Refused,
    SuggestRequest,
    Wanted,
    read_json,
    understood,
)

SLOWEST_CLIENT = 60.0
"""Seconds beyond a text's own time in which a client must have fetched a stream."""


class KeyCheck:
    """Lets only those with the key at /v1."""

    def __init__(self, app: ASGIApp, key: str) -> None:
        self.app, self.key = app, key.encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse or pass on."""
        if scope["type"] == "http" and scope["path"].startswith("/v1") and scope["method"] != "OPTIONS":
            sent = dict(scope["headers"]).get(b"authorization", b"")
            if not hmac.compare_digest(sent.removeprefix(b"Bearer ").strip(), self.key):
                wrong = Refused(401, "this server wants its API key: Authorization: Bearer KEY", kind="authentication_error", code="invalid_api_key")
                await wrong.response()(scope, receive, send)
                return
        await self.app(scope, receive, send)


def build_app(served: Served, *, api_key: str = "", cors: Sequence[str] = ()) -> FastAPI:
    """The application.

    Args:
        served: the model, with the worker that owns it.
        api_key: what clients must send; empty: nothing.
        cors: origins whose pages may call the server, as "https://example.org"; "*": all.
    """
    app = FastAPI(title="tatar-llm", docs_url=None, redoc_url=None, openapi_url=None)
    if api_key:
        app.add_middleware(KeyCheck, key=api_key)
    if cors:
        app.add_middleware(CORSMiddleware, allow_origins=list(cors), allow_methods=["GET", "POST"], allow_headers=["*"])

    def model() -> dict[str, Any]:
        return {"id": served.name, "object": "model", "created": served.created, "owned_by": "tatar-llm",
                "context": served.worker.model.config.block_size, "trained_on": served.corpus}  # fmt: skip

    def check_model(name: str | None) -> None:
        if name not in (None, "", served.name):
            raise Refused(404, f"there is no model {name!r} here: {served.name} speaks", param="model", code="model_not_found")

    async def answer(request: Request, wanted: Wanted, asked: list[Asked], settings: list[Settings], *, chat: bool) -> Response:
        made = Answer(served, wanted, asked, settings, chat)
        if len(made.choices) > served.worker.limits.texts:
            raise Refused(400, f"{len(made.choices)} texts in one request: at most {served.worker.limits.texts}")
        if isinstance(wanted, CompletionRequest) and wanted.echo:
            await made.echo()
        if wanted.stream:
            return EventStream(made.events(), served.worker.limits.seconds + SLOWEST_CLIENT)
        found = await unless_gone(request, made.whole())
        return found if isinstance(found, Response) else JSONResponse(found)

    def check_length(tokens: int) -> int:
        if tokens > (most := served.worker.limits.tokens):
            raise Refused(400, f"max_tokens is {tokens}: this server makes at most {most}", param="max_tokens")
        return tokens

    @app.get("/health")
    async def health() -> dict[str, Any]:
        return {"status": "ok", "model": served.name, **served.worker.load()}

    @app.get("/v1/models")
    async def models() -> dict[str, Any]:
        return {"object": "list", "data": [model()]}

    @app.get("/v1/models/{name:path}")
    async def one_model(name: str) -> dict[str, Any]:
        check_model(name)
        return model()

    @app.post("/v1/completions")
    async def completions(request: Request) -> Response:
        wanted: CompletionRequest = understood(CompletionRequest, await read_json(request))
        check_model(wanted.model)
        tokens = check_length(60 if wanted.max_tokens is None else wanted.max_tokens)
        settings = wanted.settings(tokens, wanted.logprobs)
        asked = await run_in_threadpool(prompts_of, served.worker, wanted.prompt)
        return await answer(request, wanted, asked, settings, chat=False)

    @app.post("/v1/chat/completions")
    async def chat_completions(request: Request) -> Response:
        wanted: ChatRequest = understood(ChatRequest, await read_json(request))
        check_model(wanted.model)
        if wanted.top_logprobs is not None and not wanted.logprobs:
            raise Refused(400, "top_logprobs needs logprobs: true", param="top_logprobs")
        if not (turns := turns_of(wanted.messages)):
            raise Refused(400, "the messages say nothing", param="messages")
        tokens = check_length(wanted.max_completion_tokens or wanted.max_tokens or ANSWER_TOKENS)
        speaker = served.speaker
        settings = wanted.settings(tokens, (wanted.top_logprobs or 0) if wanted.logprobs else None, speaker.temperature)
        prompt = await run_in_threadpool(speaker.prompt, turns, tokens)
        return await answer(request, wanted, [Asked(prompt, prompt.ids[1:])], [speaker.suited(one) for one in settings], chat=True)

    @app.post("/v1/suggest")
    async def suggest(request: Request) -> Response:
        wanted: SuggestRequest = understood(SuggestRequest, await read_json(request))
        check_model(wanted.model)
        found = await asyncio.wrap_future(served.worker.suggest(wanted.text, wanted.n))
        words = [{"word": one.word, "probability": one.probability} for one in found]
        return JSONResponse({"model": served.name, "text": wanted.text, "suggestions": words})

    def told(of: Callable[[Exception], Refused]) -> Callable[[Request, Exception], Any]:
        async def handler(_request: Request, error: Exception) -> Response:
            return of(error).response()

        return handler

    for kind in (Refused, TatarLLMError, Exception):
        app.add_exception_handler(kind, told(refusal))
    app.add_exception_handler(HTTPException, told(lambda error: Refused(error.status_code, f"{error.detail}: this server has /v1/models, /v1/completions, /v1/chat/completions, /v1/suggest and /health")))  # type: ignore[attr-defined]
    return app
