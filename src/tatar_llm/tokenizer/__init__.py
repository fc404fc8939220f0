"""From text to token ids: training a byte-level tokenizer, loading it, and writing token files."""

from tatar_llm.tokenizer.encode import TokenFile, encode_corpus, encode_texts, read_tokens
from tatar_llm.tokenizer.load import decode_stream, encode_text, load_tokenizer
from tatar_llm.tokenizer.train import SPECIAL_TOKENS, build_tokenizer, train_tokenizer

__all__ = [
    "SPECIAL_TOKENS",
    "TokenFile",
    "build_tokenizer",
    "decode_stream",
    "encode_corpus",
    "encode_text",
    "encode_texts",
    "load_tokenizer",
    "read_tokens",
    "train_tokenizer",
]
