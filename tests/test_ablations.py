"""benchmarks/ablations.py: a grid of tiny networks, resumed, with its table."""

from __future__ import annotations

import json
from pathlib import Path
from types import ModuleType

import pytest

from tatar_llm.workspace import Workspace

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
pytestmark = pytest.mark.skipif(not BENCHMARKS.is_dir(), reason="not a checkout")

GRID = """
train_bytes = 8_000
validation_bytes = 2_000
learn_bytes = 0
piece_characters = 100
[base]
vocab_size = 300
n_layer = 1
n_head = 2
n_embd = 32
block_size = 16
batch_size = 8
[questions.heads.variants]
"one" = { n_kv_head = 1 }
"two" = { n_kv_head = 2 }
"three" = { n_kv_head = 3 }
[questions.layers.variants]
"base" = { n_kv_head = 1 }
"two layers" = { n_layer = 2 }
"""


@pytest.fixture
def ablations(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The script as a module that spawned processes find as well."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import ablations

    return ablations


def read(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


@pytest.fixture
def arguments(own_workspace: Workspace, tmp_path: Path) -> list[str]:
    grid = tmp_path / "grid.toml"
    grid.write_text(GRID, encoding="utf-8")
    return [str(own_workspace.root), str(grid), "--out", str(tmp_path / "rows.jsonl"), "--processes", "1"]


def test_trainings_are_done_once_and_the_best_two_with_all_seeds(
    ablations: ModuleType, arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ablations.main([*arguments, "--seeds", "2"]) == 0
    rows = read(tmp_path / "rows.jsonl")
    done = {(row["question"], row["name"], row["seed"]) for row in rows if "final" in row}
    assert done == {(*place, seed) for place in (("heads", "one"), ("heads", "two"), ("layers", "two layers")) for seed in (0, 1)}
    assert all(1 < row["final"] < 10 and row["what"] == "equal text" for row in rows if "final" in row)
    assert [row["error"] for row in rows if row["name"] == "three"] == ["n_head 2 is not divisible by n_kv_head 3"]
    printed = capsys.readouterr().out
    assert "| idea | parameters | bits per byte, equal text | equal time |" in printed
    assert "| base (baseline) |" in printed and "| three | failed: n_head 2" in printed and "(2)" in printed

    with open(tmp_path / "rows.jsonl", "a", encoding="utf-8") as file:
        file.write('{"kind": "ru')  # killed here
    assert ablations.main([*arguments, "--seeds", "2"]) == 0
    assert read(tmp_path / "rows.jsonl") == rows
    assert capsys.readouterr().out == printed


def test_equal_time_follows_the_measured_speed(
    ablations: ModuleType, arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    grid = Path(arguments[1])
    grid.write_text(GRID[: GRID.index("[questions.layers")], encoding="utf-8")
    assert ablations.main([*arguments, "--timing", "--rounds", "2"]) == 0
    timings = {(row["question"], row["name"]): row for row in read(tmp_path / "rows.jsonl")}
    assert {row["kind"] for row in timings.values()} == {"timing"} and len(timings) == 2
    assert all(row["fastest"] > 0 for row in timings.values())

    variants = {(v.question, v.name): v for v in ablations.resolve(ablations.read_grid(grid), Workspace(arguments[0]))}
    one, two = variants["heads", "one"], variants["heads", "two"]
    rows = ablations.Rows(tmp_path / "rows.jsonl")
    for variant, seconds in ((one, 1.0), (two, 2.0)):
        rows.add({**timings["heads", variant.name], "fastest": seconds})
    assert ablations.job_of(two, "equal time", 0, one, rows).steps == round(one.steps / 2)
    assert ablations.job_of(one, "equal time", 0, one, rows).what == "equal text"
    rows.add({**timings["heads", "two"], "fastest": 1.03})
    assert ablations.job_of(two, "equal time", 0, one, rows).steps == two.steps


def test_text_is_taken_evenly(ablations: ModuleType, tmp_path: Path) -> None:
    path = tmp_path / "text.txt"
    path.write_text("".join("\n".join(f"{book} {line:03}" for line in range(200)) + "\n\n" for book in range(4)), encoding="utf-8")
    taken = ablations.take_evenly(path, "blank", 200, 2_000)
    assert {piece.split(" ")[0] for piece in taken.split("\n\n") if piece} == {"0", "1", "2", "3"}
    assert all(len(piece) >= 200 for piece in taken.split("\n\n") if piece)
    assert 1_600 < len(taken) < 2_400
    whole = list(ablations.pieces(path, "blank", 200))
    assert "\n".join(whole).split() == path.read_text(encoding="utf-8").split()
