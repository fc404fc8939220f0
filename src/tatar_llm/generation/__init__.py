"""Text out of a model: sampling, the engine with its cache of keys and values, and finishing words."""

from tatar_llm.generation.batch import Batch, Row, TokenScore, prompt_scores
from tatar_llm.generation.engine import (
    Continuation,
    Prompt,
    TextOut,
    generate,
    generate_batch,
    generate_text,
    read_prompt,
    starts_with_space,
    stream,
)
from tatar_llm.generation.sampling import Settings
from tatar_llm.generation.suggest import Suggester, Suggestion, suggest

__all__ = [
    "Batch",
    "Continuation",
    "Prompt",
    "Row",
    "Settings",
    "Suggester",
    "Suggestion",
    "TextOut",
    "TokenScore",
    "generate",
    "generate_batch",
    "generate_text",
    "prompt_scores",
    "read_prompt",
    "starts_with_space",
    "stream",
    "suggest",
]
