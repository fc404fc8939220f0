"""`tatar-llm evaluate`: bits per byte on held-out text against baselines, and samples that nobody selected."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np

from tatar_llm.console import say
from tatar_llm.errors import TatarLLMError
from tatar_llm.evaluation.copying import copied_share, known_word_share, whole_words
from tatar_llm.evaluation.report import write_report
from tatar_llm.generation import Settings, stream
from tatar_llm.languages import Language, find_language
from tatar_llm.model import load_model, load_model_file
from tatar_llm.tokenizer import TokenFile, encode_text, load_tokenizer, read_tokens
from tatar_llm.training import ModelPlace
from tatar_llm.training.validation import bootstrap_interval, held_out, score
from tatar_llm.workspace import Workspace, sha256_file

SAMPLES = 20
SAMPLE_TOKENS = 60


def evaluate(
    workspace: Workspace, place: ModelPlace, *, file: str = "", samples: int = SAMPLES, most_tokens: int = 0
) -> dict[str, Any]:
    """Measure a model and write reports/report.md and report.json.

    Args:
        place: the model and its tokenizer.
        file: measure on this UTF-8 text (one document) instead of the workspace's held-out text.
        samples: how many continuations to generate; every one is in the report.
        most_tokens: score a fixed part of about this size where the text is longer; 0 scores all.

    Returns:
        The report's content.
    """
    started = time.monotonic()
    model, config = load_model(place.model)
    tokenizer, tok_config = load_tokenizer(place.tokenizer)
    facts = load_model_file(place.model)
    if facts.get("tokenizer_sha256") not in (None, sha256_file(place.tokenizer / "tokenizer.json")):
        raise TatarLLMError(f"{place.model} was trained with another tokenizer than {place.tokenizer}")
    tokens, baselines, text_name = _text(workspace, file, tokenizer, tok_config, facts)
    bos = tok_config["bos_token_id"]
    say(f"evaluate: {place.name} on {text_name}, {int(tokens.document_tokens.sum()):,} tokens")
    piece = held_out(tokens, config, bos, most_tokens)
    whole = score(model, piece, 8)
    report: dict[str, Any] = {
        "model": place.name,
        "parameters": config.parameters(),
        "step": facts.get("step"),
        "corpus": facts.get("corpus", ""),
        "language": facts.get("language", ""),
        "fallback": facts.get("fallback") or None,
        "text": text_name,
        "share": piece.share,
        "bits_per_byte": whole.bits_per_byte,
        "nats_per_token": whole.nats_per_token,
        "perplexity": whole.perplexity,
        "tokens": whole.tokens,
        "bytes": whole.bytes,
        "interval": bootstrap_interval(whole),
        "baselines": baselines,
        "expected_bits_per_byte": (facts.get("expected_bits_per_byte") or None) if not file else None,
    }
    if samples:
        language = find_language(facts.get("language") or "tat", place.model.parent, workspace.processed)
        report |= _samples(model, tokenizer, tok_config, workspace, language, samples)
    report["small"] = _is_small(workspace, file)
    report["seconds"] = round(time.monotonic() - started, 1)
    write_report(workspace.reports, report)
    return report


def _text(
    workspace: Workspace, file: str, tokenizer: Any, tok_config: dict[str, Any], facts: dict[str, Any]
) -> tuple[TokenFile, dict[str, float], str]:
    """The tokens to score, n-gram baselines where the workspace has them for these tokens, and the text's name."""
    bos, eos = tok_config["bos_token_id"], tok_config["eos_token_id"]
    if file:
        text = _read_text(Path(file))
        ids = np.array([bos, *encode_text(tokenizer, text), eos], dtype=np.uint16)
        size = np.array([len(text.encode()) + 1])
        return TokenFile(ids, np.array([len(ids)]), size, {}), {}, file
    manifest = workspace.manifest(workspace.need(workspace.tokens_manifest, "tatar-llm tokenizer"))
    if manifest is None or facts.get("tokenizer_sha256") not in (None, manifest["tokenizer_sha256"]):
        raise TatarLLMError(
            "the workspace's token files were made with another tokenizer than this model's: "
            "measure on a text with --file data/processed/val.txt"
        )
    return read_tokens(workspace.tokens / "val.bin"), manifest["baselines"], "the held-out text"


def _read_text(path: Path) -> str:
    try:
        text = path.read_text(encoding="utf-8").rstrip("\n")
    except FileNotFoundError as error:
        raise TatarLLMError(f"--file {path} does not exist") from error
    except UnicodeDecodeError as error:
        raise TatarLLMError(f"{path} is not UTF-8 (byte {error.start}): convert it to UTF-8 first") from error
    if not text.strip():
        raise TatarLLMError(f"{path} is empty: there is nothing to measure on")
    return text


def _samples(
    model: Any, tokenizer: Any, tok_config: dict[str, Any], workspace: Workspace, language: Language, count: int
) -> dict[str, Any]:
    """Continuations of the language's prompts, seeds 0, 1, 2, ...: all of them, none selected."""
    prompts = language.prompts
    made = []
    for number in range(count):
        prompt = prompts[number % len(prompts)]
        settings = Settings(max_new_tokens=SAMPLE_TOKENS, seed=number)
        text = "".join(stream(model, tokenizer, tok_config, prompt, settings))
        made.append({"prompt": prompt, "continuation": text, "seed": number})
    continuations = [sample["continuation"] for sample in made]
    shares = {}
    if workspace.train_text.is_file():
        shares = {
            "known_words": known_word_share(map(whole_words, continuations), workspace.train_text),
            "copied": copied_share(continuations, workspace.train_text),
        }
    return {"samples": made, **shares}


def _is_small(workspace: Workspace, file: str) -> bool:
    corpus = workspace.manifest(workspace.corpus_manifest)
    return bool(corpus and corpus.get("small") and not file)
