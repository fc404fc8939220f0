"""The thread that owns the model: everybody gets what they would get alone, in turn, within the limits."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Iterator

import pytest
import torch

from tatar_llm.errors import TatarLLMError
from tatar_llm.generation import Settings, Suggester, generate_batch, read_prompt
from tatar_llm.model import GPT
from tatar_llm.serving import Limits, Worker
from tatar_llm.serving.worker import Busy, Closed

TEXTS = ("Кичә", "Без бергә урманга бардык ", "Ә", "", "Мәктәптә укыйбыз һәм " * 8)


@pytest.fixture
def worker(tiny_model: GPT, tiny_tokenizer: tuple) -> Iterator[Worker]:
    made = Worker(tiny_model, *tiny_tokenizer, Limits(rows=3, waiting=40, tokens=200))
    yield made
    made.close()


def whole(worker: Worker, text: str, settings: list[Settings]) -> list[tuple[str, str]]:
    texts, reasons = [""] * len(settings), [""] * len(settings)

    async def read() -> None:
        async for come in worker.arriving([read_prompt(worker.model, worker.tokenizer, worker.tok_config, text)], settings):
            for piece in come:
                texts[piece.index] += piece.text
                reasons[piece.index] = piece.finish

    asyncio.run(read())
    return list(zip(texts, reasons, strict=True))


def at_rest(worker: Worker) -> bool:
    """Whether nothing is left to do; the last answer arrives a moment before its place is free."""
    end = time.monotonic() + 10
    while worker.load() != {"running": 0, "waiting": 0} and time.monotonic() < end:
        time.sleep(0.01)
    return worker.load() == {"running": 0, "waiting": 0}


def test_everybody_gets_what_they_would_get_alone(worker: Worker, tiny_model: GPT, tiny_tokenizer: tuple) -> None:
    settings = Settings(max_new_tokens=30, temperature=0, stop=("зз",))
    expected = generate_batch(tiny_model, *tiny_tokenizer, TEXTS, settings)
    found: dict[int, list[tuple[str, str]]] = {}

    def ask(number: int) -> None:
        found[number] = whole(worker, TEXTS[number % len(TEXTS)], [settings])

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    for number in range(10):
        [one] = expected[number % len(TEXTS)]
        assert found[number] == [(one.text, one.reason)]
    assert at_rest(worker)


def test_several_texts_with_seeds(worker: Worker, tiny_model: GPT, tiny_tokenizer: tuple) -> None:
    settings = [Settings(max_new_tokens=9, seed=5 + number) for number in range(3)]
    expected = generate_batch(tiny_model, *tiny_tokenizer, ["Кичә"], settings[0], samples=3)[0]
    assert whole(worker, "Кичә", settings) == [(one.text, one.reason) for one in expected]


def test_leaving_the_loop_ends_it(worker: Worker) -> None:
    async def leave() -> None:
        prompt = read_prompt(worker.model, worker.tokenizer, worker.tok_config, "Кичә")
        async with contextlib.aclosing(worker.arriving([prompt], [Settings(200)] * 3)) as arriving:
            await anext(arriving)

    asyncio.run(leave())
    assert at_rest(worker)


def test_limits(worker: Worker) -> None:
    prompt = read_prompt(worker.model, worker.tokenizer, worker.tok_config, "Кичә")
    with pytest.raises(TatarLLMError, match="at most 3 are made"):
        worker.submit(prompt, [Settings(2)] * 4, print)
    with pytest.raises(TatarLLMError, match="max_tokens is 201"):
        worker.submit(prompt, [Settings(201)], print)
    assert whole(worker, "Кичә", [Settings(0)]) == [("", "length")]


def test_too_much_is_refused_and_the_rest_served(tiny_model: GPT, tiny_tokenizer: tuple) -> None:
    worker = Worker(tiny_model, *tiny_tokenizer, Limits(rows=1, waiting=2, tokens=100))
    try:
        prompt, gate, pieces = read_prompt(tiny_model, *tiny_tokenizer, "Кичә"), threading.Event(), []
        worker.call(gate.wait)  # the model is busy
        while worker.calls:
            time.sleep(0.01)
        for _ in range(2):
            worker.submit(prompt, [Settings(3)], pieces.append)
        with pytest.raises(Busy, match="2 texts are waiting"):
            worker.submit(prompt, [Settings(3)], pieces.append)
        gate.set()
        end = time.monotonic() + 10
        while sum(bool(piece.finish) for piece in pieces) < 2 and time.monotonic() < end:
            time.sleep(0.01)
        assert sum(bool(piece.finish) for piece in pieces) == 2
    finally:
        worker.close()


def test_time_is_up(tiny_model: GPT, tiny_tokenizer: tuple) -> None:
    worker = Worker(tiny_model, *tiny_tokenizer, Limits(rows=1, seconds=1.0, tokens=10**6))
    try:
        worker.tok_config = worker.tok_config | {"eos_token_id": -1}  # it ends by time alone
        [(_, reason)] = whole(worker, "Кичә", [Settings(10**6)])
        assert reason == "length"
        gate = threading.Event()
        worker.call(gate.wait)
        prompt, heard = read_prompt(tiny_model, *tiny_tokenizer, "Кичә"), []
        worker.submit(prompt, [Settings(3)], heard.append)
        time.sleep(1.1)
        gate.set()
        end = time.monotonic() + 10
        while not heard and time.monotonic() < end:
            time.sleep(0.01)
        assert isinstance(heard[0], Busy)
    finally:
        worker.close()


def test_suggestions_are_the_suggesters(worker: Worker, tiny_model: GPT, tiny_tokenizer: tuple) -> None:
    assert worker.suggest("Без бергә ур", 3).result(20) == Suggester(tiny_model, *tiny_tokenizer).suggest("Без бергә ур", 3)
    with pytest.raises(ZeroDivisionError):
        worker.call(lambda: 1 / 0).result(20)
    assert worker.suggest("к", 1).result(20), "an error of one is nobody else's"


def test_a_damaged_model_is_told_to_all_who_wait(worker: Worker) -> None:
    with torch.no_grad():
        worker.model.norm.weight.fill_(float("nan"))
    with pytest.raises(TatarLLMError, match="NaN"):
        whole(worker, "Кичә", [Settings(3)])
    with torch.no_grad():
        worker.model.norm.weight.fill_(1.0)
    assert whole(worker, "Кичә", [Settings(3)])[0][1] in ("length", "stop"), "the thread lives on"


def test_closing_tells_those_who_wait(tiny_model: GPT, tiny_tokenizer: tuple) -> None:
    worker = Worker(tiny_model, *tiny_tokenizer, Limits(rows=1, tokens=10**6))
    prompt, heard = read_prompt(tiny_model, *tiny_tokenizer, "Кичә"), []
    for _ in range(2):
        worker.submit(prompt, [Settings(10**6)], heard.append)
    worker.close()
    assert sum(isinstance(one, Closed) for one in heard) == 2
    for late in (lambda: worker.submit(prompt, [Settings(3)], heard.append), lambda: worker.suggest("к", 1)):
        with pytest.raises(Closed):
            late()
