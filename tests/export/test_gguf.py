"""The GGUF file: llama.cpp computes the same, and what is not equal is not written."""

from __future__ import annotations

import dataclasses
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from test_hf import place_of

from tatar_llm.config import GPTConfig
from tatar_llm.errors import TatarLLMError
from tatar_llm.export import export_gguf
from tatar_llm.export import gguf as gguf_module
from tatar_llm.model import GPT
from tatar_llm.training import ModelPlace
from tatar_llm.training.runs import shipped
from tatar_llm.workspace import Workspace, read_json

needs_libraries = pytest.mark.skipif(
    any(not find_spec(name) for name in ("gguf", "xllamacpp")), reason="pip install tatar-llm[gguf]"
)


@pytest.fixture
def place(tiny_model: GPT, tiny_workspace: Workspace, tmp_path: Path) -> ModelPlace:
    return place_of(tiny_model, tiny_workspace, tmp_path / "models")


def test_names() -> None:
    assert gguf_module.gguf_name("blocks.11.attention.q_norm.weight") == "blk.11.attn_q_norm.weight"
    assert gguf_module.gguf_name("embedding.weight") == "token_embd.weight"


def test_without_the_libraries(place: ModelPlace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "xllamacpp", None)
    with pytest.raises(TatarLLMError, match=r"pip install .tatar-llm\[gguf\]"):
        export_gguf(Workspace(tmp_path), place)
    assert not (tmp_path / "exports").exists()


@needs_libraries
def test_what_it_cannot_carry(tiny_config: GPTConfig, tiny_workspace: Workspace, tmp_path: Path) -> None:
    odd = GPT(dataclasses.replace(tiny_config, ffn_hidden=100))
    with pytest.raises(TatarLLMError, match="ffn_hidden is 100: take --dtype f16"):
        export_gguf(Workspace(tmp_path), place_of(odd, tiny_workspace, tmp_path), dtype="q8_0")
    large = GPT(dataclasses.replace(tiny_config, vocab_size=tiny_config.vocab_size + 8))
    with pytest.raises(TatarLLMError, match="more ids than its tokenizer"):
        export_gguf(Workspace(tmp_path), place_of(large, tiny_workspace, tmp_path))
    windowed = GPT(dataclasses.replace(tiny_config, sliding_window=8))
    with pytest.raises(TatarLLMError, match=r"llama\.cpp ignores a sliding window"):
        export_gguf(Workspace(tmp_path), place_of(windowed, tiny_workspace, tmp_path))


@pytest.mark.slow
@needs_libraries
@pytest.mark.parametrize("dtype", ["f32", "f16", "bf16", "q8_0"])
@pytest.mark.parametrize("values", [{}, {"tie_weights": False, "n_kv_head": 1, "rope_theta": 5e5}, {"n_expert": 4}], ids=str)
def test_llama_cpp_computes_the_same(
    tiny_config: GPTConfig, tiny_workspace: Workspace, tmp_path: Path, dtype: str, values: dict
) -> None:
    torch.manual_seed(0)
    model = GPT(dataclasses.replace(tiny_config, **values)).eval()
    with torch.no_grad():
        for weight in model.parameters():
            if weight.dim() >= 2:
                weight.mul_(3)  # so that probabilities are far from uniform
    folder = export_gguf(Workspace(tmp_path), place_of(model, tiny_workspace, tmp_path / "models"), dtype=dtype)
    assert sorted(path.name for path in folder.iterdir()) == ["Modelfile", "README.md", "export.json", f"model-{dtype}.gguf"]
    assert read_json(folder / "export.json")["tatar_llm"]["dtype"] == dtype
    assert f"FROM ./model-{dtype}.gguf" in (folder / "Modelfile").read_text(encoding="utf-8")
    again = export_gguf(Workspace(tmp_path), ModelPlace("001-tiny", tmp_path / "models" / "best_model.pt", tiny_workspace.tokenizer), dtype=dtype)
    assert again == folder, "a former export is replaced"


@pytest.mark.slow
@needs_libraries
@pytest.mark.parametrize("dtype", ["f32", "f16", "bf16", "q8_0"])
def test_a_trained_model_is_within_the_tolerances(tmp_path: Path, dtype: str) -> None:
    """It is surer of its words than a network of random weights, and rounding shows more."""
    assert (export_gguf(Workspace(tmp_path), shipped(), dtype=dtype) / f"model-{dtype}.gguf").is_file()


@pytest.mark.slow
@needs_libraries
def test_what_is_not_equal_is_not_written(place: ModelPlace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setitem(gguf_module.LAYER_NAMES, "attention.k", "attn_q")
        patch.setitem(gguf_module.LAYER_NAMES, "attention.q", "attn_k")
        with pytest.raises(TatarLLMError, match="nothing was written"):
            export_gguf(Workspace(tmp_path), place, dtype="f32")
    with monkeypatch.context() as patch:
        before = gguf_module._add_vocabulary

        def no_merges(writer, source) -> None:
            before(writer, source)
            del writer.kv_data[0]["tokenizer.ggml.merges"]
            writer.add_token_merges(["a b"])

        patch.setattr(gguf_module, "_add_vocabulary", no_merges)
        with pytest.raises(TatarLLMError, match=r"other ids for|does not load"):
            export_gguf(Workspace(tmp_path), place, dtype="f32")
    assert list((tmp_path / "exports").iterdir()) == []
