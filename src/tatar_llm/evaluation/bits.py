"""Bits per byte of a model on held-out text or a file, and of what knows nothing: n-grams and a file compressor."""

from __future__ import annotations

import lzma
import math
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import Tokenizer

from tatar_llm.errors import TatarLLMError
from tatar_llm.evaluation.likelihood import encode, token_nats
from tatar_llm.evaluation.statistics import Measure, bootstrap
from tatar_llm.grammar.generate import documents
from tatar_llm.model import GPT
from tatar_llm.tokenizer import TokenFile
from tatar_llm.tokenizer.baselines import KneserNey
from tatar_llm.training.validation import Score, bootstrap_interval
from tatar_llm.workspace import Workspace, read_json, write_json

GENERATED_SEED, GENERATED_BYTES = 1, 30_000
"""Generated text that no training saw: the sample's has seed 0."""


def read_text(path: Path) -> str:
    """A UTF-8 file's text; raises TatarLLMError when it is missing, empty or in another encoding."""
    try:
        text = path.read_text(encoding="utf-8").rstrip("\n")
    except FileNotFoundError as error:
        raise TatarLLMError(f"--file {path} does not exist") from error
    except UnicodeDecodeError as error:
        raise TatarLLMError(f"{path} is not UTF-8 (byte {error.start}): convert it to UTF-8 first") from error
    if not text.strip():
        raise TatarLLMError(f"{path} is empty: there is nothing to measure on")
    return text


def from_score(result: Score, characters_per_byte: float) -> Measure:
    """The measure of a held-out text scored window by window."""
    bounds = bootstrap_interval(result)
    return _measure(
        "bits", "bits per byte on held-out text", result.nats, result.tokens, result.bytes, characters_per_byte * result.bytes,
        (bounds[0], bounds[1]) if bounds else None,
    )  # fmt: skip


def text_bits(
    model: GPT, tokenizer: Tokenizer, tok_config: dict[str, Any], documents: list[str], name: str, title: str
) -> Measure:
    """Bits per byte of texts, each read as a document: <bos>, the text, <eos>; a line end is counted to each.

    The interval draws documents, or paragraphs where there is one document only.
    """
    eos = tok_config["eos_token_id"]
    rows = [[*encode(tokenizer, tok_config, text), eos] for text in documents]
    found = token_nats(model, rows)
    sizes = np.array([len(text.encode()) + 1 for text in documents])
    per_document = np.array([nats.sum() for nats in found])
    interval = None
    if len(documents) > 1:
        scale = len(documents) / sizes.sum() / math.log(2)
        bounds = bootstrap(per_document)
        interval = (bounds[0] * scale, bounds[1] * scale) if bounds else None
    return _measure(name, title, float(per_document.sum()), sum(map(len, found)), int(sizes.sum()),
                    sum(len(text) + 1 for text in documents), interval)  # fmt: skip


def _measure(
    name: str, title: str, nats: float, tokens: int, size: int, characters: float, interval: tuple[float, float] | None
) -> Measure:
    bits = nats / math.log(2)
    per_token = nats / max(tokens, 1)
    return Measure(
        name, title, bits / size, tokens, interval, unit="bits per byte", higher_is_better=False,
        details={"bits_per_character": bits / characters, "nats_per_token": per_token,
                 "perplexity": math.exp(min(per_token, 700)), "bytes": size, "tokens": tokens},
    )  # fmt: skip


def generated_bits(model: GPT, tokenizer: Tokenizer, tok_config: dict[str, Any]) -> Measure:
    """Bits per byte on new text of the grammar: how well the generated part of the sample was learnt."""
    texts = ["\n".join(document) for document in documents(GENERATED_BYTES, GENERATED_SEED)]
    return text_bits(model, tokenizer, tok_config, texts, "generated_bits", "bits per byte on new generated text")


def xz_bits(text: str) -> float:
    """Bits per byte that xz needs for the text by itself."""
    raw = text.encode()
    return 8 * len(lzma.compress(raw, preset=9)) / max(len(raw), 1)


def five_gram_bits(workspace: Workspace, train: TokenFile, val: TokenFile, tok_config: dict[str, Any]) -> float:
    """Bits per byte of a Kneser-Ney 5-gram over the same tokens; kept beside the token files, since it takes a while."""
    kept = workspace.tokens / "five_gram.json"
    key = f"{train.facts.get('sha256')} {val.facts.get('sha256')}"
    try:
        known = read_json(kept)
        if known["key"] == key:
            return float(known["bits_per_byte"])
    except (OSError, ValueError, KeyError, TypeError):
        pass
    nats = KneserNey(train.ids, 5, tok_config["vocab_size"], tok_config["bos_token_id"]).nats(val.ids).sum()
    bits = float(nats / math.log(2) / val.bytes)
    write_json(kept, {"key": key, "bits_per_byte": bits})
    return bits


def file_baselines(text: str, ids: list[int], train: TokenFile | None, tok_config: dict[str, Any]) -> dict[str, float]:
    """xz, and a unigram and bigram of the training tokens, on a text of the user's."""
    found = {"xz": xz_bits(text)}
    if train is not None:
        from tatar_llm.tokenizer.baselines import ngram_baselines

        found |= ngram_baselines(train.ids, np.array(ids), len(text.encode()) + 1, tok_config["vocab_size"], tok_config["bos_token_id"])
    return found
