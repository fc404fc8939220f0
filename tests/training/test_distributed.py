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
from tatar_llm.training.trainer import Trainer
from tatar_llm.workspace import Workspace

PLAN = Plan(
    device="cpu", precision="fp32", compile=False, threads=1, micro_batch=4, accumulation=3, total_steps=100,
    eval_interval=10, checkpoint_interval=20,
)  # fmt: skip
SETTINGS = [*FLAGS, "--dropout", "0", "--max_iters", "20", "--log_interval", "1", "--optimizer", "muon", "--eval_interval", "8", "--precision", "fp32"]
STOP_HALFWAY = """
import os, signal, sys
from tatar_llm.training import start, trainer
start.measure_flops = lambda *_: 1e9
real = trainer.Trainer.train_step
def step(self):
    result = real(self)
    if os.environ.get("STOP_AT") == str(self.step + 1) and os.environ.get("RANK", "0") == os.environ.get("STOPS", "0"):
        os.kill(os.getpid(), signal.SIGTERM)
    return result
trainer.Trainer.train_step = step
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


def test_two_processes_train_what_one_trains(
    workspace: Workspace, prepared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    alone, one_first = (Workspace(shutil.copytree(prepared, tmp_path / name)) for name in ("alone", "one first"))
    assert main(["train", "--workspace", str(alone.root), *SETTINGS]) == 0

    codes, said = processes(2, workspace, *SETTINGS, STOP_AT="10", STOPS="1")  # the second one is asked to stop
    assert codes == [143, 143], said
    assert len(losses(workspace)) == 10
    capsys.readouterr()
    assert main(["train", "--resume", "--workspace", str(workspace.root)]) == 0
    assert "began with 2 processes; going on with 1" in capsys.readouterr().err

    real = Trainer.train_step

    def stop_halfway(trainer: Trainer) -> object:
        trainer.stop.signal = signal.SIGTERM if trainer.step == 9 else 0
        return real(trainer)

    monkeypatch.setattr(Trainer, "train_step", stop_halfway)
    assert main(["train", "--workspace", str(one_first.root), *SETTINGS]) == 143
    codes, said = processes(2, one_first, "--resume")
    assert codes == [0, 0], said
    assert "began with 1 processes; going on with 2" in said
    for place in (workspace, one_first):
        assert losses(place) == pytest.approx(losses(alone), rel=1e-5) and len(losses(place)) == 20
        best, its = (list_runs(each)[0].status()["best_bits_per_byte"] for each in (place, alone))
        assert best == pytest.approx(its, rel=1e-5)


def test_nproc_starts_them(workspace: Workspace, capfd: pytest.CaptureFixture[str]) -> None:
    arguments = ["--workspace", str(workspace.root), *SETTINGS, "--max_iters", "6", "--batch_size", "3"]
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
