"""One thread that owns the model: requests of any number of clients, continued side by side as they come.

Rows of different requests share the model's passes (`generation.batch`), come in when there is room, in the order in
which they were asked for, and leave as soon as they end. Everything else in the server only waits for pieces of text.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import threading
import time
from collections import deque
from collections.abc import AsyncGenerator, Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from tokenizers import Tokenizer

from tatar_llm.errors import TatarLLMError
from tatar_llm.generation import (
    Batch,
    Prompt,
    Row,
    Settings,
    Suggester,
    Suggestion,
    TextOut,
    TokenScore,
    starts_with_space,
)
from tatar_llm.model import GPT, Step

T = TypeVar("T")


@dataclass(frozen=True)
class Limits:
    """What a server does not go beyond."""

    rows: int = 32
    """Texts that are continued at a time."""
    waiting: int = 256
    """Texts that may wait for a place."""
    texts: int = 128
    """Texts of one request."""
    tokens: int = 4096
    """New tokens of a text."""
    seconds: float = 300.0
    """From a request's coming to its last word; then it ends as if at its length."""


@dataclass(frozen=True)
class Piece:
    """What became of a text by one or more new tokens."""

    index: int
    """Which of the request's texts."""
    text: str
    scores: list[TokenScore]
    """With Settings.logprobs: of the tokens since the last piece."""
    finish: str = ""
    """"stop" or "length" in a text's last piece."""
    tokens: int = 0
    """New tokens of this text so far."""


class Busy(TatarLLMError):
    """Too much is waiting."""


class Closed(TatarLLMError):
    """The server is going down."""


@dataclass(eq=False)
class Job:
    """Texts that one request wants, from one prompt."""

    prompt: Prompt
    settings: list[Settings]
    deliver: Callable[[Piece | Exception], Any]
    """Called in the worker's thread: with each piece, or with what went wrong, which ends the job."""
    deadline: float
    cancelled: bool = False


@dataclass
class _Going:
    job: Job
    index: int
    out: TextOut
    told: int = 0
    scores: list[TokenScore] = field(default_factory=list)


