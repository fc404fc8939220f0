"""Several texts continued at once, each with its own length, settings and randomness."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

from tatar_llm.errors import TatarLLMError
from tatar_llm.generation.sampling import Settings, choose, log_softmax, random_source
from tatar_llm.model import GPT, Cache, KVCache, RaggedCache, Step


@dataclass
class TokenScore:
    """How likely a chosen token was, before temperature and the like."""

    token: int
    logprob: float
    alternatives: list[tuple[int, float]]
    """The likeliest tokens at its place, best first."""


@dataclass(eq=False)
class Row:
    """One text that is being continued."""

    ids: list[int]
    """The part of the text that the model sees: prompt and new tokens."""
    settings: Settings
    stop: int | None
    """The id that ends the text."""
    first: np.ndarray | None
    """(V,) True for the ids that the first new token may be; None allows all."""
    source: np.random.Generator
    new: list[int] = field(default_factory=list)
    scores: list[TokenScore] = field(default_factory=list)
    """With settings.logprobs: of each new token."""
    finished: str = ""
    """Why it ended: "stop" or "length"; empty while it goes on."""
    logits: np.ndarray = field(default_factory=lambda: np.zeros(0, np.float32))
    inside: int = 0
    """Tokens in the cache."""


class Batch:
    """Rows that share the model's passes; rows come and go while the others go on.

    A prompt longer than the context keeps its end. When the context is full, the older half is let go and the rest is
    read again, so that text of any length can be made.
    """

    def __init__(self, model: GPT, rows: int = 1, pass_one: Step | None = None) -> None:
        self.model, self.block = model, model.config.block_size
        self.pass_one = pass_one
        self.rows: list[Row] = []
        self.store = self._room(rows)

    @torch.inference_mode()
    def add(
        self, prompt: Sequence[int], settings: Sequence[Settings], stop: int | None = None, first: np.ndarray | None = None
    ) -> list[Row]:
        """Read a prompt (which starts with <bos>) once, and continue it once for each of `settings`."""
        ids = list(prompt[-max(1, self.block - 1) :])
        made = [Row(list(ids), one, stop, first, random_source(one.seed)) for one in settings]
        going = [row for row in made if row.settings.max_new_tokens > 0]
        for row in made:
            row.finished = "" if row.settings.max_new_tokens > 0 else "length"
        if not going:
            return made
        start = len(self.rows)
        self._make_room(start + len(going))
        self.rows += going
        self._read(start, ids)
        head = going[0]
        for place, row in enumerate(going[1:], start + 1):
            self.store.copy_row(start, place, head.inside)
            row.inside, row.logits = head.inside, head.logits
        return made

    @torch.inference_mode()
    def step(self) -> list[Row]:
        """Give every row its next token, or its end. Returns the rows that were there."""
        served = list(self.rows)
        for row in served:
            self._choose(row)
        for row in served:
            if row.finished:
                self.remove(row)
        self._advance()
        return served

    @torch.inference_mode()
    def remove(self, row: Row) -> None:
        """Let a row go, also in the middle; one that is not there is no matter."""
        if row not in self.rows:
            return
        place, last = self.rows.index(row), len(self.rows) - 1
        if place != last:
            moved = self.rows[last]
            self.store.copy_row(last, place, moved.inside)
            self.rows[place] = moved
        self.rows.pop()

    def _choose(self, row: Row) -> None:
        logits = row.logits
        if row.first is not None:
            logits, row.first = np.where(row.first, logits, -np.inf), None
        if not np.isfinite(logits.max()):
            raise TatarLLMError("the model answers NaN: its weights are damaged, train it again or take another --model")
        token = choose(logits, row.settings, row.source, row.ids)
        if token == row.stop:
            row.finished = "stop"
            return
        if row.settings.logprobs is not None:
            row.scores.append(_score(row.logits, token, row.settings.logprobs))
        row.ids.append(token)
        row.new.append(token)
        if len(row.new) >= row.settings.max_new_tokens:
            row.finished = "length"

    def _advance(self) -> None:
        """Logits after each row's newest token."""
        for place, row in enumerate(self.rows):
            if row.inside + 1 > self.block:
                row.ids = row.ids[-max(1, self.block // 2) :]
                self._read(place, row.ids[:-1])
        if not self.rows:
            return
        if self.pass_one is None:
            self.pass_one = Step(self.model)
        if len(self.rows) == 1:
            cache: Cache = self._one(0, self.rows[0].inside)
        else:
            cache = RaggedCache(self.store, [row.inside for row in self.rows])
        newest = torch.tensor([row.ids[-1] for row in self.rows], device=self.model.device)
        for row, found in zip(self.rows, self.pass_one(newest, cache).float().cpu().numpy(), strict=True):
            row.inside, row.logits = row.inside + 1, found

    def _read(self, place: int, ids: Sequence[int]) -> None:
        """Put ids into a row's cache, in place of what it held."""
        row, cache = self.rows[place], self._one(place, 0)
        row.inside = len(ids)
        if ids:
            last = torch.tensor([len(ids) - 1], device=self.model.device)
            logits, _ = self.model(torch.tensor([list(ids)], device=self.model.device), cache=cache, at=last)
            row.logits = logits[0].float().cpu().numpy()

    def _one(self, place: int, inside: int) -> KVCache:
        """A row's part of the store, holding `inside` tokens."""
        cache = self.store.rows(place, place + 1)
        cache.position = inside
        return cache

    def _room(self, rows: int) -> KVCache:
        return KVCache(self.model.config, rows, self.block, self.model.device, self.model.embedding.weight.dtype)

    def _make_room(self, wanted: int) -> None:
        have = self.store.batch
        if wanted > have:
            larger = self._room(max(wanted, 2 * have))
            larger.take_over(self.store)
            self.store = larger


@torch.inference_mode()
def prompt_scores(model: GPT, ids: Sequence[int], count: int) -> list[TokenScore]:
    """How likely each token of a text but the first is, (len(ids) - 1); at most block_size ids."""
    logits, _ = model(torch.tensor([list(ids)], device=model.device))
    return [_score(row, token, count) for row, token in zip(logits[0].float().cpu().numpy(), ids[1:], strict=False)]


def _score(logits: np.ndarray, token: int, count: int) -> TokenScore:
    logprobs = log_softmax(logits.astype(np.float64))
    best = np.argpartition(-logprobs, count - 1)[:count] if 0 < count < len(logprobs) else np.arange(len(logprobs))[:count]
    ranked = sorted(((int(one), float(logprobs[one])) for one in best), key=lambda pair: (-pair[1], pair[0]))
    return TokenScore(token, float(logprobs[token]), ranked)
