"""The model for other programs: folders that load in their own ecosystem without this package."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tatar_llm.export.gguf import export_gguf
from tatar_llm.export.hf import export_hf
from tatar_llm.export.onnx import export_onnx
from tatar_llm.export.web import export_web

__all__ = ["EXPORTS", "Export", "export_gguf", "export_hf", "export_onnx", "export_web"]


@dataclass(frozen=True)
class Export:
    """A format that `tatar-llm export` writes."""

    write: Callable[..., Path]
    dtypes: tuple[str, ...]
    """How weights may be stored; the first is the default."""
    ending: str
    """Said at the end: what the check has shown, or, where the check has told that itself, what to do now."""


EXPORTS = {
    "hf": Export(export_hf, ("float32", "bfloat16"), "reloaded with transformers: equal logits, equal ids"),
    "gguf": Export(export_gguf, ("f16", "f32", "bf16", "q8_0"), "asked llama.cpp: equal ids, equal probabilities but for rounding"),
    "onnx": Export(export_onnx, ("f32", "int8"), "run in onnxruntime: equal logits, or with int8 nearly as few nats a token"),
    "web": Export(export_web, ("int8", "f32"), "open index.html in a browser"),
}
