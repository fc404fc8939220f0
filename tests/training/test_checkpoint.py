"""Checkpoints are complete or absent; what is torn is passed over."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tatar_llm.errors import TatarLLMError
from tatar_llm.training.checkpoint import (
    checkpoints,
    need_checkpoint,
    random_state,
    read_newest,
    restore_random_state,
    write_checkpoint,
)


def written(folder: Path, *steps: int, keep: int = 9) -> None:
    for step in steps:
        write_checkpoint(folder, step, {"step": step, "weights": torch.full((500,), float(step))}, keep)


def test_write_and_read(tmp_path: Path) -> None:
    path = write_checkpoint(tmp_path / "checkpoints", 7, {"step": 7, "best": [float("inf"), 0, 0]}, 2)
    assert path.name == "step_000007"
    assert read_newest(tmp_path / "checkpoints") == {"step": 7, "best": [float("inf"), 0, 0]}
    assert [file.name for file in path.iterdir()] == ["state.pt"]


def test_the_newest_are_kept_by_number_not_by_name(tmp_path: Path) -> None:
    written(tmp_path, 10, 999_999, 1_000_000, 1_000_010, keep=2)
    assert [path.name for path in checkpoints(tmp_path)] == ["step_1000000", "step_1000010"]
    assert need_checkpoint(tmp_path)["step"] == 1_000_010


@pytest.mark.parametrize("size", [0, 1, 64, 700, -1], ids=lambda size: f"{size} bytes")
def test_a_torn_file_is_passed_over(tmp_path: Path, size: int) -> None:
    written(tmp_path, 10, 20)
    file = tmp_path / "step_000020" / "state.pt"
    content = file.read_bytes()
    file.write_bytes(content[:size])
    assert read_newest(tmp_path)["step"] == 10


@pytest.mark.parametrize("content", [bytes(4096), b"not a checkpoint at all" * 50, b"PK\x03\x04" + bytes(100), b"\x80\x02}q\x00."])
def test_a_file_of_something_else_is_passed_over(tmp_path: Path, content: bytes) -> None:
    written(tmp_path, 10, 20)
    (tmp_path / "step_000020" / "state.pt").write_bytes(content)
    found = read_newest(tmp_path)
    assert found is not None and found["step"] == 10


def test_an_empty_folder_is_no_checkpoint(tmp_path: Path) -> None:
    written(tmp_path, 10)
    (tmp_path / "step_000020").mkdir()
    (tmp_path / "step_other").mkdir()
    assert [path.name for path in checkpoints(tmp_path)] == ["step_000010"]
    assert read_newest(tmp_path)["step"] == 10


def test_leftovers_of_an_interrupted_write_go(tmp_path: Path) -> None:
    written(tmp_path, 10)
    leftover = tmp_path / ".step_000020.4711.tmp"
    leftover.mkdir()
    (leftover / "state.pt").write_bytes(b"half")
    assert [path.name for path in checkpoints(tmp_path)] == ["step_000010"]
    assert read_newest(tmp_path)["step"] == 10
    assert {path.name for path in tmp_path.iterdir()} == {"step_000010"}


def test_a_write_that_fails_keeps_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written(tmp_path, 10, 20, keep=2)

    def half(_state: object, path: Path) -> None:
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", half)
    with pytest.raises(OSError):
        written(tmp_path, 30, keep=2)
    assert {path.name for path in tmp_path.iterdir()} == {"step_000010", "step_000020"}


def test_nothing_to_resume_from(tmp_path: Path) -> None:
    assert read_newest(tmp_path / "absent") is None
    assert checkpoints(tmp_path / "absent") == []
    with pytest.raises(TatarLLMError, match="no readable checkpoint: this run cannot be resumed"):
        need_checkpoint(tmp_path)


def test_the_random_state_goes_back() -> None:
    cpu = torch.device("cpu")
    before = random_state(cpu)
    first = torch.rand(5)
    restore_random_state(before, cpu)
    assert torch.rand(5).equal(first)
