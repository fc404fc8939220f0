"""Files made to do harm: a loader raises one error, and nothing else happens."""

from __future__ import annotations

import dataclasses
import json
import os
import pickle
import shutil
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tatar_llm.config import GPTConfig, load_recipe
from tatar_llm.errors import TatarLLMError
from tatar_llm.model import GPT, load_model, save_model
from tatar_llm.tokenizer import load_tokenizer
from tatar_llm.training.checkpoint import read_newest
from tatar_llm.workspace import Workspace, read_json, write_json

shared = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


class Bomb:
    """Pickled, it makes a folder when it is loaded without care."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.folder),)


def test_no_pickle_is_executed(tmp_path: Path, tiny_model: GPT) -> None:
    mark = tmp_path / "executed"
    save_model(tmp_path / "model.pt", tiny_model)
    content = torch.load(tmp_path / "model.pt", weights_only=True)
    torch.save(content | {"step": Bomb(mark)}, tmp_path / "model.pt")
    (tmp_path / "plain.pt").write_bytes(pickle.dumps({"model": Bomb(mark), "config": {}}))
    for name in ("model.pt", "plain.pt"):
        with pytest.raises(TatarLLMError, match="not a readable model file"):
            load_model(tmp_path / name)
    folder = tmp_path / "checkpoints" / "step_000001"
    folder.mkdir(parents=True)
    torch.save({"model": Bomb(mark)}, folder / "state.pt")
    assert read_newest(tmp_path / "checkpoints") is None
    assert not mark.exists()
    pickle.loads(pickle.dumps(Bomb(mark)))
    assert mark.exists(), "the bomb works"


@shared
@given(field=st.sampled_from([field.name for field in dataclasses.fields(GPTConfig)]),
       value=st.sampled_from([0, -1, 3, 10**7, 10**12, 1.5, float("nan"), float("inf"), "x", None, [], {}, True]))  # fmt: skip
def test_a_config_that_does_not_fit(tmp_path: Path, tiny_model: GPT, field: str, value: Any) -> None:
    """No memory is taken for what a config claims."""
    save_model(tmp_path / "model.pt", tiny_model)
    content = torch.load(tmp_path / "model.pt", weights_only=True)
    content["config"][field] = value
    torch.save(content, tmp_path / "model.pt")
    began = time.monotonic()
    try:
        load_model(tmp_path / "model.pt")
    except TatarLLMError as error:
        assert str(error)
    assert time.monotonic() - began < 5


@shared
@given(st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255)), min_size=1, max_size=8), st.integers(0, 10**6))
def test_a_model_file_with_wrong_bytes(tmp_path: Path, tiny_model: GPT, changes: list[tuple[int, int]], cut: int) -> None:
    save_model(tmp_path / "model.pt", tiny_model)
    data = bytearray((tmp_path / "model.pt").read_bytes())
    for place, byte in changes:
        data[place % len(data)] = byte
    (tmp_path / "model.pt").write_bytes(data[: len(data) - (cut % len(data) if cut % 3 == 0 else 0)])
    try:
        load_model(tmp_path / "model.pt")
    except TatarLLMError as error:
        assert str(error)


@pytest.fixture
def folder(tiny_workspace: Workspace, tmp_path: Path) -> Path:
    shutil.copytree(tiny_workspace.tokenizer, tmp_path / "tokenizer")
    return tmp_path / "tokenizer"


@pytest.mark.parametrize(
    "change",
    [
        {"pre_tokenizer": {"type": "Split", "pattern": {"Regex": "(а+)+$"}, "behavior": "Isolated", "invert": False}},
        {"pre_tokenizer": {"type": "Sequence", "pretokenizers": [
            {"type": "Split", "pattern": {"Regex": "(а+)+$"}, "behavior": "Isolated", "invert": False},
            {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}]}},
        {"pre_tokenizer": None},
        {"normalizer": {"type": "Replace", "pattern": {"Regex": "(а+)+$"}, "content": ""}},
    ],
    ids=lambda change: json.dumps(change)[:60],
)  # fmt: skip
def test_a_tokenizer_with_rules_of_its_own(folder: Path, change: dict[str, Any]) -> None:
    """An expression that takes for ever on a text is not even tried."""
    write_json(folder / "tokenizer.json", read_json(folder / "tokenizer.json") | change)
    with pytest.raises(TatarLLMError, match="other rules than this program's"):
        load_tokenizer(folder)


@pytest.mark.parametrize("change", [{"bos_token_id": -1}, {"eos_token_id": 10**9}, {"bos_token_id": "2"}, {"eos_token_id": True}, {"bos_token_id": 2.0}], ids=str)
def test_ids_that_are_none(folder: Path, change: dict[str, Any]) -> None:
    write_json(folder / "config.json", read_json(folder / "config.json") | change)
    with pytest.raises(TatarLLMError, match="is no id of this tokenizer"):
        load_tokenizer(folder)


@shared
@given(st.integers(0, 10**6), st.binary(min_size=1, max_size=6), st.sampled_from(["tokenizer.json", "config.json"]))
def test_a_tokenizer_with_wrong_bytes(tiny_workspace: Workspace, tmp_path: Path, place: int, bytes_: bytes, name: str) -> None:
    target = tmp_path / "tokenizer"
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(tiny_workspace.tokenizer, target)
    data = bytearray((target / name).read_bytes())
    place %= len(data)
    data[place : place + len(bytes_)] = bytes_
    (target / name).write_bytes(data)
    try:
        load_tokenizer(target)
    except TatarLLMError as error:
        assert str(error)


@shared
@given(st.binary(max_size=60) | st.sampled_from([b"[" * 5000, b"a = " + b"{" * 5000, b"[train]\nmax_iters = 1e400", b"[model]\nn_layer = [1]", b"[train]\n" * 3]))
def test_a_recipe_of_anything(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "r.toml").write_bytes(content)
    try:
        load_recipe(str(tmp_path / "r.toml"), {})
    except TatarLLMError as error:
        assert str(error)
