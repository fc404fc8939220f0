"""A model that is spoken to: by the template where it has learnt it, as a printed dialogue where it only continues texts."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from tokenizers import Tokenizer

from tatar_llm.chat.template import Turn, as_dialogue, end_id, need_chat_tokens, prompt_ids
from tatar_llm.generation import Prompt, Settings, generate_batch, read_prompt, stream
from tatar_llm.model import GPT, load_model, load_model_file
from tatar_llm.tokenizer import load_tokenizer
from tatar_llm.training.runs import ModelPlace

ANSWER_TOKENS = 128
"""New tokens of an answer where nobody names a number."""
TEMPERATURE = 0.3
"""Of a chat model, where nobody names one: its answers are to be right rather than various."""


@dataclass(frozen=True)
class Speaker:
    """A model, its tokenizer, and how it takes a conversation."""

    model: GPT
    tokenizer: Tokenizer
    tok_config: dict[str, Any]
    chat: bool
    """Whether it has been taught to answer (`tatar-llm finetune`)."""

    def __post_init__(self) -> None:
        if self.chat:
            need_chat_tokens(self.tokenizer)

    @staticmethod
    def load(place: ModelPlace, device: str = "auto") -> Speaker:
        """The model at `place`."""
        facts = load_model_file(place.model)
        place.check(facts)
        tokenizer, tok_config = load_tokenizer(place.tokenizer)
        return Speaker(load_model(place.model, device)[0], tokenizer, tok_config, bool(facts.get("chat")))

    @property
    def temperature(self) -> float:
        """What suits it, where nobody names one."""
        return TEMPERATURE if self.chat else 0.8

    def prompt(self, turns: Sequence[Turn], answer_tokens: int = ANSWER_TOKENS) -> Prompt:
        """What stands before its answer, with room for `answer_tokens` (at most half of the context)."""
        if not self.chat:
            return read_prompt(self.model, self.tokenizer, self.tok_config, as_dialogue(turns))
        context = self.model.config.block_size
        ids = prompt_ids(self.tokenizer, self.tok_config, turns, context - min(answer_tokens, context // 2))
        return Prompt(ids, False, end_id(self.tokenizer))

    def suited(self, settings: Settings) -> Settings:
        """Settings with what ends an answer: a printed dialogue's turn ends with its line."""
        return settings if self.chat else dataclasses.replace(settings, stop=(*settings.stop, "\n"))

    def stream(self, turns: Sequence[Turn], settings: Settings) -> Iterator[str]:
        """The answer in pieces."""
        yield from stream(self.model, self.tokenizer, self.tok_config, self.prompt(turns, settings.max_new_tokens), self.suited(settings))

    def answers(self, asked: Sequence[Sequence[Turn]], settings: Settings) -> list[str]:
        """The answers to many conversations, made side by side."""
        prompts = [self.prompt(turns, settings.max_new_tokens) for turns in asked]
        made = generate_batch(self.model, self.tokenizer, self.tok_config, prompts, self.suited(settings))
        return [one.text.strip() for [one] in made]
