"""What a request may say, in OpenAI's words; what it asks and this server cannot do is refused by name, never passed over."""

from __future__ import annotations

import asyncio
import json
from typing import Any, Literal

from fastapi import Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from tatar_llm.errors import nearest
from tatar_llm.generation import Settings

BODY_BYTES = 1 << 20
BODY_SECONDS = 30.0
MOST_WORDS = 50


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
