"""How to continue a text, and choosing the next token from its logits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tatar_llm.errors import TatarLLMError

MOST_ALTERNATIVES = 20


@dataclass(frozen=True)
class Settings:
    """How to continue a prompt."""

    max_new_tokens: int = 60
    """Most tokens added to the prompt."""
    temperature: float = 0.8
    """Below 1 plays safe, above 1 takes risks; 0 always takes the likeliest token."""
    top_k: int = 40
    """Choose among this many likeliest tokens; 0 among all."""
    top_p: float = 1.0
    """Choose among the likeliest tokens that together have this probability."""
    seed: int | None = None
    """The same seed gives the same text; none gives another each time."""
    min_p: float = 0.0
    """Leave out tokens less likely than this share of the likeliest one's probability."""
    repetition_penalty: float = 1.0
    """Above 1 makes tokens that stand in the text already less likely."""
    no_repeat_ngram: int = 0
    """Never repeat a run of this many tokens; 0 allows it."""
    stop: tuple[str, ...] = ()
    """Strings that end the text; they are not part of it."""
    logprobs: int | None = None
    """With a number: log-probabilities of each new token and of so many alternatives."""

    def __post_init__(self) -> None:
        if not 0 <= self.max_new_tokens <= 1_000_000:
            raise TatarLLMError(f"max_new_tokens is {self.max_new_tokens}: it must be at least 0 and at most a million")
        if not 0 <= self.temperature <= 100:
            raise TatarLLMError(f"temperature is {self.temperature}: it must lie between 0 and 100")
        if self.top_k < 0:
            raise TatarLLMError(f"top_k is {self.top_k}: it must be at least 0")
        if not 0 < self.top_p <= 1:
            raise TatarLLMError(f"top_p is {self.top_p}: it must be greater than 0 and at most 1")
        if self.seed is not None and not -(2**63) <= self.seed < 2**64:
            raise TatarLLMError(f"seed is {self.seed}: it must fit into 64 bits")
        if not 0 <= self.min_p <= 1:
            raise TatarLLMError(f"min_p is {self.min_p}: it must lie between 0 and 1")
        if not 0.01 <= self.repetition_penalty <= 100:
            raise TatarLLMError(f"repetition_penalty is {self.repetition_penalty}: it must lie between 0.01 and 100")
        if self.no_repeat_ngram < 0:
            raise TatarLLMError(f"no_repeat_ngram is {self.no_repeat_ngram}: it must be at least 0")
        if any(not text for text in self.stop):
            raise TatarLLMError("a stop string is empty: it would end every text at once")
        if self.logprobs is not None and not 0 <= self.logprobs <= MOST_ALTERNATIVES:
            raise TatarLLMError(f"logprobs is {self.logprobs}: it must lie between 0 and {MOST_ALTERNATIVES}")


def random_source(seed: int | None) -> np.random.Generator:
    """Randomness of one text's own."""
    return np.random.Generator(np.random.PCG64(None if seed is None else seed % 2**64))


def choose(logits: np.ndarray, settings: Settings, source: np.random.Generator, before: Sequence[int] = ()) -> int:
    """One token id from logits (V,).

    The order is transformers': repetition, temperature, top-k, top-p (Holtzman et al. 2020), min-p (Nguyen et al. 2024).

    Args:
        before: the ids of the text so far, for the two settings about repetition.
    """
    logits = repeated(logits, settings, before)
    if settings.temperature == 0:
        return int(logits.argmax())
    ids = None
    if 0 < settings.top_k < len(logits):
        ids = np.argpartition(-logits, settings.top_k - 1)[: settings.top_k]
        logits = logits[ids]
    scaled = logits.astype(np.float64) / settings.temperature
    probability = np.exp(scaled - scaled.max())
    probability /= probability.sum()
    if settings.top_p < 1:
        order = np.argsort(-probability, kind="stable")
        before_it = np.cumsum(probability[order]) - probability[order]  # mass of the likelier ones: the first is always kept
        probability[order[before_it >= settings.top_p]] = 0
    if settings.min_p:
        probability[probability < settings.min_p * probability.max()] = 0
    reached = np.cumsum(probability)
    place = min(int(np.searchsorted(reached, source.random() * reached[-1], side="right")), len(reached) - 1)
    return int(place if ids is None else ids[place])


def repeated(logits: np.ndarray, settings: Settings, before: Sequence[int]) -> np.ndarray:
    """Logits after the settings about repetition; the given array stays as it is.

    The penalty divides positive logits and multiplies negative ones (Keskar et al. 2019, CTRL). Where every token is
    forbidden by the n-gram rule, none is.
    """
    if settings.repetition_penalty != 1 and before:
        seen = np.unique(np.asarray(before))
        logits = logits.copy()
        logits[seen] = np.where(logits[seen] > 0, logits[seen] / settings.repetition_penalty, logits[seen] * settings.repetition_penalty)
    size = settings.no_repeat_ngram
    if 0 < size <= len(before):
        last = list(before[len(before) - size + 1 :])
        banned = {before[end] for end in range(size - 1, len(before)) if list(before[end - size + 1 : end]) == last}
        if banned and len(banned) < len(logits):
            logits = logits.copy()
            logits[list(banned)] = -np.inf
    return logits


def log_softmax(logits: np.ndarray) -> np.ndarray:
    """Log-probabilities (V,) of logits (V,)."""
    shifted = logits - logits.max()
    return shifted - np.log(np.exp(shifted).sum())
