"""A request on its way: its prompts, its texts as they grow, and the form in which the client gets them."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import json
import math
import time
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any

from fastapi import Request, Response
from fastapi.responses import StreamingResponse
from starlette.requests import ClientDisconnect
from starlette.types import Receive, Scope, Send

from tatar_llm.chat import Speaker, Turn
from tatar_llm.console import say_seldom
from tatar_llm.errors import TatarLLMError
from tatar_llm.generation import Prompt, Settings, TokenScore, prompt_scores, read_prompt
from tatar_llm.serving.requests import Message, Refused, Wanted
from tatar_llm.serving.worker import Busy, Closed, Piece, Worker
from tatar_llm.tokenizer import decode_stream
from tatar_llm.tokenizer.load import token_bytes


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

    async def pieces(self) -> AsyncGenerator[Piece, None]:
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
