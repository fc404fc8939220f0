"""Generating text token by token."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from tokenizers import Tokenizer
from torch import Tensor

from tatar_llm.errors import TatarLLMError
from tatar_llm.generation.sampling import choose
from tatar_llm.model import GPT, KVCache
from tatar_llm.tokenizer import decode_stream, encode_text


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

    def __post_init__(self) -> None:
        if self.max_new_tokens < 0:
            raise TatarLLMError(f"max_new_tokens is {self.max_new_tokens}: it must be at least 0")
        if not 0 <= self.temperature <= 100:
            raise TatarLLMError(f"temperature is {self.temperature}: it must lie between 0 and 100")
        if self.top_k < 0:
            raise TatarLLMError(f"top_k is {self.top_k}: it must be at least 0")
        if not 0 < self.top_p <= 1:
            raise TatarLLMError(f"top_p is {self.top_p}: it must be greater than 0 and at most 1")
        if self.seed is not None and not -(2**63) <= self.seed < 2**64:
            raise TatarLLMError(f"seed is {self.seed}: it must fit into 64 bits")


@torch.inference_mode()
def generate(
    model: GPT, prompt: list[int], settings: Settings, stop: int | None = None, first: Tensor | None = None
) -> Iterator[int]:
    """Yield new token ids after `prompt` (which starts with <bos>), until `stop` or max_new_tokens.

    `first` (V,) is True for the ids that the first new token may be; None allows all.

    A prompt longer than the context keeps its end. When the context is full, the older half is let go and the rest is
    read again, so that text of any length can be made.
    """
    block = model.config.block_size
    generator = torch.Generator()
    if settings.seed is None:
        generator.seed()
    else:
        generator.manual_seed(settings.seed)
    ids = list(prompt[-(block - 1) :]) if block > 1 else list(prompt[-1:])
    cache = KVCache(model.config, 1, block, model.device, model.embedding.weight.dtype)
    fresh = ids
    for _ in range(settings.max_new_tokens):
        if cache.position + len(fresh) > block:
            ids = ids[-max(1, block // 2) :]
            cache.position, fresh = 0, ids
        logits, _ = model(torch.tensor([fresh], device=model.device), cache=cache)
        scores = logits[0, -1]
        if first is not None:
            scores, first = scores.masked_fill(~first.to(scores.device), -torch.inf), None
        token = choose(scores, settings.temperature, settings.top_k, settings.top_p, generator)
        if token == stop:
            return
        yield token
        ids.append(token)
        fresh = [token]


def stream(
    model: GPT, tokenizer: Tokenizer, tok_config: dict[str, Any], prompt: str, settings: Settings
) -> Iterator[str]:
    """Yield the continuation of `prompt` in pieces of whole characters.

    A space at the prompt's end belongs to the word that follows: in this tokenizer as in all of its kind the token is
    " сүз", not "сүз", and after a lone space the model would be lost. So the space is taken back, and the first new
    token must begin with one.
    """
    text = prompt.rstrip(" ")
    heal = bool(text) and text != prompt
    ids = [tok_config["bos_token_id"], *encode_text(tokenizer, text if heal else prompt)]
    if max(ids) >= model.config.vocab_size:
        raise TatarLLMError("this tokenizer does not belong to this model: its ids go beyond the model's vocabulary")
    decode = decode_stream(tokenizer)
    was_training = model.training
    model.eval()
    try:
        first = _starts_with_space(tokenizer, model.config.vocab_size) if heal else None
        for token in generate(model, ids, settings, tok_config["eos_token_id"], first):
            piece = decode(token)
            if heal:
                piece, heal = piece[1:], False
            if piece:
                yield piece
        if piece := decode(None):
            yield piece
    finally:
        model.train(was_training)


def _starts_with_space(tokenizer: Tokenizer, size: int) -> Tensor:
    """True for the ids whose text begins with a space, which a byte-level vocabulary writes as Ġ; (size,)."""
    allowed = torch.zeros(size, dtype=torch.bool)
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
) -> str:
    """The prompt and its continuation as one string.

    Args:
        model, tokenizer, tok_config: from `load_model` and `load_tokenizer`.
        prompt: text to continue; an empty one starts a document.
        max_new_tokens: most tokens added.
        temperature, top_k, top_p, seed: see `Settings`.
        device: where to compute; the model is moved there.

    Raises:
        TatarLLMError: a setting out of range, or a tokenizer that does not belong to the model.
    """
    model.to(device)
    settings = Settings(max_new_tokens, temperature, top_k, top_p, seed)
    return prompt + "".join(stream(model, tokenizer, tok_config, prompt, settings))
