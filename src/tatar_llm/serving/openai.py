"""The server's HTTP side: OpenAI's API as its own client library speaks it, and word suggestions.

https://platform.openai.com/docs/api-reference: /v1/models, /v1/completions, /v1/chat/completions; streams are server-sent
events. What OpenAI's API has and this server cannot do is refused by name, never passed over.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import hmac
import json
import math
import time
import uuid
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from fastapi import FastAPI, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse, StreamingResponse
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Receive, Scope, Send

from tatar_llm.chat import ANSWER_TOKENS, Speaker, Turn
from tatar_llm.console import say_seldom
from tatar_llm.errors import TatarLLMError, nearest
from tatar_llm.generation import Prompt, Settings, TokenScore, prompt_scores, read_prompt
from tatar_llm.serving.worker import Busy, Closed, Piece, Worker
from tatar_llm.tokenizer import decode_stream
from tatar_llm.tokenizer.load import token_bytes

BODY_BYTES = 1 << 20
BODY_SECONDS = 30.0
SLOWEST_CLIENT = 60.0
"""Seconds beyond a text's own time in which a client must have fetched a stream."""
MOST_WORDS = 50


@dataclass(frozen=True)
class Served:
    """The model that speaks."""

    name: str
    worker: Worker
    corpus: str = ""
    created: int = 0
    chat: bool = False
    """Whether it has learnt to answer."""

    @property
    def speaker(self) -> Speaker:
        """How it takes a conversation."""
        return Speaker(self.worker.model, self.worker.tokenizer, self.worker.tok_config, self.chat)


