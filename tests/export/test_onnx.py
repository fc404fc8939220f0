"""The ONNX graph: onnxruntime computes the same, the card's lines run, what is not equal is not written."""

from __future__ import annotations

import dataclasses
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from test_hf import place_of

from tatar_llm.config import GPTConfig
from tatar_llm.errors import TatarLLMError
from tatar_llm.export import export_onnx
from tatar_llm.export import onnx as onnx_module
from tatar_llm.export.onnx import GraphCache, OnnxModel
from tatar_llm.generation import Settings, generate
from tatar_llm.model import GPT
from tatar_llm.training import ModelPlace
from tatar_llm.workspace import Workspace, read_json

needs_libraries = pytest.mark.skipif(
    any(not find_spec(name) for name in ("onnx", "onnxscript", "onnxruntime")), reason="pip install tatar-llm[onnx]"
)


@pytest.fixture
def place(tiny_model: GPT, tiny_workspace: Workspace, tmp_path: Path) -> ModelPlace:
    return place_of(tiny_model, tiny_workspace, tmp_path / "models")


def test_without_the_libraries(place: ModelPlace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(TatarLLMError, match=r"pip install .tatar-llm\[onnx\]"):
        export_onnx(Workspace(tmp_path), place)
    assert not (tmp_path / "exports").exists()


def test_the_cache_of_the_graph_is_the_networks(tiny_model: GPT) -> None:
    """What is traced: a part of a text, then the rest with the keys and values that came out."""
    ids = torch.randint(4, tiny_model.config.vocab_size, (2, 11), generator=torch.Generator().manual_seed(1))
    config = tiny_model.config
    empty = torch.zeros(config.n_layer, 2, config.n_kv_head, 0, config.head_dim)
    graph = onnx_module.Graph(tiny_model)
    with torch.inference_mode():
        first, keys, values = graph(ids[:, :4], empty, empty)
        rest, keys, values = graph(ids[:, 4:], keys, values)
        whole, _ = tiny_model(ids)
    torch.testing.assert_close(torch.cat((first, rest), dim=1), whole)
    assert keys.shape == values.shape == (config.n_layer, 2, config.n_kv_head, 11, config.head_dim)


@pytest.mark.skipif(not find_spec("onnxscript"), reason="pip install tatar-llm[onnx]")
def test_experts_are_refused_by_name(tiny_config: GPTConfig, tiny_workspace: Workspace, tmp_path: Path) -> None:
    model = GPT(dataclasses.replace(tiny_config, n_expert=4))
    with pytest.raises(TatarLLMError, match=r"export onnx: this model is a mixture of experts.*take export hf or gguf"):
        export_onnx(Workspace(tmp_path), place_of(model, tiny_workspace, tmp_path))


def test_how_much_may_differ() -> None:
    ours = np.random.default_rng(0).normal(size=(6, 9)).astype(np.float32)
    ids = [1, 4, 3, 2, 8, 5]
    assert onnx_module._problem(ours, ours + 5e-5, ids, "f32") == ""
    assert "logits differ by 1.0e-02" in onnx_module._problem(ours, ours + np.float32(1e-2), ids, "f32")
    assert onnx_module._problem(ours, ours + np.float32(0.01), ids, "int8") == "", "a shift of all logits changes nothing"
    sure = np.eye(9, dtype=np.float32)[[*ids[1:], 0]] * 5
    assert "nats a token instead of" in onnx_module._problem(sure, -sure, ids, "int8")
    assert "nan nats" in onnx_module._problem(ours, ours * np.float32("nan"), ids, "int8")


@pytest.mark.slow
@needs_libraries
@pytest.mark.parametrize("dtype", ["f32", "int8"])
@pytest.mark.parametrize("values", [{}, {"tie_weights": False, "n_kv_head": 1, "rope_theta": 5e5}, {"sliding_window": 6}], ids=str)
def test_onnxruntime_computes_the_same(
    tiny_config: GPTConfig, tiny_workspace: Workspace, tmp_path: Path, dtype: str, values: dict
) -> None:
    torch.manual_seed(0)
    model = GPT(dataclasses.replace(tiny_config, **values)).eval()
    place = place_of(model, tiny_workspace, tmp_path / "models")
    folder = export_onnx(Workspace(tmp_path), place, dtype=dtype)
    assert sorted(path.name for path in folder.iterdir()) == ["README.md", "export.json", "model.onnx", "tokenizer.json"]
    assert read_json(folder / "export.json")["tatar_llm"]["dtype"] == dtype
    code = re.search(r"```python\n(.*?)```", (folder / "README.md").read_text(encoding="utf-8"), re.S).group(1)
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, encoding="utf-8")
    assert done.returncode == 0, done.stderr
    if dtype == "f32":
        theirs = OnnxModel(folder / "model.onnx", model.config)
        ids = [2, 7, 9, 11]
        ours = generate(model, ids, Settings(max_new_tokens=8, temperature=0))
        new = ids
        for token in ours:
            assert int(theirs(new)[-1].argmax()) == token
            new = [token]


@pytest.mark.slow
@needs_libraries
def test_what_is_not_equal_is_not_written(place: ModelPlace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(GraphCache, "angles", lambda cache, table, count: table[:count])
        with pytest.raises(TatarLLMError, match="with the cache logits differ"):
            export_onnx(Workspace(tmp_path), place)
    assert not (tmp_path / "exports" / "onnx").exists()
    with monkeypatch.context() as patch:
        patch.setattr(onnx_module, "write_onnx", lambda file, model, dtype: file.write_bytes(b"no graph"))
        with pytest.raises(TatarLLMError, match="onnxruntime does not load or run the export"):
            export_onnx(Workspace(tmp_path), place)
