"""The one form of a conversation: how its turns become token ids, in training, at the prompt, on the server and in exports.

    <bos> <|system|> text <|end|> <|user|> text <|end|> <|assistant|> text <|end|> ...

Marks are reserved ids of the tokenizer; what people type is only ever text, also where it looks like a mark.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tokenizers import Tokenizer

from tatar_llm.errors import TatarLLMError
from tatar_llm.tokenizer import encode_text

ROLES = ("system", "user", "assistant")
END = "<|end|>"
MARKS = (*(f"<|{role}|>" for role in ROLES), END)

JINJA = (
    "{{ bos_token }}"
    "{% for message in messages %}"
    "{% if message['role'] == 'assistant' %}"
    "{{ '<|assistant|>' }}{% generation %}{{ message['content'] | trim }}{{ '<|end|>' }}{% endgeneration %}"
    "{% else %}"
    "{{ '<|' + ('system' if message['role'] == 'developer' else message['role']) + '|>' + message['content'] | trim + '<|end|>' }}"
    "{% endif %}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)
"""The same for transformers, with the marks of what the assistant says (`return_assistant_tokens_mask`)."""
JINJA_PLAIN = JINJA.replace("{% generation %}", "").replace("{% endgeneration %}", "")
"""For programs that do not know these marks (llama.cpp)."""


@dataclass(frozen=True)
class Turn:
    """Who says what; the role is one of ROLES."""

    role: str
    text: str


def has_chat_tokens(tokenizer: Tokenizer) -> bool:
    """Whether the tokenizer has the marks of a conversation."""
    return all(tokenizer.token_to_id(mark) is not None for mark in MARKS)


def need_chat_tokens(tokenizer: Tokenizer) -> None:
    """Raise TatarLLMError where it has not."""
    if not has_chat_tokens(tokenizer):
        raise TatarLLMError(
            f"this tokenizer has no {' '.join(MARKS)}, by which a conversation is told apart: chat needs a model whose tokenizer "
            "was made by `tatar-llm tokenizer`"
        )


def end_id(tokenizer: Tokenizer) -> int:
    """The id that ends a turn."""
    return _mark_id(tokenizer, END)


def _mark_id(tokenizer: Tokenizer, mark: str) -> int:
    number = tokenizer.token_to_id(mark)
    assert number is not None  # need_chat_tokens was asked before
    return number


def check_turns(turns: Sequence[Turn]) -> str:
    """What is wrong with a conversation that is to be learnt from; empty where nothing is.

    At most one system turn, at the beginning; then user and assistant by turns, from the user to the assistant; no empty turn.
    """
    roles = [turn.role for turn in turns]
    if unknown := [role for role in roles if role not in ROLES]:
        return f"unknown role {unknown[0]!r}: it must be one of {', '.join(ROLES)}"
    if empty := [number for number, turn in enumerate(turns, 1) if not turn.text.strip()]:
        return f"turn {empty[0]} is empty"
    spoken = roles[1:] if roles[:1] == ["system"] else roles
    if not spoken:
        return "it has no turns"
    for number, role in enumerate(spoken):
        if role != ("user", "assistant")[number % 2]:
            return f"roles in the wrong order ({', '.join(roles)}): after an optional system, user and assistant take turns, the user first"
    if spoken[-1] != "assistant":
        return "it ends without an answer of the assistant"
    return ""


def encode_turn(tokenizer: Tokenizer, turn: Turn) -> tuple[list[int], list[bool]]:
    """Ids of one turn, and which of them the assistant has to learn to say."""
    said = [*encode_text(tokenizer, turn.text.strip()), end_id(tokenizer)]
    learnt = turn.role == "assistant"
    return [_mark_id(tokenizer, f"<|{turn.role}|>"), *said], [False, *([learnt] * len(said))]


def encode_turns(
    tokenizer: Tokenizer, tok_config: dict[str, Any], turns: Sequence[Turn], room: int
) -> tuple[list[int], list[bool]] | None:
    """A conversation as ids (at most `room`) and the mask of what the assistant says.

    Where it is too long the oldest turns leave, always to the next turn of the user; the system's stays. None where not even
    the last question and its answer have room.
    """
    parts = [encode_turn(tokenizer, turn) for turn in turns]
    head = parts[:1] if turns and turns[0].role == "system" else []
    first = len(head)
    while True:
        kept = [*head, *parts[first:]]
        ids = [tok_config["bos_token_id"], *(token for part, _ in kept for token in part)]
        if len(ids) <= room:
            return ids, [False, *(learnt for _, mask in kept for learnt in mask)]
        later = [place for place in range(first + 1, len(turns)) if turns[place].role == "user"]
        if not later:
            return None
        first = later[0]


def prompt_ids(tokenizer: Tokenizer, tok_config: dict[str, Any], turns: Sequence[Turn], room: int) -> list[int]:
    """The ids after which the assistant speaks.

    Args:
        turns: the conversation so far; usually it ends with the user's.
        room: the most ids. Oldest turns leave first; a last turn that is too long by itself keeps its end.

    Raises:
        TatarLLMError: a tokenizer without the marks, or no turn at all.
    """
    need_chat_tokens(tokenizer)
    if not turns:
        raise TatarLLMError("a conversation without a turn: there is nothing to answer")
    answer = _mark_id(tokenizer, "<|assistant|>")
    found = encode_turns(tokenizer, tok_config, turns, room - 1)
    if found is None:
        last, _ = encode_turn(tokenizer, turns[-1])
        found = [tok_config["bos_token_id"], last[0], *last[1:][-max(1, room - 3) :]], []
    return [*found[0], answer]


def as_dialogue(turns: Sequence[Turn]) -> str:
    """A conversation as books print one, for a model that only continues texts: a line each, beginning with a dash."""
    lines = []
    for turn in turns:
        text = " ".join(turn.text.split())
        lines.append(text if turn.role == "system" else f"— {text}")
    return "\n".join([*lines, "— "])
