"""What every export begins with: the model read whole, and a folder that may be written."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer

from tatar_llm import __version__
from tatar_llm.config import GPTConfig
from tatar_llm.errors import TatarLLMError
from tatar_llm.model import GPT, load_model, load_model_file
from tatar_llm.model.stock import MARKER
from tatar_llm.tokenizer import load_tokenizer
from tatar_llm.training.runs import ModelPlace
from tatar_llm.workspace import Workspace, read_json

MARKER_FILE = "export.json"
"""Tells an export of ours where there is no config.json."""


@dataclass(frozen=True)
class Source:
    """A model with all that an export writes of it."""

    place: ModelPlace
    model: GPT
    config: GPTConfig
    tokenizer: Tokenizer
    tok_config: dict[str, Any]
    facts: dict[str, Any]

    @property
    def chat(self) -> bool:
        """Whether it has learnt to answer."""
        return bool(self.facts.get("chat"))

    @property
    def marker(self) -> dict[str, Any]:
        """What an exported folder tells about its origin."""
        names = ("language", "corpus", "generated_bytes", "step", "fallback", "tokenizer_sha256", "chat", "base")
        known = {name: self.facts.get(name) for name in names}
        return {"version": __version__, **known, "bits_per_byte": (self.facts.get("val") or {}).get("bits_per_byte")}


def read_source(place: ModelPlace, dtype: torch.dtype = torch.float32) -> Source:
    """The model at `place` in fp32, its weights rounded to what a file of `dtype` will hold.

    Raises:
        TatarLLMError: model or tokenizer is missing or damaged, or they do not belong together.
    """
    facts = load_model_file(place.model)
    model, config = load_model(place.model, device="cpu")
    with torch.no_grad():
        for weight in model.parameters():
            weight.copy_(weight.to(dtype))
    tokenizer, tok_config = load_tokenizer(place.tokenizer)
    place.check(facts)
    if tok_config["vocab_size"] > config.vocab_size:
        raise TatarLLMError(f"{place.tokenizer} does not belong to {place.model}: its ids go beyond the vocabulary")
    return Source(place, model, config, tokenizer, tok_config, facts)


def need_bpe(source: Source, kind: str, why: str) -> None:
    """Raise TatarLLMError where the tokenizer is no BPE, the only kind that `export KIND` carries."""
    found = type(source.tokenizer.model).__name__
    if found != "BPE":
        raise TatarLLMError(f"export {kind}: the tokenizer is of the type {found.lower()}, and {why}")


def target_folder(workspace: Workspace, place: ModelPlace, kind: str, out: str, force: bool) -> Path:
    """The folder to write, exports/`kind` or `out`; raises TatarLLMError where it holds what is not ours to replace."""
    target = Path(out).expanduser() if out else workspace.exports / kind
    target = target.absolute() if not target.name or target.name == ".." else target
    if target.exists() and not target.is_dir():
        raise TatarLLMError(f"{target} is a file: choose another folder with --out DIR")
    if not target.is_dir() or not any(target.iterdir()):
        return target
    here = target.resolve()
    for kept in (Path.cwd(), workspace.root, place.model, place.tokenizer):
        if here == kept.resolve() or here in kept.resolve().parents:
            raise TatarLLMError(f"{target} holds {kept}, which an export must not replace: choose another folder")
    if not force and not _is_export(target):
        raise TatarLLMError(f"{target} holds something that is no export of tatar-llm: take --force to replace it")
    return target


def _is_export(folder: Path) -> bool:
    for name in ("config.json", MARKER_FILE):
        try:
            if MARKER in read_json(folder / name):
                return True
        except (OSError, ValueError, TypeError):
            continue
    return False
