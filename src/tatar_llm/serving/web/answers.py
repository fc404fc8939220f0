"""What the page asks of the model, and what comes of it while it comes."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Sequence
from typing import Any

from tatar_llm.chat import Turn
from tatar_llm.generation import Prompt, Settings
from tatar_llm.serving.web.markup import Written
from tatar_llm.serving.worker import Worker

LENGTH, TEMPERATURE, TOP_K, SAMPLES = (10, 200), (0.1, 2.0), (1, 100), (1, 3)
"""The ranges that people may choose from."""
LONGEST_TEXT = 20_000
"""Characters of a field, many times the context of any model made here."""
MESSAGES = 40
"""The last ones of a conversation, which the model is given."""
PAUSE = 0.04
"""Seconds between two pictures of a growing text: at more than 25 a second nobody sees a difference."""


def chosen(length: float, temperature: float, top_k: float, *, most: int = LENGTH[1], scores: bool = False) -> Settings:
    """Settings from the sliders; what lies outside of their range, or is no number, is brought into it."""
    return Settings(
        max_new_tokens=int(within(length, min(LENGTH[0], most), min(LENGTH[1], most))), temperature=within(temperature, *TEMPERATURE),
        top_k=int(within(top_k, *TOP_K)), logprobs=0 if scores else None,
    )  # fmt: skip


def clean(text: Any) -> str:
    """A field's text: the end of one that is too long, and nothing that UTF-8 cannot hold."""
    return text[-LONGEST_TEXT:].encode("utf-8", "replace").decode("utf-8") if isinstance(text, str) else ""


def within(value: Any, low: float, high: float) -> float:
    """The number of the range that is nearest to `value`; its beginning for what is no number."""
    try:
        return min(max(low, float(value)), high)  # in this order: low for what is not a number
    except (TypeError, ValueError):
        return low


async def written(worker: Worker, prompt: Prompt, settings: Sequence[Settings]) -> AsyncGenerator[list[Written], None]:
    """The texts as they grow, as often as eyes can follow; leaving the loop cancels them.

    Raises:
        TatarLLMError: what the worker raises; Busy and Closed among it.
    """
    texts = [Written() for _ in settings]
    async with contextlib.aclosing(worker.arriving([prompt], settings)) as arriving:
        async for come in arriving:
            for piece in come:
                texts[piece.index].add(piece)
            yield texts
            await asyncio.sleep(PAUSE)


def turns_of(history: Sequence[dict[str, str]]) -> list[Turn]:
    """A conversation as the model's side knows it; answers without a word are left out."""
    return [Turn(one["role"], one["content"]) for one in history if one["content"]]
