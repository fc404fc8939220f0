"""Text out of a model: sampling, the engine with its cache of keys and values, and finishing words."""

from tatar_llm.generation.engine import Settings, generate, generate_text, stream
from tatar_llm.generation.suggest import Suggester, Suggestion, suggest

__all__ = ["Settings", "Suggester", "Suggestion", "generate", "generate_text", "stream", "suggest"]
