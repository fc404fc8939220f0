"""kill -9 at any moment, inside the writing of a checkpoint too, and the weights at the end are those of a quiet run."""

from __future__ import annotations

import hashlib
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from little_training import FLAGS

from tatar_llm.cli import main
from tatar_llm.training import checkpoint, list_runs
from tatar_llm.training.trainer import Trainer
from tatar_llm.workspace import Workspace

KILLS = 20
SETTINGS = [
    "--max_iters", "600", "--checkpoint_interval", "7", "--eval_interval", "100", "--gradient_accumulation_steps", "2",
    "--optimizer", "muon", "--ema", "0.95", "--schedule", "wsd", "--min_lr", "0", "--log_interval", "10",
]  # fmt: skip
pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="children are forked: importing torch once is enough")


def revise_as_if_timed(trainer: Trainer, first_step: int) -> None:
    """What a clock would do, at fixed steps: more steps, then fewer."""
    for step, total in ((40, 700), (300, 580)):
        if trainer.step == step:
            trainer.plan = trainer.plan.revised(step, total)


def in_child(action: Callable[[], object], log: Path) -> int:
    """Fork, do it with a plan that is revised, and leave without any clean-up; the child's number."""
    number = os.fork()
    if number:
        return number
    code = 99
    try:
        out = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(out, 1), os.dup2(out, 2)
        Trainer._revise_plan = revise_as_if_timed  # type: ignore[method-assign]
        code = int(action() or 0)
    finally:
        os._exit(code)


def train(place: Workspace, *, resume: bool = False) -> int:
    """In a child: a new training, or the last one further."""
    torch.manual_seed(random.SystemRandom().randrange(1000))  # nothing may hang on what came before
    where = ["--workspace", str(place.root)]
    return main(["train", "--resume", *where] if resume else ["train", *where, *FLAGS, *SETTINGS])


def die_in_checkpoint(place: Workspace, chance: random.Random) -> None:
    """In a child: train on, and die while a checkpoint is being written: half a file, or all but the rename."""
    left = chance.randrange(1, 4)
    half = chance.random() < 0.5
    real = torch.save

    def cut(state: object, path: Path) -> None:
        nonlocal left
        left -= 1
        real(state, path)
        if not left:
            if half:
                os.truncate(path, path.stat().st_size // 2)
            os.kill(os.getpid(), signal.SIGKILL)

    checkpoint.torch = type("Torch", (), {"save": staticmethod(cut), "load": staticmethod(torch.load),
                                          "get_rng_state": staticmethod(torch.get_rng_state),
                                          "set_rng_state": staticmethod(torch.set_rng_state)})  # fmt: skip
    train(place, resume=True)


def digest(place: Workspace) -> str:
    """Hash of the final weights, and of the best ones."""
    sums = hashlib.sha256()
    for path in (place.final_model, place.best_model):
        for name, value in sorted(torch.load(path, weights_only=True)["model"].items()):
            sums.update(name.encode() + value.numpy().tobytes())
    return sums.hexdigest()


def finish(child: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def test_twenty_kills_change_nothing(prepared: Path, tmp_path: Path) -> None:
    quiet = Workspace(shutil.copytree(prepared, tmp_path / "quiet"))
    began = time.monotonic()
    assert finish(in_child(lambda: train(quiet), tmp_path / "quiet.log")) == 0, (tmp_path / "quiet.log").read_text()
    usual = time.monotonic() - began
    assert list_runs(quiet)[0].status()["step"] == 580  # as revised

    chance, killed = random.Random(0), 0
    while killed < KILLS:  # on a slow machine one training ends before it was killed so often: then another one
        killed += killed_training(Workspace(shutil.copytree(prepared, tmp_path / f"killed {killed}")), quiet, usual, chance, killed)


def killed_training(place: Workspace, quiet: Workspace, usual: float, chance: random.Random, before: int) -> int:
    """Train, killed again and again, to the end; the weights must be those of `quiet`. Returns how often it was killed."""
    log, killed, code = place.root / "log", 0, -signal.SIGKILL
    child = in_child(lambda: train(place), log)
    while not list(place.runs.glob("*/checkpoints/step_*")):  # a run without one has nothing to resume
        time.sleep(0.001)
    while code and before + killed < KILLS:
        inside = killed % 3 == 2
        if killed:
            child = in_child(lambda: die_in_checkpoint(place, chance) if inside else train(place, resume=True), log)  # noqa: B023
        if not inside:
            time.sleep(chance.uniform(0.1, 1.0) * usual / 12)
            os.kill(child, signal.SIGKILL)
        code = finish(child)
        assert code in (0, -signal.SIGKILL), log.read_text(encoding="utf-8")
        killed += code != 0
    if code:
        assert finish(in_child(lambda: train(place, resume=True), log)) == 0, log.read_text(encoding="utf-8")
    (run,) = list_runs(place)
    assert run.status()["state"] == "finished" and run.status()["step"] == 580
    assert "Traceback" not in log.read_text(encoding="utf-8")
    assert digest(place) == digest(quiet)
    mine, its = ([(row["step"], row["loss"]) for row in one.read_metrics() if "loss" in row]
                 for one in (run, list_runs(quiet)[0]))  # fmt: skip
    assert mine == its
    return killed


@pytest.mark.slow
def test_two_kills_of_a_compiled_training_change_nothing(prepared: Path, tmp_path: Path) -> None:
    flags = [flag if flag != "off" else "on" for flag in FLAGS]

    def start(place: Workspace, *arguments: str) -> subprocess.Popen:
        command = [sys.executable, "-m", "tatar_llm", "train", "--workspace", str(place.root), *arguments]
        return subprocess.Popen(command, stderr=subprocess.PIPE, encoding="utf-8", env={**os.environ, "OMP_NUM_THREADS": "2"})

    settings = [*flags, *SETTINGS, "--max_iters", "2000", "--checkpoint_interval", "50"]
    quiet = Workspace(shutil.copytree(prepared, tmp_path / "quiet"))
    _, said = start(quiet, *settings).communicate(timeout=600)
    assert "finished" in list_runs(quiet)[0].status()["state"], said
    assert list_runs(quiet)[0].settings()["plan"]["compile"] is True and "torch.compile off" not in said
    place = Workspace(shutil.copytree(prepared, tmp_path / "killed"))
    child = start(place, *settings)
    for wanted in (150, 900):
        while child.poll() is None and not [
            path for path in place.runs.glob("*/checkpoints/step_*") if int(path.name[5:]) >= wanted
        ]:
            time.sleep(0.01)
        assert child.poll() is None, "it ended before it could be killed"
        child.kill(), child.wait()
        child = start(place, "--resume")
    _, said = child.communicate(timeout=600)
    assert child.returncode == 0, said
    assert digest(place) == digest(quiet)
