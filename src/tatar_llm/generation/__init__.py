"""Text out of a model: sampling, the engine with its cache of keys and values, and finishing words."""

from tatar_llm.generation.engine import Continuation, generate, generate_batch, generate_text, stream
from tatar_llm.generation.sampling import Settings
from tatar_llm.generation.suggest import Suggester, Suggestion, suggest

__all__ = [
    "Continuation",
    "Settings",
    "Suggester",
    "Suggestion",
    "generate",
    "generate_batch",
    "generate_text",
    "stream",
    "suggest",
]
