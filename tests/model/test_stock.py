"""Names of the network's weights in transformers and back."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file

from tatar_llm.errors import TatarLLMError
from tatar_llm.model import load_model
from tatar_llm.model.stock import LAYER_NAMES, OUTER_NAMES, hf_name, is_hf_folder, own_name
from tatar_llm.workspace import write_json


@given(st.integers(0, 99), st.sampled_from(sorted(LAYER_NAMES)), st.sampled_from(sorted(OUTER_NAMES)))
def test_there_and_back(layer: int, inner: str, outer: str) -> None:
    for name in (f"blocks.{layer}.{inner}.weight", f"{outer}.weight"):
        assert own_name(hf_name(name)) == name


def test_every_weight_has_a_name_of_its_own(tiny_model) -> None:
    names = [hf_name(name) for name in tiny_model.state_dict()]
    assert len(set(names)) == len(names)


def test_a_folder_that_is_none_of_ours(tmp_path: Path) -> None:
    assert not is_hf_folder(tmp_path)
    save_file({"x.weight": torch.zeros(1)}, tmp_path / "model.safetensors")
    for content, said in (({"model_type": "gpt2"}, "only qwen3"), ({"model_type": "qwen3"}, "not a model that this program exported")):
        write_json(tmp_path / "config.json", content)
        with pytest.raises(TatarLLMError, match=said):
            load_model(tmp_path)
    (tmp_path / "config.json").write_text("{", encoding="utf-8")
    with pytest.raises(TatarLLMError, match="no readable model"):
        load_model(tmp_path)
