"""Model files: what is saved comes back, and whatever else lies there is told in one line."""

from __future__ import annotations

import dataclasses
import pickle
import zipfile
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tatar_llm.config import GPTConfig
from tatar_llm.errors import TatarLLMError
from tatar_llm.model import GPT, load_model, load_model_file, save_model

SMALL = GPTConfig(n_layer=1, n_head=2, n_embd=16, block_size=8, vocab_size=40, dropout=0.2)


@pytest.mark.parametrize("tied", [True, False])
def test_round_trip(tmp_path: Path, tied: bool) -> None:
    model = GPT(dataclasses.replace(SMALL, tie_weights=tied))
    save_model(tmp_path / "m.pt", model, step=7, val={"bits_per_byte": 1.5}, corpus="made-up")
    loaded, config = load_model(tmp_path / "m.pt", device="cpu")
    assert config == loaded.config == dataclasses.replace(SMALL, tie_weights=tied, dropout=0.0)
    assert not loaded.training
    for name, value in model.state_dict().items():
        assert torch.equal(value, loaded.state_dict()[name]), name
    assert (loaded.head.weight is loaded.embedding.weight) == tied
    facts = load_model_file(tmp_path / "m.pt")
    assert (facts["step"], facts["val"], facts["corpus"]) == (7, {"bits_per_byte": 1.5}, "made-up")
    assert ("head.weight" in facts["model"]) != tied
    assert [path.name for path in tmp_path.iterdir()] == ["m.pt"]


def test_settings_of_a_later_version_are_passed_over(tmp_path: Path) -> None:
    save_model(tmp_path / "m.pt", GPT(SMALL))
    content = torch.load(tmp_path / "m.pt", weights_only=True)
    content["config"]["not_yet_known"] = 1
    torch.save(content, tmp_path / "m.pt")
    assert load_model(tmp_path / "m.pt", device="cpu")[1].n_embd == 16


def test_no_file_and_a_folder(tmp_path: Path) -> None:
    for path in (tmp_path / "none.pt", tmp_path):
        with pytest.raises(TatarLLMError, match="no model at"):
            load_model(path)


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.999])
def test_a_file_cut_off(tmp_path: Path, share: float) -> None:
    save_model(tmp_path / "m.pt", GPT(SMALL))
    content = (tmp_path / "m.pt").read_bytes()
    (tmp_path / "m.pt").write_bytes(content[: int(share * len(content))])
    with pytest.raises(TatarLLMError, match="not a readable model file"):
        load_model(tmp_path / "m.pt")


class Malicious:
    def __reduce__(self) -> tuple:
        return print, ("run from a model file",)


def test_a_file_with_code_is_not_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for number, save in enumerate((lambda path: path.write_bytes(pickle.dumps(Malicious())),
                                   lambda path: torch.save({"model": {}, "config": Malicious()}, path))):  # fmt: skip
        path = tmp_path / f"{number}.pt"
        save(path)
        with pytest.raises(TatarLLMError, match="not a readable model file"):
            load_model(path)
    assert "run from a model file" not in capsys.readouterr().out


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.binary(max_size=60) | st.text(max_size=60).map(str.encode))
def test_any_bytes(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "m.pt").write_bytes(content)
    with pytest.raises(TatarLLMError):
        load_model(tmp_path / "m.pt")


def test_another_archive(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "m.pt", "w") as archive:
        archive.writestr("a.txt", "x")
    with pytest.raises(TatarLLMError, match="not a readable model file"):
        load_model(tmp_path / "m.pt")


@pytest.mark.parametrize("content", [[1, 2], {"model": {}}, {"state_dict": {}, "epoch": 3}, torch.zeros(3)], ids=str)
def test_a_file_of_another_program(tmp_path: Path, content: object) -> None:
    torch.save(content, tmp_path / "m.pt")
    with pytest.raises(TatarLLMError, match="holds no model of tatar-llm"):
        load_model(tmp_path / "m.pt")


@pytest.mark.parametrize(
    "change",
    [
        lambda content: content["model"].pop("norm.weight"),
        lambda content: content["model"].pop("embedding.weight"),
        lambda content: content["model"].update(stranger=torch.zeros(1)),
        lambda content: content["config"].update(n_embd=32),
        lambda content: content["config"].update(n_layer="two"),
        lambda content: content.update(config=None),
        lambda content: content.update(model=3),
    ],
)
def test_weights_that_do_not_fit(tmp_path: Path, change) -> None:
    save_model(tmp_path / "m.pt", GPT(SMALL))
    content = torch.load(tmp_path / "m.pt", weights_only=True)
    change(content)
    torch.save(content, tmp_path / "m.pt")
    with pytest.raises(TatarLLMError, match="do not fit"):
        load_model(tmp_path / "m.pt")