class Refused(Exception):
    """An answer in OpenAI's form of an error."""

    def __init__(self, status: int, message: str, *, kind: str = "invalid_request_error", param: str | None = None, code: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.body = {"error": {"message": message, "type": kind, "param": param, "code": code}}

    def response(self) -> JSONResponse:
        """As HTTP."""
        headers = {"Retry-After": "5"} if self.status in (429, 503) else {}
        if self.status == 401:
            headers["WWW-Authenticate"] = "Bearer"
        return JSONResponse(self.body, self.status, headers)


# -- what a request may say ---------------------------------------------------------------------------------------


class StreamOptions(BaseModel):
    include_usage: bool = False


class Wanted(BaseModel):
    """What both kinds of completion take; names and defaults are OpenAI's, sampling defaults those of `tatar-llm generate`."""

    model_config = ConfigDict(extra="forbid")
    model: str | None = None
    n: int = Field(1, ge=1)
    temperature: float | None = None
    top_p: float = 1.0
    seed: int | None = None
    stop: str | list[str] | None = None
    stream: bool = False
    stream_options: StreamOptions | None = None
    top_k: int = 40
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    no_repeat_ngram: int = 0
    user: str | None = None

    def settings(self, tokens: int, logprobs: int | None, temperature: float = 0.8) -> list[Settings]:
        """With `temperature` where the client names none; for each of the `n` texts; raises TatarLLMError for a value out of range."""
        stops = (self.stop,) if isinstance(self.stop, str) else tuple(self.stop or ())
        if len(stops) > 16:
            raise Refused(400, f"{len(stops)} stop strings: at most 16", param="stop")
        return [
            Settings(
                tokens, temperature if self.temperature is None else self.temperature, self.top_k, self.top_p, None if self.seed is None else self.seed + number, self.min_p,
                self.repetition_penalty, self.no_repeat_ngram, stops, logprobs,
            )
            for number in range(self.n)
        ]  # fmt: skip


class CompletionRequest(Wanted):
    prompt: str | list[str] | list[int] | list[list[int]] = ""
    max_tokens: int | None = Field(60, ge=0)
    logprobs: int | None = None
    echo: bool = False


class TextPart(BaseModel):
    type: Literal["text"]
    text: str


class Message(BaseModel):
    role: Literal["system", "developer", "user", "assistant"]
    content: str | list[TextPart] | None = None
    name: str | None = None

    @property
    def text(self) -> str:
        """The content in one piece."""
        return self.content if isinstance(self.content, str) else "".join(part.text for part in self.content or [])


class ChatRequest(Wanted):
    messages: list[Message] = Field(min_length=1, max_length=1000)
    max_tokens: int | None = Field(None, ge=1)
    max_completion_tokens: int | None = Field(None, ge=1)
    logprobs: bool = False
    top_logprobs: int | None = None


class SuggestRequest(BaseModel):
    model_config = ConfigDict(extra="forbid")
    model: str | None = None
    text: str
    n: int = Field(3, ge=1, le=MOST_WORDS)


NO_EFFECT = {
    "store", "metadata", "service_tier", "safety_identifier", "prompt_cache_key", "prompt_cache_retention", "parallel_tool_calls",
    "reasoning_effort", "verbosity",
}  # fmt: skip
"""What OpenAI's clients may send and what changes nothing here."""
NEUTRAL: dict[str, tuple[Any, ...]] = {
    "presence_penalty": (None, 0), "frequency_penalty": (None, 0), "logit_bias": (None, {}), "suffix": (None, ""),
    "best_of": (None, 1), "tools": (None, []), "functions": (None, []), "tool_choice": (None, "none", "auto"),
    "function_call": (None, "none", "auto"), "response_format": (None, {"type": "text"}), "modalities": (None, ["text"]),
    "audio": (None,), "prediction": (None,), "web_search_options": (None,),
}  # fmt: skip
"""What it could change, and the values that ask for nothing."""


def understood(kind: type[BaseModel], data: Any) -> Any:
    """A request's JSON as `kind`; raises Refused naming the field and what is wrong with it."""
    if not isinstance(data, dict):
        raise Refused(400, "the body must be a JSON object")
    data = {key: value for key, value in data.items() if key not in NO_EFFECT}
    for key in [key for key in data if key in NEUTRAL and key not in kind.model_fields]:
        if not any(data[key] == value for value in NEUTRAL[key]):
            hint = ": repetition_penalty does what it is for" if key.endswith("y_penalty") or key.startswith("presence") else ""
            raise Refused(400, f"{key} is not supported by this server{hint}", param=key, code="unsupported_parameter")
        del data[key]
    try:
        return kind.model_validate(data)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        field = str(first["loc"][0]) if first["loc"] else ""
        if first["type"] == "extra_forbidden":
            raise Refused(400, f"unknown field {field}{nearest(field, kind.model_fields)}", param=field) from None
        raise Refused(400, f"{field}: {first['msg']}" if field else first["msg"], param=field or None) from None


async def read_json(request: Request) -> Any:
    """The body; raises Refused where it is too long, too slow, no JSON, or not declared as JSON.

    Only `application/json` is taken: a page of another site can send a form or plain text to this machine without being
    asked for leave, JSON it cannot (unless --cors allows it).
    """
    if request.headers.get("content-type", "").split(";")[0].strip().lower() != "application/json":
        raise Refused(415, "send JSON, with the header Content-Type: application/json")
    body = bytearray()
    try:
        async with asyncio.timeout(BODY_SECONDS):
            async for chunk in request.stream():
                body += chunk
                if len(body) > BODY_BYTES:
                    raise Refused(413, f"the request is longer than {BODY_BYTES:,} bytes")
    except TimeoutError:
        raise Refused(408, f"the request took longer than {BODY_SECONDS:.0f} s to arrive") from None
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        raise Refused(400, "the body is not valid JSON") from None


# -- prompts ------------------------------------------------------------------------------------------------------


def turns_of(messages: Sequence[Message]) -> list[Turn]:
    """A conversation as the model's side knows it; a message without a word says nothing."""
    return [Turn("system" if one.role == "developer" else one.role, one.text) for one in messages if one.text.strip()]


@dataclass(frozen=True)
class Asked:
    """A prompt, and the ids of it that the client knows of."""

    prompt: Prompt
    sent: list[int]


def prompts_of(worker: Worker, wanted: str | list[str] | list[int] | list[list[int]]) -> list[Asked]:
    """A completion's prompts, given as text or as token ids."""
    several = wanted if isinstance(wanted, list) and wanted and not isinstance(wanted[0], int) else [wanted]
    return [_asked(worker, one) for one in several]  # type: ignore[arg-type]


def _asked(worker: Worker, wanted: str | list[int]) -> Asked:
    if isinstance(wanted, str):
        prompt = read_prompt(worker.model, worker.tokenizer, worker.tok_config, wanted)
        return Asked(prompt, prompt.ids[1:])
    if any(not 0 <= token < worker.model.config.vocab_size for token in wanted):
        raise Refused(400, f"token ids go from 0 to {worker.model.config.vocab_size - 1}", param="prompt")
    bos = worker.tok_config["bos_token_id"]
    return Asked(Prompt(wanted if wanted[:1] == [bos] else [bos, *wanted], False), wanted)


# -- answers ------------------------------------------------------------------------------------------------------


@dataclass
class Choice:
    """One text as it grows."""

    text: str = ""
    finish: str = ""
    tokens: int = 0
    scores: list[TokenScore] | None = None

    def add(self, piece: Piece) -> None:
        self.text += piece.text
        self.finish, self.tokens = piece.finish, piece.tokens
        if self.scores is not None:
            self.scores += piece.scores


class Answer:
    """A request on its way: its jobs in the worker, and the form of its answers."""

    def __init__(self, served: Served, wanted: Wanted, asked: list[Asked], settings: list[Settings], chat: bool) -> None:
        self.served, self.wanted, self.asked, self.settings, self.chat = served, wanted, asked, settings, chat
        self.id = f"{'chatcmpl' if chat else 'cmpl'}-{uuid.uuid4().hex}"
        self.created = int(time.time())
        with_scores = settings[0].logprobs is not None
        self.choices = [Choice(scores=[] if with_scores else None) for _ in asked for _ in settings]

    async def echo(self) -> None:
        """Let each text begin with its prompt, with its tokens' log-probabilities where they are wanted."""
        worker, count = self.served.worker, self.settings[0].logprobs
        for number, one in enumerate(self.asked):
            ids, scores = one.prompt.ids, []
            if count is not None:
                if len(ids) > (most := worker.model.config.block_size):
                    raise Refused(400, f"the prompt has {len(ids):,} tokens: with echo and logprobs at most {most}, the model's context",
                                  param="prompt", code="context_length_exceeded")  # fmt: skip
                found = await asyncio.wrap_future(worker.call(functools.partial(prompt_scores, worker.model, ids, count)))
                scores = [TokenScore(token, math.nan, []) for token in one.sent[: len(one.sent) - len(found)]] + found
            text = worker.tokenizer.decode(one.sent, skip_special_tokens=False) + " " * one.prompt.heal
            for choice in self.choices[number * len(self.settings) : (number + 1) * len(self.settings)]:
                choice.text = text
                if choice.scores is not None:
                    choice.scores += scores

    async def pieces(self) -> AsyncIterator[Piece]:
        """All texts' pieces as they come; leaving the loop cancels what goes on."""
        prompts = [one.prompt for one in self.asked]
        async with contextlib.aclosing(self.served.worker.arriving(prompts, self.settings)) as arriving:
            async for come in arriving:
                for piece in come:
                    yield piece

    async def whole(self) -> dict[str, Any]:
        """The answer in one."""
        async with contextlib.aclosing(self.pieces()) as pieces:
            async for piece in pieces:
                self.choices[piece.index].add(piece)
        choices = []
        for index, choice in enumerate(self.choices):
            logprobs = self._logprobs(choice.scores, 0)
            if self.chat:
                made: dict[str, Any] = {"message": {"role": "assistant", "content": choice.text, "refusal": None}}
            else:
                made = {"text": choice.text}
            choices.append({"index": index, **made, "finish_reason": choice.finish, "logprobs": logprobs})
        return self._head(chunk=False) | {"choices": choices, "usage": self._usage()}

    async def events(self) -> AsyncIterator[str]:
        """The answer as server-sent events; what goes wrong on the way is the last one."""
        offsets = [len(choice.text) for choice in self.choices]
        try:
            for index, choice in enumerate(self.choices):
                if self.chat:
                    yield self._event(index, {"delta": {"role": "assistant", "content": ""}}, None, None)
                elif choice.text:
                    yield self._event(index, {"text": choice.text}, None, self._logprobs(choice.scores, 0))
            async with contextlib.aclosing(self.pieces()) as pieces:
                async for piece in pieces:
                    choice = self.choices[piece.index]
                    choice.add(piece)
                    scores = self._logprobs(piece.scores, offsets[piece.index]) if choice.scores is not None else None
                    offsets[piece.index] = len(choice.text)
                    if not self.chat:
                        yield self._event(piece.index, {"text": piece.text}, piece.finish or None, scores)
                        continue
                    if piece.text or piece.scores:
                        yield self._event(piece.index, {"delta": {"content": piece.text}}, None, scores)
                    if piece.finish:
                        yield self._event(piece.index, {"delta": {}}, piece.finish, None)
            if self.wanted.stream_options and self.wanted.stream_options.include_usage:
                yield _data(self._head(chunk=True) | {"choices": [], "usage": self._usage()})
            yield "data: [DONE]\n\n"
        except Exception as error:
            yield _data(refusal(error).body)

    def _head(self, chunk: bool) -> dict[str, Any]:
        kind = ("chat.completion.chunk" if chunk else "chat.completion") if self.chat else "text_completion"
        return {"id": self.id, "object": kind, "created": self.created, "model": self.served.name}

    def _event(self, index: int, made: dict[str, Any], finish: str | None, logprobs: Any) -> str:
        return _data(self._head(chunk=True) | {"choices": [{"index": index, **made, "finish_reason": finish, "logprobs": logprobs}]})

    def _usage(self) -> dict[str, int]:
        prompt = sum(len(one.prompt.ids) for one in self.asked)
        made = sum(choice.tokens for choice in self.choices)
        return {"prompt_tokens": prompt, "completion_tokens": made, "total_tokens": prompt + made}

    def _logprobs(self, scores: Sequence[TokenScore] | None, offset: int) -> dict[str, Any] | None:
        """Scores in OpenAI's form; `offset`: the place in the text of the first. A token that nothing stands before has none."""
        if scores is None:
            return None
        if self.chat:
            return {"content": [self._chat_score(score) for score in scores], "refusal": None}
        step, offsets = decode_stream(self.served.worker.tokenizer), []
        for score in scores:
            offsets.append(offset)
            offset += len(step(score.token))
        return {
            "tokens": [self._text(score.token) for score in scores],
            "token_logprobs": [None if math.isnan(score.logprob) else score.logprob for score in scores],
            "top_logprobs": [{self._text(one): value for one, value in score.alternatives} or None for score in scores],
            "text_offset": offsets,
        }

    def _chat_score(self, score: TokenScore) -> dict[str, Any]:
        others = [self._token(one) | {"logprob": value} for one, value in score.alternatives]
        return self._token(score.token) | {"logprob": score.logprob, "top_logprobs": others}

    def _token(self, token: int) -> dict[str, Any]:
        return {"token": self._text(token), "bytes": list(token_bytes(self.served.worker.tokenizer, token))}

    def _text(self, token: int) -> str:
        """A token's text; where it is a part of a letter its bytes, written as OpenAI writes them."""
        text = self.served.worker.tokenizer.decode([token], skip_special_tokens=False)
        if "\ufffd" not in text:
            return text
        return "bytes:" + "".join(f"\\x{byte:02x}" for byte in token_bytes(self.served.worker.tokenizer, token))


def _data(value: dict[str, Any]) -> str:
    return f"data: {json.dumps(value, ensure_ascii=False)}\n\n"


class EventStream(StreamingResponse):
    """Server-sent events, given up where the client does not fetch them."""

    def __init__(self, events: AsyncIterator[str], seconds: float) -> None:
        super().__init__(events, media_type="text/event-stream", headers={"Cache-Control": "no-cache", "X-Accel-Buffering": "no"})
        self.seconds = seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send; the connection is closed when time is up."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self.seconds):
                await super().__call__(scope, receive, send)


async def unless_gone(request: Request, work: Any) -> Any:
    """Await `work`; cancel it when the client has gone."""
    task = asyncio.ensure_future(work)
    try:
        while not task.done():
            await asyncio.wait({task}, timeout=0.5)
            if not task.done() and await request.is_disconnected():
                return Response(status_code=499)  # nobody reads it
        return task.result()
    finally:
        task.cancel()


def refusal(error: Exception) -> Refused:
    """Any error as what the client hears of it."""
    if isinstance(error, Refused):
        return error
    if isinstance(error, Busy):
        return Refused(429, str(error), kind="rate_limit_error", code="rate_limit_exceeded")
    if isinstance(error, Closed):
        return Refused(503, str(error), kind="server_error")
    if isinstance(error, TatarLLMError):
        return Refused(400, str(error))
    if isinstance(error, ClientDisconnect):
        return Refused(499, "the client has gone")
    say_seldom(f"server: {type(error).__name__}: {error}")
    return Refused(500, "the server failed on this request", kind="server_error")


# -- the application ----------------------------------------------------------------------------------------------


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
