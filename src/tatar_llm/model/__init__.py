"""The network: a decoder-only transformer whose graph is the one transformers calls Qwen3. No training code here."""

from tatar_llm.config import GPTConfig
from tatar_llm.model.cache import KVCache, RaggedCache
from tatar_llm.model.files import load_model, load_model_file, save_model
from tatar_llm.model.network import GPT

__all__ = ["GPT", "GPTConfig", "KVCache", "RaggedCache", "load_model", "load_model_file", "save_model"]
