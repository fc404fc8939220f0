"""Loading and generation under the brief's names: load_model, load_tokenizer, generate_text."""

from tatar_llm import generate_text, load_model, load_tokenizer

__all__ = ["generate_text", "load_model", "load_tokenizer"]
