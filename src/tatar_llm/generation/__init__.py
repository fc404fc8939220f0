"""Text out of a model: sampling and the engine with its cache of keys and values."""

from tatar_llm.generation.engine import Settings, generate, generate_text, stream

__all__ = ["Settings", "generate", "generate_text", "stream"]
