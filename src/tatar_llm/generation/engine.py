"""From a prompt's text to its continuation's: one text as it comes, or many at once."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from tokenizers import Tokenizer

from tatar_llm.errors import TatarLLMError
from tatar_llm.generation.batch import Batch, Row, TokenScore
from tatar_llm.generation.sampling import Settings
from tatar_llm.model import GPT
from tatar_llm.tokenizer import decode_stream, encode_text

ROWS_AT_ONCE = 32


@dataclass(frozen=True)
class Continuation:
    """What a prompt was continued with."""

    text: str
    """Without the prompt, and without the stop string."""
    tokens: list[int]
    reason: str
    """"stop": it ended by itself or at a stop string; "length": at max_new_tokens."""
    scores: list[TokenScore]
    """With Settings.logprobs: of each token."""


@dataclass(frozen=True)
class Prompt:
    """A prompt's ids, and how its text joins the continuation's."""

    ids: list[int]
    heal: bool
    """It ended with a space, which was taken back: the first new token must begin with one.

    A space at the end belongs to the word that follows: in this tokenizer as in all of its kind the token is " сүз", not
    "сүз", and after a lone space the model would be lost.
    """
    end: int | None = None
    """The id that ends the continuation; None: <eos>."""

    def stop(self, tok_config: dict[str, Any]) -> int:
        """The id that ends the continuation."""
        return tok_config["eos_token_id"] if self.end is None else self.end


def read_prompt(model: GPT, tokenizer: Tokenizer, tok_config: dict[str, Any], text: str | Prompt) -> Prompt:
    """A text as a prompt; raises TatarLLMError where the tokenizer is not the model's."""
    if isinstance(text, Prompt):
        return text
    stripped = text.rstrip(" ")
    heal = bool(stripped) and stripped != text
    ids = [tok_config["bos_token_id"], *encode_text(tokenizer, stripped if heal else text)]
    if max(ids) >= model.config.vocab_size:
        raise TatarLLMError("this tokenizer does not belong to this model: its ids go beyond the model's vocabulary")
    return Prompt(ids, heal)


class TextOut:
    """Turns a row's tokens into text that can be shown: whole characters, nothing of a stop string."""

    def __init__(self, tokenizer: Tokenizer, prompt: Prompt, settings: Settings) -> None:
        self.decode, self.heal, self.stop = decode_stream(tokenizer), prompt.heal, settings.stop
        self.held = ""
        self.stopped = False

    def add(self, token: int | None) -> str:
        """The text that is certain after one more token; None: after the last."""
        piece = self.decode(token)
        if self.heal and piece:
            piece, self.heal = piece[1:], False
        text = self.held + piece
        ends = [text.find(stop) for stop in self.stop if stop in text]
        if ends:
            self.stopped, self.held = True, ""
            return text[: min(ends)]
        keep = 0 if token is None else max((_overlap(text, stop) for stop in self.stop), default=0)
        self.held = text[len(text) - keep :]
        return text[: len(text) - keep]


def _overlap(text: str, stop: str) -> int:
    """Length of the longest end of `text` that begins `stop`."""
    return next((size for size in range(min(len(text), len(stop) - 1), 0, -1) if text.endswith(stop[:size])), 0)


def generate(
    model: GPT, prompt: list[int], settings: Settings, stop: int | None = None, first: np.ndarray | None = None
) -> Iterator[int]:
    """Yield new token ids after `prompt` (which starts with <bos>), until `stop` or max_new_tokens.

    `first` (V,) is True for the ids that the first new token may be; None allows all.
    """
    batch = Batch(model)
    [row] = batch.add(prompt, [settings], stop, first)
    while not row.finished:
        batch.step()
        if row.finished != "stop":
            yield row.new[-1]


def stream(
    model: GPT, tokenizer: Tokenizer, tok_config: dict[str, Any], prompt: str | Prompt, settings: Settings
) -> Iterator[str]:
    """Yield the continuation of `prompt` in pieces of whole characters, until its end or a stop string."""
    read = read_prompt(model, tokenizer, tok_config, prompt)
    out = TextOut(tokenizer, read, settings)
    was_training = model.training
    model.eval()
    try:
        first = starts_with_space(tokenizer, model.config.vocab_size) if read.heal else None
        for token in generate(model, read.ids, settings, read.stop(tok_config), first):
            if piece := out.add(token):
                yield piece
            if out.stopped:
                return
        if piece := out.add(None):
            yield piece
    finally:
        model.train(was_training)


