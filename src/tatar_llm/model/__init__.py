"""The network: a decoder-only transformer whose graph is the one transformers calls Qwen3. No training code here."""

from tatar_llm.config import GPTConfig
from tatar_llm.model.cache import Cache, KVCache, RaggedCache
from tatar_llm.model.files import load_model, load_model_file, save_model
from tatar_llm.model.network import GPT, compiled
from tatar_llm.model.step import Step

__all__ = ["GPT", "Cache", "GPTConfig", "KVCache", "RaggedCache", "Step", "compiled", "load_model", "load_model_file", "save_model"]
