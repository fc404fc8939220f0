"""Runs: numbered, never overwritten, found by any of their names."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tatar_llm.errors import TatarLLMError
from tatar_llm.training import find_model, find_run, list_runs, runs
from tatar_llm.training.runs import Run, new_run, newest_unfinished
from tatar_llm.workspace import Workspace, write_text


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    monkeypatch.chdir(tmp_path)
    place = Workspace(tmp_path / "минем эш")
    write_text(place.tokenizer / "tokenizer.json", "{}")
    return place


def made(workspace: Workspace, name: str, text: str = "a", bits: float | None = None, state: str = "finished") -> Run:
    run = new_run(workspace, name, {"val_text_sha256": text})
    if bits is not None:
        run.best_model.write_bytes(b"model")
    run.write_status(state=state, step=10, best_bits_per_byte=bits)
    return run


def test_numbers_count_up_and_nothing_is_reused(workspace: Workspace) -> None:
    assert [made(workspace, "base").label, made(workspace, "base").label] == ["001-base", "002-base"]
    (workspace.runs / "007-mine").mkdir()  # a stranger without settings still takes its number
    (workspace.runs / "notes").mkdir()
    (workspace.runs / "1234-old").mkdir()
    assert made(workspace, "tiny").label == "1235-tiny"
    assert [run.label for run in list_runs(workspace)] == ["001-base", "002-base", "1235-tiny"]


def test_two_processes_at_once(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    made(workspace, "base")
    (workspace.runs / "002-base").mkdir()
    real = Path.glob
    monkeypatch.setattr(Path, "glob", lambda self, pattern: (p for p in real(self, pattern) if "002" not in p.name))
    assert made(workspace, "base").label == "003-base"  # 002 came between looking and making


def test_a_run_is_complete_in_itself(workspace: Workspace) -> None:
    run = new_run(workspace, "base", {"parameters": 5})
    assert run.settings() == {"parameters": 5}
    assert run.status() == {"state": "running", "step": 0}
    write_text(workspace.tokenizer / "tokenizer.json", "[]")
    assert (run.tokenizer / "tokenizer.json").read_text() == "{}"


@pytest.mark.parametrize(
    ("name", "label"),
    [
        ("татар теле", "001-татар-теле"),
        ("../../etc/passwd", "001-..-..-etc-passwd"),
        ("a\\b:c*?", "001-a-b-c"),
        ("///", "001-run"),
        ("", "001-run"),
        ("v1.5_x", "001-v1.5_x"),
        ("2024-05", "001-2024-05"),
    ],
)
def test_odd_names_stay_inside(workspace: Workspace, name: str, label: str) -> None:
    run = made(workspace, name, bits=1.0)
    assert run.label == label and run.folder.parent == workspace.runs
    assert [found.label for found in list_runs(workspace)] == [label]
    assert find_run(workspace, label.split("-", 1)[1]) == run
    assert find_model(workspace, label).model == run.best_model


def test_found_by_number_name_label_and_path(workspace: Workspace) -> None:
    first, second = made(workspace, "base", bits=1.5), made(workspace, "tiny", bits=1.2)
    third = made(workspace, "base", bits=1.9)
    for wanted, run in (
        ("001", first), ("1", first), ("001-base", first), ("tiny", second), ("base", third), ("3", third),
        (str(second.folder), second), (os.path.relpath(first.folder), first),
    ):  # fmt: skip
        place = find_model(workspace, wanted)
        assert (place.model.resolve(), place.tokenizer.resolve()) == (run.best_model.resolve(), run.tokenizer.resolve())
    place = find_model(workspace, str(first.folder / "best_model.pt"))
    assert place.tokenizer == first.tokenizer


def test_a_copy_at_the_top_takes_the_tokenizer_of_the_workspace(workspace: Workspace) -> None:
    workspace.models.mkdir()
    workspace.best_model.write_bytes(b"model")
    assert find_model(workspace, str(workspace.best_model)).tokenizer == workspace.tokenizer
    lone = workspace.root.parent / "elsewhere" / "deep" / "m.pt"
    lone.parent.mkdir(parents=True)
    lone.write_bytes(b"model")
    assert find_model(workspace, str(lone)).tokenizer == workspace.tokenizer
    (workspace.tokenizer / "tokenizer.json").unlink()
    with pytest.raises(TatarLLMError, match=r"no tokenizer beside .*m\.pt"):
        find_model(workspace, str(lone))


@pytest.mark.parametrize(
    ("wanted", "said"),
    [
        ("004", "no run '004'"),
        ("bsae", r"no run 'bsae' \(did you mean 001-base\?\): there are 001-base"),
        ("absent.pt", "no model at absent.pt: see `tatar-llm runs`"),
        ("models/runs/009", "no model at models/runs/009"),
    ],
)
def test_what_is_not_there(workspace: Workspace, wanted: str, said: str) -> None:
    made(workspace, "base", bits=1.5)
    with pytest.raises(TatarLLMError, match=said):
        find_model(workspace, wanted)


def test_an_empty_workspace(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    assert list_runs(workspace) == []
    monkeypatch.setattr(runs, "shipped", lambda: None)
    with pytest.raises(TatarLLMError, match="no model is shipped"):
        find_model(workspace, "shipped")
    with pytest.raises(TatarLLMError, match="no model has been trained yet: run `tatar-llm train`"):
        find_model(workspace)
    with pytest.raises(TatarLLMError, match="nothing has been trained yet"):
        find_run(workspace, "001")
    with pytest.raises(TatarLLMError, match="no run to resume"):
        newest_unfinished(workspace)


def test_a_run_without_a_model_yet(workspace: Workspace) -> None:
    made(workspace, "base", state="running")
    with pytest.raises(TatarLLMError, match="run 001-base has no model yet"):
        find_model(workspace, "001")


def test_the_best_among_those_measured_on_the_same_text(workspace: Workspace) -> None:
    made(workspace, "old", text="other", bits=0.5)
    best = made(workspace, "good", text="same", bits=1.4)
    made(workspace, "worse", text="same", bits=1.6)
    made(workspace, "begun", text="new", state="running")  # no model yet: it does not count
    assert find_model(workspace).name == best.label


def test_what_can_be_resumed(workspace: Workspace) -> None:
    made(workspace, "base", state="stopped")
    run = made(workspace, "tiny", state="running")
    assert newest_unfinished(workspace) == run
    run.write_status(state="finished", step=10)
    with pytest.raises(TatarLLMError, match="run 002-tiny is finished: start a new one"):
        newest_unfinished(workspace)


@pytest.mark.parametrize("damage", [b"", b'{"state": "fin', None])
def test_a_damaged_status_does_not_hide_the_other_runs(workspace: Workspace, damage: bytes | None) -> None:
    good, broken = made(workspace, "good", bits=1.4), made(workspace, "broken", bits=1.2)
    if damage is None:
        (broken.folder / "status.json").unlink()
    else:
        (broken.folder / "status.json").write_bytes(damage)
    assert broken.status()["state"] == "damaged"
    assert find_model(workspace).name == good.label
    assert find_model(workspace, "broken").model == broken.best_model
    assert newest_unfinished(workspace) == broken  # its checkpoint decides


def test_damaged_settings_are_named(workspace: Workspace) -> None:
    run = made(workspace, "base")
    (run.folder / "settings.json").write_bytes(b"{")
    with pytest.raises(TatarLLMError, match=r"settings\.json cannot be read: this run is damaged"):
        run.settings()


def test_metrics_up_to_the_line_that_was_cut(workspace: Workspace) -> None:
    run = made(workspace, "base")
    assert run.read_metrics() == []
    run.metrics.write_text('{"step": 1}\n{"step": 2}\n{"st', encoding="utf-8")
    assert run.read_metrics() == [{"step": 1}, {"step": 2}]