class Worker:
    """Continues texts and suggests words, in a thread of its own."""

    def __init__(self, model: GPT, tokenizer: Tokenizer, tok_config: dict[str, Any], limits: Limits | None = None) -> None:
        self.model, self.tokenizer, self.tok_config = model.eval(), tokenizer, tok_config
        self.limits = limits or Limits()
        self.spaces = starts_with_space(tokenizer, model.config.vocab_size)
        self.pass_one = Step(model)
        self.suggester = Suggester(model, tokenizer, tok_config, pass_one=self.pass_one)
        self.batch = Batch(model, self.limits.rows, self.pass_one)
        self.going: dict[Row, _Going] = {}
        self.waiting: deque[Job] = deque()
        self.calls: deque[tuple[Callable[[], Any], Future[Any]]] = deque()
        self.news = threading.Condition()
        self.closing = False
        self.thread = threading.Thread(target=self._work, name="model", daemon=True)
        self.thread.start()

    def submit(self, prompt: Prompt, settings: Sequence[Settings], deliver: Callable[[Piece | Exception], Any]) -> Job:
        """Ask for a text for each of `settings`; pieces go to `deliver` from another thread.

        Raises:
            TatarLLMError: more texts or tokens than a request may want.
            Busy, Closed: not now.
        """
        if len(settings) > self.limits.rows:
            raise TatarLLMError(f"{len(settings)} texts in one request: at most {self.limits.rows} are made")
        if (most := max(one.max_new_tokens for one in settings)) > self.limits.tokens:
            raise TatarLLMError(f"max_tokens is {most}: at most {self.limits.tokens} are made")
        job = Job(prompt, list(settings), deliver, time.monotonic() + self.limits.seconds)
        with self.news:
            if self.closing:
                raise Closed("the server is going down")
            if self._texts_waiting() + len(settings) > self.limits.waiting:
                raise Busy(f"{self.limits.waiting} texts are waiting already: try again in some seconds")
            self.waiting.append(job)
            self.news.notify()
        return job

    def cancel(self, job: Job) -> None:
        """Nobody waits for this any more."""
        job.cancelled = True
        with self.news:
            self.news.notify()

    async def arriving(self, prompts: Sequence[Prompt], settings: Sequence[Settings]) -> AsyncGenerator[list[Piece], None]:
        """The pieces of a text for each prompt and each of `settings`, all that have come since the last look; texts are counted through.

        Leaving the loop cancels what goes on. Raises what `submit` does, and what becomes of a job.
        """
        loop, arrived = asyncio.get_running_loop(), asyncio.Queue[Piece | Exception]()
        jobs: list[Job] = []

        def deliver(first: int, piece: Piece | Exception) -> None:
            counted = replace(piece, index=first + piece.index) if isinstance(piece, Piece) else piece
            loop.call_soon_threadsafe(arrived.put_nowait, counted)

        try:
            for number, prompt in enumerate(prompts):
                jobs.append(self.submit(prompt, settings, functools.partial(deliver, number * len(settings))))
            left = len(prompts) * len(settings)
            while left:
                come = [await arrived.get()]
                while not arrived.empty():
                    come.append(arrived.get_nowait())
                pieces = []
                for one in come:
                    if isinstance(one, Exception):
                        raise one
                    left -= bool(one.finish)
                    pieces.append(one)
                yield pieces
        finally:
            for job in jobs:
                self.cancel(job)

    def call(self, function: Callable[[], T]) -> Future[T]:
        """Run something that needs the model between two steps."""
        future: Future[T] = Future()
        with self.news:
            if self.closing:
                raise Closed("the server is going down")
            if len(self.calls) >= self.limits.waiting:
                raise Busy("too many suggestions are waiting: try again in some seconds")
            self.calls.append((function, future))
            self.news.notify()
        return future

    def suggest(self, text: str, n: int) -> Future[list[Suggestion]]:
        """Words that finish a text."""
        return self.call(lambda: self.suggester.suggest(text, n))

    def load(self) -> dict[str, int]:
        """How much is going on."""
        with self.news:
            return {"running": len(self.going), "waiting": self._texts_waiting()}

    def close(self, seconds: float = 10.0) -> None:
        """Stop: what is going on is ended with `Closed`."""
        with self.news:
            self.closing = True
            self.news.notify()
        self.thread.join(seconds)

    def _texts_waiting(self) -> int:
        return sum(len(job.settings) for job in self.waiting)

    def _work(self) -> None:
        while True:
            with self.news:
                while not (self.closing or self.waiting or self.calls or self.going):
                    self.news.wait()
                if self.closing:
                    break
                calls, self.calls = self.calls, deque()
            for function, future in calls:
                _answer(function, future)
            try:
                self._admit()
                self._step()
            except Exception as error:  # whatever a damaged model brings: those who wait must hear of it
                self._fail_all(error)
        self._fail_all(Closed("the server is going down"))

    def _admit(self) -> None:
        """Give waiting jobs a place, first come first served; each is read in one pass."""
        while True:
            with self.news:
                while self.waiting and self.waiting[0].cancelled:
                    self.waiting.popleft()
                if not self.waiting or len(self.going) + len(self.waiting[0].settings) > self.limits.rows:
                    return
                job = self.waiting.popleft()
            if time.monotonic() > job.deadline:
                _deliver(job, Busy("the server had no place for this text in time: try again later"))
                continue
            try:
                rows = self.batch.add(
                    job.prompt.ids, job.settings, job.prompt.stop(self.tok_config), self.spaces if job.prompt.heal else None
                )
            except Exception as error:
                _deliver(job, error)
                continue
            for index, row in enumerate(rows):
                if row.finished:
                    _deliver(job, Piece(index, "", [], row.finished))
                else:
                    self.going[row] = _Going(job, index, TextOut(self.tokenizer, job.prompt, row.settings))

    def _step(self) -> None:
        """One more token for everybody."""
        for row, going in list(self.going.items()):
            if going.job.cancelled:
                self._leave(row)
        if not self.going:
            return
        now = time.monotonic()
        for row in self.batch.step():
            going = self.going[row]
            text = "" if row.finished == "stop" else going.out.add(row.new[-1])
            late = now > going.job.deadline
            finish = "stop" if going.out.stopped else row.finished or ("length" if late else "")
            if finish and not going.out.stopped:
                text += going.out.add(None)
            if text or finish:
                piece = Piece(going.index, text, row.scores[going.told :], finish, len(row.new))
                going.told = len(row.scores)
                _deliver(going.job, piece)
            if finish:
                self._leave(row)

    def _leave(self, row: Row) -> None:
        self.batch.remove(row)
        with self.news:
            self.going.pop(row, None)

    def _fail_all(self, error: Exception) -> None:
        with self.news:
            jobs = {going.job for going in self.going.values()} | set(self.waiting)
            calls, self.calls = self.calls, deque()
            self.going.clear()
            self.waiting.clear()
        self.batch = Batch(self.model, self.limits.rows, self.pass_one)
        for job in jobs:
            _deliver(job, error)
        for _, future in calls:
            if future.set_running_or_notify_cancel():
                future.set_exception(error)


def _answer(function: Callable[[], Any], future: Future[Any]) -> None:
    if not future.set_running_or_notify_cancel():
        return
    try:
        future.set_result(function())
    except Exception as error:
        future.set_exception(error)


def _deliver(job: Job, piece: Piece | Exception) -> None:
    if not job.cancelled:
        with contextlib.suppress(RuntimeError):  # its event loop has closed
            job.deliver(piece)
