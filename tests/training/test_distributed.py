"""Two processes train what one trains; each goes on where the other stopped."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from little_training import FLAGS

from tatar_llm.cli import main
from tatar_llm.errors import TatarLLMError
from tatar_llm.training import list_runs
from tatar_llm.training.distributed import Processes, process_group
from tatar_llm.training.planner import Plan
from tatar_llm.workspace import Workspace

PLAN = Plan(
    device="cpu", precision="fp32", compile=False, threads=1, micro_batch=4, accumulation=3, total_steps=100,
    eval_interval=10, checkpoint_interval=20,
)  # fmt: skip
SETTINGS = [*FLAGS, "--dropout", "0", "--max_iters", "20", "--log_interval", "1", "--optimizer", "muon", "--eval_interval", "8"]
STOP_HALFWAY = """
import os, signal, sys
from tatar_llm.training import start, trainer
start.measure_flops = lambda *_: 1e9
real = trainer.Trainer._train_step
def step(self):
    result = real(self)
    if os.environ.get("STOP_AT") == str(self.step + 1) and os.environ.get("RANK", "0") == os.environ.get("STOPS", "0"):
        os.kill(os.getpid(), signal.SIGTERM)
    return result
trainer.Trainer._train_step = step
from tatar_llm.cli import main
raise SystemExit(main(sys.argv[1:]))
"""


def processes(count: int, place: Workspace, *arguments: str, **environment: str) -> tuple[list[int], str]:
    """Run `tatar-llm train` as torchrun would start it; exit codes, and what was said."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    shared = {"WORLD_SIZE": str(count), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "OMP_NUM_THREADS": "1"}
    children = [
        subprocess.Popen(
            [sys.executable, "-c", STOP_HALFWAY, "train", "--workspace", str(place.root), *arguments],
            env={**os.environ, **shared, "RANK": str(rank), "LOCAL_RANK": str(rank), **environment},
            stderr=subprocess.PIPE, encoding="utf-8",
        )
        for rank in range(count)
    ]  # fmt: skip
    said = "".join(child.communicate(timeout=240)[1] for child in children)
    return [child.returncode for child in children], said


def losses(place: Workspace) -> list[float]:
    return [row["loss"] for row in list_runs(place)[0].read_metrics() if "loss" in row]


@pytest.fixture(scope="module")
def alone(prepared: Path, tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A training by one process."""
    place = Workspace(shutil.copytree(prepared, tmp_path_factory.mktemp("alone") / "w"))
    codes, said = processes(1, place, *SETTINGS)
    assert codes == [0], said
    return place


@pytest.mark.parametrize(("first", "then"), [(2, 1), (1, 2)])
def test_two_processes_train_what_one_trains(alone: Workspace, workspace: Workspace, first: int, then: int) -> None:
    codes, said = processes(first, workspace, *SETTINGS, STOP_AT="10", STOPS=str(first - 1))
    assert codes == [143] * first, said
    assert len(losses(workspace)) == 10 and said.count("stopping after this step") <= 1
    codes, said = processes(then, workspace, "--resume")
    assert codes == [0] * then, said
    assert f"began with {first} processes; going on with {then}" in said
    assert losses(workspace) == pytest.approx(losses(alone), rel=1e-5) and len(losses(workspace)) == 20
    assert list_runs(workspace)[0].status()["best_bits_per_byte"] == pytest.approx(
        list_runs(alone)[0].status()["best_bits_per_byte"], rel=1e-5
    )


def test_nproc_starts_them(workspace: Workspace, capfd: pytest.CaptureFixture[str]) -> None:
    arguments = ["--workspace", str(workspace.root), *SETTINGS, "--max_iters", "6", "--batch_size", "3"]
    assert main(["train", "--nproc", "2", *arguments]) == 1  # three windows for two
    assert "3 windows cannot be divided among 2 processes: take --nproc 1" in capfd.readouterr().err
    code = main(["train", "--nproc", "2", *arguments, "--gradient_accumulation_steps", "2", "--dropout", "0.1", "--json"])
    told = capfd.readouterr()
    assert code == 0, told.err
    assert told.out.count('"run"') == 1 and told.err.count("self-check") <= 1
    (run,) = list_runs(workspace)
    assert run.settings()["plan"]["world"] == 2 and run.status()["state"] == "finished"


def test_a_step_is_divided_or_refused() -> None:
    two = PLAN.among(2)
    assert (two.micro_batch, two.accumulation, two.world) == (3, 2, 2)
    for world in (1, 2, 3, 4, 6, 12):
        assert PLAN.among(world).windows_per_step == 12 and PLAN.among(world).among(1).windows_per_step == 12
    with pytest.raises(TatarLLMError, match="12 windows cannot be divided among 5 processes: take --nproc 4 or 3"):
        PLAN.among(5)
    parts = [Processes(rank, 3).slice(12) for rank in range(3)]
    assert [list(range(12))[part] for part in parts] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 11]]


def test_processes_that_cannot_be(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "1")
    with pytest.raises(TatarLLMError, match="cannot share an Apple GPU"), process_group("mps"):
        pass
    monkeypatch.setenv("WORLD_SIZE", "1")
    with process_group("cpu") as one:
        assert one == Processes() and one.share(3) == 3 and one.gather(3) == [3] and one.largest(signal.SIGTERM) == 15