def generate_batch(
    model: GPT, tokenizer: Tokenizer, tok_config: dict[str, Any], prompts: Sequence[str | Prompt], settings: Settings | Sequence[Settings],
    samples: int = 1,
) -> list[list[Continuation]]:
    """Continue prompts of any lengths side by side, each `samples` times.

    Args:
        settings: one for all, or one for each prompt. With a seed, sample i takes seed + i; each text is the same as when
            it is made alone, up to rounding in the sums of floating-point numbers.

    Returns:
        For each prompt its continuations.
    """
    each = [settings] * len(prompts) if isinstance(settings, Settings) else list(settings)
    read = [read_prompt(model, tokenizer, tok_config, prompt) for prompt in prompts]
    spaces = starts_with_space(tokenizer, model.config.vocab_size)
    found: list[list[Continuation]] = [[] for _ in prompts]
    waiting = list(range(len(prompts)))[::-1]
    batch = Batch(model, min(ROWS_AT_ONCE, max(1, len(prompts) * samples)))
    going: dict[Row, tuple[int, int, TextOut, list[str]]] = {}
    done: dict[tuple[int, int], Continuation] = {}
    was_training = model.training
    model.eval()
    try:
        while waiting or going:
            while waiting and (not going or len(going) + samples <= ROWS_AT_ONCE):
                number = waiting.pop()
                rows = batch.add(read[number].ids, varied(each[number], samples), read[number].stop(tok_config),
                                 spaces if read[number].heal else None)  # fmt: skip
                for sample, row in enumerate(rows):
                    if row.finished:
                        done[number, sample] = Continuation("", [], row.finished, [])
                    else:
                        going[row] = number, sample, TextOut(tokenizer, read[number], row.settings), []
            for row in batch.step():
                number, sample, out, pieces = going[row]
                if row.finished != "stop":
                    pieces.append(out.add(row.new[-1]))
                if out.stopped:
                    batch.remove(row)
                if row.finished or out.stopped:
                    if not out.stopped:
                        pieces.append(out.add(None))
                    reason = "stop" if out.stopped else row.finished
                    done[number, sample] = Continuation("".join(pieces), row.new, reason, row.scores)
                    del going[row]
    finally:
        model.train(was_training)
    for number, texts in enumerate(found):
        texts += [done[number, sample] for sample in range(samples)]
    return found


def varied(settings: Settings, samples: int) -> list[Settings]:
    """Settings for several texts of one prompt: seeds that follow one another."""
    if settings.seed is None:
        return [settings] * samples
    return [dataclasses.replace(settings, seed=settings.seed + number) for number in range(samples)]


def starts_with_space(tokenizer: Tokenizer, size: int) -> np.ndarray:
    """True for the ids whose text begins with a space, which a byte-level vocabulary writes as Ġ; (size,)."""
    allowed = np.zeros(size, dtype=bool)
    allowed[[token for text, token in tokenizer.get_vocab().items() if text.startswith("Ġ")]] = True
    return allowed


def generate_text(
    model: GPT,
    tokenizer: Tokenizer,
    tok_config: dict[str, Any],
    prompt: str,
    max_new_tokens: int = 50,
    temperature: float = 0.8,
    top_k: int = 40,
    device: str | torch.device = "cpu",
    *,
    top_p: float = 1.0,
    seed: int | None = None,
    **more: Any,
) -> str:
    """The prompt and its continuation as one string.

    Args:
        model, tokenizer, tok_config: from `load_model` and `load_tokenizer`.
        prompt: text to continue; an empty one starts a document.
        max_new_tokens: most tokens added.
        temperature, top_k, top_p, seed, and `more`: see `Settings`.
        device: where to compute; the model is moved there.

    Raises:
        TatarLLMError: a setting out of range, or a tokenizer that does not belong to the model.
    """
    model.to(device)
    settings = Settings(max_new_tokens, temperature, top_k, top_p, seed, **more)
    return prompt + "".join(stream(model, tokenizer, tok_config, prompt, settings))
