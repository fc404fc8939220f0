"""tatar-llm: from Tatar text to a small language model, end to end.

    >>> from tatar_llm import load_model, load_tokenizer, generate_text

The names below are loaded on first use, so that ``import tatar_llm`` stays instant and torch is imported only when
a network is needed.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "1.0.0"

_WHERE = {
    "GPT": "tatar_llm.model",
    "GPTConfig": "tatar_llm.config",
    "generate_text": "tatar_llm.generation",
    "load_model": "tatar_llm.model",
    "load_tokenizer": "tatar_llm.tokenizer",
    "suggest": "tatar_llm.generation",
}

__all__ = ["GPT", "GPTConfig", "__version__", "generate_text", "load_model", "load_tokenizer", "suggest"]

if TYPE_CHECKING:
    from tatar_llm.config import GPTConfig
    from tatar_llm.generation import generate_text, suggest
    from tatar_llm.model import GPT, load_model
    from tatar_llm.tokenizer import load_tokenizer


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module 'tatar_llm' has no attribute {name!r}")
    return getattr(import_module(_WHERE[name]), name)
