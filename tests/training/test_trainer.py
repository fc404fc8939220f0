"""The loop: it learns, it resumes to the bit, and nothing that happens to the machine costs more than a checkpoint."""

from __future__ import annotations

import dataclasses
import errno
import json
import math
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest
import torch
from little_training import BOS, FLAGS, TINY, chains, losses, make_trainer, same_weights

from tatar_llm.cli import main
from tatar_llm.config import GPTConfig, field_names
from tatar_llm.errors import TatarLLMError
from tatar_llm.model import GPT, load_model
from tatar_llm.tokenizer.baselines import ngram_baselines
from tatar_llm.training import clock as clock_module
from tatar_llm.training import handover, list_runs, start
from tatar_llm.training import trainer as trainer_module
from tatar_llm.training.checkpoint import checkpoints, need_checkpoint
from tatar_llm.training.clock import Clock
from tatar_llm.training.curve import draw_curve
from tatar_llm.training.planner import Plan
from tatar_llm.training.stop import Interrupted
from tatar_llm.training.trainer import Trainer
from tatar_llm.training.validation import Score, score
from tatar_llm.training.watchdog import Watchdog
from tatar_llm.workspace import Workspace, read_json, sha256_file, write_json, write_text


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_it_learns_what_can_be_learned(tmp_path: Path, optimizer: str) -> None:
    train, val = chains(200, 0), chains(10, 1)
    trainer = make_trainer(tmp_path, steps=80, micro_batch=16, accumulation=1, data=train, optimizer=optimizer)
    assert trainer.fit() == "steps"
    baselines = ngram_baselines(train.ids, val.ids, val.bytes, 300, BOS)
    assert trainer.best < 0.6 * baselines["unigram"]
    rows = trainer.run.read_metrics()
    assert rows[0]["loss"] == pytest.approx(math.log(300), rel=0.05)  # it began at chance
    assert rows[-1]["val_bits_per_byte"] == pytest.approx(trainer.best, abs=1e-5)
    assert rows[-1]["step"] == rows[-2]["step"] == 80
    model, _ = load_model(trainer.run.best_model, "cpu")
    assert same_weights(model, trainer.model)


@pytest.mark.parametrize(
    ("stop", "options"),
    [
        (12, {"optimizer": "adamw"}),  # two epochs before, one and a half after
        (5, {"optimizer": "muon", "gradient_checkpointing": True, "ema": 0.9, "schedule": "wsd", "z_loss": 1e-3}),
        (7, {"optimizer": "muon", "n_expert": 4, "gradient_checkpointing": True}),
        (7, {"optimizer": "adamw", "sliding_window": 5, "window_pattern": "SF"}),
    ],
)
def test_a_resume_is_equal_to_the_bit(tmp_path: Path, stop: int, options: dict) -> None:
    shape = {name: value for name, value in options.items() if name in field_names(GPTConfig)}
    config = dataclasses.replace(TINY, dropout=0.2, **shape)
    trained = {name: value for name, value in options.items() if name not in shape}
    arguments = {"steps": 24, "config": config, "plan": {"eval_interval": stop}, **trained}
    whole = make_trainer(tmp_path / "whole", **arguments)
    assert whole.batches.windows % 4, "the border of an epoch must fall inside a step"
    assert 2.5 * whole.batches.windows < 24 * 4
    whole.fit()

    def stop_it(_model: GPT, step: int, _score: Score) -> None:
        if step == stop:
            first.stop.signal = signal.SIGTERM

    first = make_trainer(tmp_path / "parts", on_validation=stop_it, **arguments)
    with pytest.raises(Interrupted) as stopped:
        first.fit()
    assert stopped.value.exit_code == 143
    second = make_trainer(tmp_path / "parts", seed=99, **arguments)  # other weights, until it is restored
    assert not same_weights(second.model, first.model)
    second.restore(need_checkpoint(second.run.checkpoints))
    assert second.step == stop and same_weights(second.model, first.model)
    torch.rand(7)  # what happens in between must not matter
    second.restore(need_checkpoint(second.run.checkpoints))
    second.fit()
    assert same_weights(second.model, whole.model)
    assert losses(second) == losses(whole) and len(losses(whole)) == 24
    assert second.batches.state() == whole.batches.state() and whole.batches.epoch >= 2
    assert (second.best, second.best_step) == (whole.best, whole.best_step)
    mine, its = (torch.load(t.run.best_model, weights_only=True)["model"] for t in (second, whole))
    assert all(torch.equal(mine[name], its[name]) for name in its)


def test_metrics_after_the_checkpoint_are_dropped(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path, steps=6, plan={"checkpoint_interval": 4})
    trainer.fit()
    with open(trainer.run.metrics, "a", encoding="utf-8") as file:
        file.write('{"step": 7, "lo')  # the power went
    again = make_trainer(tmp_path, steps=6)
    again.restore(need_checkpoint(again.run.checkpoints))
    assert [row["step"] for row in again.run.read_metrics()] == [1, 2, 3, 4]
    again.fit()
    assert [row["step"] for row in again.run.read_metrics() if "loss" in row] == [1, 2, 3, 4, 5, 6]


def test_accumulation_is_the_same_as_a_larger_batch(tmp_path: Path) -> None:
    split = make_trainer(tmp_path / "1x4", steps=20, micro_batch=1, accumulation=4)
    whole = make_trainer(tmp_path / "4x1", steps=20, micro_batch=4, accumulation=1)
    split.fit(), whole.fit()
    assert losses(split) == pytest.approx(losses(whole), rel=1e-5)
    assert losses(whole)[-1] < losses(whole)[0]
    assert split.best == pytest.approx(whole.best, rel=1e-5)


@pytest.mark.parametrize(
    ("error", "reason"),
    [(OSError(errno.ENOSPC, "No space left on device"), "the disk is full"),
     (RuntimeError("PytorchStreamWriter failed writing file\nmore"), "PytorchStreamWriter failed writing file")],
)  # fmt: skip
def test_a_full_disk_does_not_end_the_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], error: Exception, reason: str
) -> None:
    trainer = make_trainer(tmp_path, steps=4, plan={"checkpoint_interval": 2})
    real = torch.save

    def full(state: object, path: Path) -> None:
        if trainer.step < 4:
            raise error
        real(state, path)

    monkeypatch.setattr(torch, "save", full)
    assert trainer.fit() == "steps"
    said = capsys.readouterr().err
    assert f"WARNING: a checkpoint could not be written, training goes on: {reason}" in said
    assert [path.name for path in checkpoints(trainer.run.checkpoints)] == ["step_000004"]
    assert len(losses(trainer)) == 4


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full here")
def test_metrics_that_cannot_be_written_do_not_end_it_either(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trainer = make_trainer(tmp_path, steps=3)
    trainer.run.metrics.symlink_to("/dev/full")
    assert trainer.fit() == "steps"
    assert "WARNING: metrics.jsonl could not be written, training goes on: the disk is full" in capsys.readouterr().err
    assert trainer.run.best_model.is_file()


def test_a_loss_that_is_no_number_ends_it(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path, steps=5)
    trainer.model.embedding.weight.data[0, 0] = math.nan
    with pytest.raises(TatarLLMError, match=r"diverged: 5 steps in a row .* step 5, .* lower --learning_rate .*no checkpoint"):
        trainer.fit()
    assert not trainer.run.best_model.exists()
    assert losses(trainer) == [None] * 5


class Spoilt(Trainer):
    """Gradients are spoilt at the steps in `at`: nan, or many times too large."""

    at: ClassVar[dict[int, float]] = {}

    def _gradients(self) -> torch.Tensor:
        loss = super()._gradients()
        factor = self.at.get(self.step, 1.0)
        for parameter in self.model.parameters():
            parameter.grad *= factor
        return loss


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
@pytest.mark.parametrize("factor", [math.nan, math.inf, 1e6])
def test_a_spoilt_step_is_skipped_and_counted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], optimizer: str, factor: float
) -> None:
    spoilt = type("SpoiltOnce", (Spoilt,), {"at": {60: factor, 63: factor}})
    trainer = make_trainer(tmp_path, steps=60, optimizer=optimizer, trainer=spoilt, ema=0.9)
    trainer.fit()
    kept = {name: value.clone() for name, value in trainer.model.state_dict().items()}
    state = [[value.clone() for value in each.values()] for part in trainer.optimizer.parts for each in part.state.values()]
    trainer.plan = dataclasses.replace(trainer.plan, total_steps=70)
    trainer.train_step()
    trainer.step += 1
    assert all(torch.equal(kept[name], value) for name, value in trainer.model.state_dict().items())
    after = [list(each.values()) for part in trainer.optimizer.parts for each in part.state.values()]
    assert all(torch.equal(one, other) for mine, its in zip(state, after, strict=True) for one, other in zip(mine, its, strict=True))
    assert trainer.fit() == "steps"
    assert trainer.watchdog.counts() == (2, 0)
    rows = [row for row in trainer.run.read_metrics() if "loss" in row]
    assert "skipped" not in rows[59] and rows[-1]["skipped"] == 2
    said = capsys.readouterr().err
    assert "2 so far" in said and said.count("WARNING") == 2
    assert all(torch.isfinite(value).all() for value in trainer.model.state_dict().values())
    assert not same_weights(trainer.model, make_trainer(tmp_path / "fresh").model)


def test_the_watchdog_lets_usual_steps_pass() -> None:
    watchdog = Watchdog(torch.device("cpu"))
    loss = torch.tensor(3.0)
    for step in range(200):  # a norm that falls, with noise
        assert not watchdog.judge(loss, torch.tensor(10.0 / (1 + step / 20) * (1 + 0.8 * math.sin(step))))
    assert watchdog.judge(loss, torch.tensor(1e3)) and watchdog.judge(torch.tensor(math.nan), torch.tensor(1.0))
    assert watchdog.counts() == (2, 2) and not watchdog.gives_up(202, 999)
    assert not watchdog.judge(loss, torch.tensor(1.0)) and watchdog.counts() == (2, 0)
    again = Watchdog(torch.device("cpu"))
    again.restore(watchdog.state())
    for _ in range(9):
        again.judge(loss, torch.tensor(math.inf))
    assert not again.gives_up(300, 999)
    again.judge(loss, torch.tensor(math.inf))
    assert again.gives_up(300, 999) and not watchdog.gives_up(203, 999)


def test_many_bad_steps_end_it_and_name_the_last_good_checkpoint(tmp_path: Path) -> None:
    spoilt = type("SpoiltForGood", (Spoilt,), {"at": {step: math.nan for step in range(7, 99)}})
    trainer = make_trainer(tmp_path, steps=50, trainer=spoilt, plan={"checkpoint_interval": 3})
    with pytest.raises(TatarLLMError, match=r"10 steps in a row .* step 17, .*last good checkpoint is .*step_000006"):
        trainer.fit()
    assert [path.name for path in checkpoints(trainer.run.checkpoints)] == ["step_000003", "step_000006"]


class Narrow(Trainer):
    """A machine whose memory takes `room` windows at a time."""

    room = 2

    def _accumulate(self, inputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        if self.plan.micro_batch > self.room:
            super()._accumulate(inputs[:1], targets[:1])  # some gradients are there already
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB")
        return super()._accumulate(inputs, targets)


def test_out_of_memory_takes_smaller_pieces_of_the_same_step(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    narrow = make_trainer(tmp_path / "narrow", steps=20, micro_batch=12, accumulation=1, trainer=Narrow)
    whole = make_trainer(tmp_path / "whole", steps=20, micro_batch=12, accumulation=1)
    narrow.fit(), whole.fit()
    assert losses(narrow) == pytest.approx(losses(whole), rel=1e-5)
    assert (narrow.plan.micro_batch, narrow.plan.accumulation) == (1, 12)
    assert narrow.plan.shrunk == ((0, 6), (0, 3), (0, 1))
    assert Plan.from_dict(narrow.state()["plan"]) == narrow.plan
    assert "out of memory at step 0: micro-batches of 6 windows instead of 12" in capsys.readouterr().err
    hopeless = type("Hopeless", (Narrow,), {"room": 0})
    with pytest.raises(TatarLLMError, match="not enough memory for a training step: take --gradient_checkpointing"):
        make_trainer(tmp_path / "hopeless", trainer=hopeless).fit()


def test_an_average_is_what_is_measured_and_kept(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path, steps=30, ema=0.8, schedule="wsd", plan={"eval_interval": 10})
    shadow, step = [parameter.detach().clone() for parameter in trainer.model.parameters()], 0
    real = trainer.train_step

    def follow() -> tuple[torch.Tensor, torch.Tensor]:
        nonlocal step
        result, decay = real(), min(0.8, (1 + step) / (10 + step))
        for mine, parameter in zip(shadow, trainer.model.parameters(), strict=True):
            mine.mul_(decay).add_(parameter.detach(), alpha=1 - decay)
        step += 1
        return result

    trainer.train_step = follow
    trainer.fit()
    assert not torch.equal(shadow[0], trainer.model.embedding.weight)
    with trainer.average.inside_model():
        for mine, parameter in zip(shadow, trainer.model.parameters(), strict=True):
            assert torch.allclose(mine, parameter, atol=1e-6)
        expected = score(trainer.model, trainer.held_out, 8)
    assert trainer.run.read_metrics()[-1]["val_bits_per_byte"] == pytest.approx(expected.bits_per_byte, abs=1e-4)
    kept, _ = load_model(trainer.run.best_model, "cpu")
    with trainer.average.inside_model():
        assert trainer.best_step == 30 and same_weights(kept, trainer.model)
    trainer.average.settle()
    assert same_weights(kept, trainer.model)


def test_a_checkpoint_of_another_shape_is_one_line(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path, steps=4, plan={"checkpoint_interval": 2})
    trainer.fit()
    other = make_trainer(tmp_path, config=dataclasses.replace(TINY, n_embd=64))
    with pytest.raises(TatarLLMError, match="step 4 holds a network of another shape"):
        other.restore(need_checkpoint(other.run.checkpoints))
    with pytest.raises(TatarLLMError, match="older tatar-llm"):
        other.restore({"step": 4})


def test_tensorboard_is_an_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(TatarLLMError, match="pip install tensorboard"):
        make_trainer(tmp_path, tensorboard=True)
    told: list[tuple] = []
    board = SimpleNamespace(SummaryWriter=lambda folder: SimpleNamespace(
        add_scalar=lambda *values: told.append(values), flush=lambda: None))  # fmt: skip
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", board)
    trainer = make_trainer(tmp_path, steps=3, tensorboard=True)
    trainer.fit()
    assert ("loss", losses(trainer)[-1], 3 * trainer.tokens_per_step) in told
    assert {name for name, *_ in told} >= {"loss", "val_bits_per_byte", "learning_rate", "tokens_per_second"}


def test_the_load_of_the_experts_is_told(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path, steps=4, config=dataclasses.replace(TINY, n_expert=4), log_interval=2, optimizer="muon")
    trainer.fit()
    loads = [row["expert_load"] for row in trainer.run.read_metrics() if "loss" in row]
    assert len(loads) == 3 and all(len(load) == TINY.n_layer for load in loads)
    assert all(sum(layer) == pytest.approx(1, abs=1e-3) and max(layer) <= 0.5 for load in loads for layer in load)


def test_the_share_of_the_peak_is_told(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path, steps=3, peak_flops=1e12)
    trainer.fit()
    row = next(row for row in trainer.run.read_metrics() if "loss" in row)
    expected = row["tokens_per_second"] * TINY.flops_per_token() / 1e12
    assert row["share_of_peak"] == pytest.approx(expected, abs=2e-4)


@pytest.mark.parametrize("times", [1, 2])
def test_the_second_signal_does_not_wait(tmp_path: Path, times: int) -> None:
    def interrupt(*_: object) -> None:
        for _ in range(times):
            signal.raise_signal(signal.SIGINT)

    before = signal.getsignal(signal.SIGINT)
    trainer = make_trainer(tmp_path, steps=9, plan={"eval_interval": 3}, on_validation=interrupt)
    with pytest.raises(Interrupted if times == 1 else KeyboardInterrupt):
        trainer.fit()
    assert [path.name for path in checkpoints(trainer.run.checkpoints)] == ["step_000003"] * (2 - times)
    assert signal.getsignal(signal.SIGINT) is before  # the handlers of before are back


def test_patience_stops_and_the_best_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    values = iter([50.0, 40.0, 40.0, 45.0, 41.0, 1.0])
    monkeypatch.setattr(trainer_module, "score", lambda *_: Score(next(values), 10, 40))
    weights: dict[int, torch.Tensor] = {}

    def remember(model: GPT, step: int, _score: Score) -> None:
        weights[step] = model.embedding.weight.detach().clone()

    trainer = make_trainer(tmp_path, steps=50, plan={"eval_interval": 2}, patience=3, on_validation=remember)
    assert trainer.fit() == "patience"
    assert (trainer.step, trainer.best_step, trainer.without_gain) == (10, 4, 3)
    model, _ = load_model(trainer.run.best_model, "cpu")
    assert torch.equal(model.embedding.weight, weights[4]) and not torch.equal(model.embedding.weight, weights[10])
    assert trainer.run.status()["best_step"] == 4


def test_the_learning_rate_follows_the_schedule(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path, steps=20, schedule="linear", min_lr=0.0, learning_rate=0.02)
    trainer.fit()
    rates = [row["learning_rate"] for row in trainer.run.read_metrics() if "loss" in row]
    assert rates[:4] == pytest.approx([0.005, 0.01, 0.015, 0.02])
    assert rates[-1] == pytest.approx(0.02 / 17)


# -- time -------------------------------------------------------------------------------------------------------------


class Fake(SimpleNamespace):
    """A clock that only moves when told to."""

    now = 100.0

    def perf_counter(self) -> float:
        return self.now


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Fake:
    made = Fake()
    monkeypatch.setattr(clock_module, "time", made)
    return made


@pytest.mark.parametrize("planned", [1000, 97, 8], ids=["far too many", "about right", "far too few"])
@pytest.mark.parametrize("log_interval", [1, 10])
def test_minutes_end_near_the_steps_that_fit(tmp_path: Path, fake: Fake, planned: int, log_interval: int) -> None:
    class Second(Trainer):
        """Each step takes a second, the first one, with everything that is warmed up, five."""

        def train_step(self) -> Any:
            fake.now += 5 if self.step == 0 else 1
            return super().train_step()

    trainer = make_trainer(
        tmp_path, steps=planned, trainer=Second, plan={"seconds": 100.0}, log_interval=log_interval, accumulation=1
    )
    trainer.reserve = 4.0
    assert trainer.fit() == "steps"
    assert trainer.step == pytest.approx(92, abs=3)  # 5 s and 91 x 1 s, 4 s kept for measuring
    assert trainer.clock.seconds <= 100
    for step, total in trainer.plan.revisions:
        assert step <= 92 and total > step
    assert trainer.plan.revisions or planned == 97
    assert Plan.from_dict(trainer.state()["plan"]) == trainer.plan


def test_a_compiled_first_step_does_not_shrink_the_plan(tmp_path: Path, fake: Fake) -> None:
    class Compiled(Trainer):
        def train_step(self) -> Any:
            fake.now += 40 if self.step == 0 else 1
            return super().train_step()

    trainer = make_trainer(tmp_path, steps=250, trainer=Compiled, plan={"seconds": 300.0}, log_interval=10, accumulation=1)
    assert trainer.fit() == "steps"
    assert all(total >= 245 for _, total in trainer.plan.revisions)
    assert trainer.step == pytest.approx(260, abs=5)


@pytest.mark.parametrize("minutes", [2, 10, 60, 480])
def test_minutes_are_kept_within_a_tenth(tmp_path: Path, fake: Fake, minutes: int) -> None:
    """Simulated: a machine of half the speed that was measured, which slows down on the way, with slow validations."""
    per_step = minutes * 60 / 120

    class Slowing(Trainer):
        def train_step(self) -> Any:
            fake.now += per_step * (1 if self.step < 40 else 1.3)
            return super().train_step()

        def _validate(self) -> dict[str, Any]:
            fake.now += 0.01 * minutes * 60
            return super()._validate()

    trainer = make_trainer(
        tmp_path, steps=240, trainer=Slowing, plan={"seconds": minutes * 60.0, "eval_interval": 40}, log_interval=2,
        micro_batch=1, accumulation=1,
    )  # fmt: skip
    assert trainer.fit() == "steps"
    assert trainer.clock.seconds == pytest.approx(minutes * 60, rel=0.1)
    assert trainer.plan.revisions


def test_a_laptop_that_slept_loses_nothing(fake: Fake) -> None:
    clock = Clock()
    for _ in range(5):
        fake.now += 10
        assert clock.mark(5) == 10
    fake.now += 7200
    assert clock.mark(5) == 10
    fake.now += 50  # slow, but no sleep
    assert clock.mark(5) == 50
    fake.now += 300  # a long validation is work
    assert clock.mark() == 300
    assert clock.seconds == 5 * 10 + 10 + 50 + 300


# -- a whole workspace, and processes that die -----------------------------------------------------------------------

SLOW_TRAINING = """
import sys, time
from tatar_llm.training import start, trainer
start.measure_flops = lambda *_: 1e9
real = trainer.multiplier
def slow(*values):
    time.sleep(0.05)
    return real(*values)
trainer.multiplier = slow
from tatar_llm.cli import main
raise SystemExit(main(sys.argv[1:]))
"""


def train(workspace: Workspace, *more: str) -> int:
    return main(["train", "--workspace", str(workspace.root), *FLAGS, *more])


def test_few_steps_for_the_time_are_told(workspace: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    told = "without a recipe or size, --minutes chooses one that learns more"
    assert main(["train", "--workspace", str(workspace.root), "--device", "cpu", "--recipe", "tiny", "--block_size", "16", "--minutes", "0.02"]) == 0
    assert told in capsys.readouterr().err
    assert main(["train", "--workspace", str(workspace.root), "--device", "cpu", "--block_size", "16", "--minutes", "0.02"]) == 0
    assert told not in capsys.readouterr().err


def interrupted_training(workspace: Workspace, send: Callable[[subprocess.Popen], None]) -> tuple[int, str]:
    """Start a training in a process, wait for its first checkpoint, do something to it; exit code and last words."""
    command = [sys.executable, "-c", SLOW_TRAINING, "train", "--workspace", str(workspace.root), *FLAGS]
    child = subprocess.Popen(
        [*command, "--max_iters", "60", "--checkpoint_interval", "10", "--eval_interval", "16"],
        stderr=subprocess.PIPE, encoding="utf-8", env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    try:
        deadline = time.monotonic() + 60
        while child.poll() is None and time.monotonic() < deadline:
            if list(workspace.runs.glob("001-*/checkpoints/step_00001*")):
                send(child)
                break
            time.sleep(0.01)
        _, said = child.communicate(timeout=60)
    finally:
        child.kill()
    return child.returncode, said


def final_weights(workspace: Workspace) -> GPT:
    return load_model(workspace.final_model, "cpu")[0]


@pytest.mark.skipif(os.name == "nt", reason="Windows ends a process without asking it")
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_writes_a_checkpoint(
    workspace: Workspace, capsys: pytest.CaptureFixture[str], number: signal.Signals, code: int
) -> None:
    returned, said = interrupted_training(workspace, lambda child: child.send_signal(number))
    assert returned == code, said
    assert "Traceback" not in said and "tatar-llm train --resume" in said.splitlines()[-1]
    (run,) = list_runs(workspace)
    status = run.status()
    assert status["state"] == "stopped" and 10 <= status["step"] < 60
    assert checkpoints(run.checkpoints)[-1].name == f"step_{status['step']:06d}"
    if number == signal.SIGTERM:
        assert main(["train", "--resume", "--workspace", str(workspace.root)]) == 0
        assert f"at step {status['step']} of 60" in capsys.readouterr().err
        assert run.status()["state"] == "finished" and run.status()["step"] == 60


def test_a_killed_training_goes_on_as_if_nothing_had_been(workspace: Workspace, prepared: Path, tmp_path: Path) -> None:
    returned, _ = interrupted_training(workspace, lambda child: child.kill())
    assert returned not in (0, 1, 2)
    (run,) = list_runs(workspace)
    assert run.status()["state"] == "running" and not run.final_model.exists()
    assert main(["train", "--resume", "--workspace", str(workspace.root)]) == 0
    assert run.status()["state"] == "finished"
    assert not run.checkpoints.exists()
    rows = run.read_metrics()
    steps = [row["step"] for row in rows if "loss" in row]
    assert len(steps) == len(set(steps)) and steps == sorted(steps)
    assert set(range(5, 61, 5)) <= set(steps)
    validations = [row["step"] for row in rows if "val_loss" in row]
    assert validations == [16, 32, 48, 60]
    whole = Workspace(shutil.copytree(prepared, tmp_path / "uninterrupted"))
    assert train(whole, "--max_iters", "60", "--eval_interval", "16") == 0
    assert same_weights(final_weights(workspace), final_weights(whole))
    assert run.status()["best_step"] == list_runs(whole)[0].status()["best_step"]


def test_two_runs_never_overwrite_one_another(workspace: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    assert train(workspace, "--max_iters", "6", "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert told["run"] == "001-base" and told["state"] == "finished" and told["step"] == 6
    first = list_runs(workspace)[0]
    kept = {path: sha256_file(path) for path in first.folder.rglob("*") if path.is_file()}
    names = {path.relative_to(first.folder).as_posix() for path in kept}
    assert names >= {
        "settings.json", "status.json", "metrics.jsonl", "curve.png", "best_model.pt", "final_model.pt",
        "tokenizer/tokenizer.json",
    }  # fmt: skip
    assert sha256_file(workspace.best_model) == kept[first.best_model]
    assert train(workspace, "--max_iters", "6", "--seed", "1", "--name", "икенче") == 0
    assert [run.label for run in list_runs(workspace)] == ["001-base", "002-икенче"]
    assert {path: sha256_file(path) for path in kept} == kept
    second = list_runs(workspace)[1]
    assert sha256_file(workspace.best_model) == sha256_file(second.best_model) != kept[first.best_model]
    facts = torch.load(workspace.best_model, weights_only=True)
    assert facts["corpus"] == "words" and facts["language"] == "tat" and facts["step"] <= 6
    assert facts["tokenizer_sha256"] == sha256_file(second.tokenizer / "tokenizer.json")
    assert facts["val"]["bits_per_byte"] == pytest.approx(second.status()["best_bits_per_byte"])
    assert main(["train", "--resume", "--workspace", str(workspace.root)]) == 1
    assert "is finished: start a new one" in capsys.readouterr().err
    assert main(["runs", "--workspace", str(workspace.root), "--json"]) == 0
    assert [row["run"] for row in json.loads(capsys.readouterr().out)["runs"]] == ["001-base", "002-икенче"]
    assert main(["runs", "--workspace", str(workspace.root)]) == 0
    assert capsys.readouterr().out.count("\n") == 3


def test_what_base_would_have_reached_is_said(
    workspace: Workspace, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert train(workspace, "--recipe", "seed", "--max_iters", "2") == 0
    assert "expected" not in capsys.readouterr().err  # the fit has seen nothing so small
    for module in (start, handover):
        monkeypatch.setattr(module, "FIT_FROM", 0)
    assert train(workspace, "--recipe", "seed", "--max_iters", "2") == 0
    assert "`--recipe base` is expected to reach about" in capsys.readouterr().err.splitlines()[-3]
    assert train(workspace, "--max_iters", "2", "--optimizer", "muon") == 0
    said = capsys.readouterr().err
    assert "bits per byte are to be expected" in said and "`--recipe base`" not in said
    assert torch.load(workspace.best_model, weights_only=True)["expected_bits_per_byte"] > 0


def test_a_training_that_diverges_says_one_line(workspace: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    assert train(workspace, "--max_iters", "50", "--learning_rate", "1e30") == 1
    said = capsys.readouterr().err
    assert "Traceback" not in said
    assert [line for line in said.splitlines() if line.startswith("error:")] == said.splitlines()[-1:]
    assert "training diverged" in said.splitlines()[-1]
    assert list_runs(workspace)[0].status()["state"] == "stopped"


def test_text_that_changed_since_cannot_be_resumed(workspace: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    assert train(workspace, "--max_iters", "4", "--checkpoint_interval", "2") == 0
    (run,) = list_runs(workspace)
    run.write_status(state="stopped", step=2)
    write_json(run.folder / "settings.json", {**run.settings(), "train_tokens_sha256": "other"})
    assert main(["train", "--resume", "--workspace", str(workspace.root)]) == 1
    assert "no readable checkpoint" in capsys.readouterr().err
    trainer = make_trainer(run.folder, steps=4, plan={"checkpoint_interval": 2})
    trainer.fit()
    assert main(["train", "--resume", "--workspace", str(workspace.root)]) == 1
    assert "the token files have changed since run 001-base began" in capsys.readouterr().err


def test_token_files_follow_the_text(workspace: Workspace) -> None:
    before = read_json(workspace.tokens_manifest)["train"]["tokens"]
    write_text(workspace.train_text, workspace.train_text.read_text(encoding="utf-8") + "яңа җөмлә өстәлде\n")
    assert train(workspace, "--max_iters", "2") == 0
    assert read_json(workspace.tokens_manifest)["train"]["tokens"] > before


# -- the curve --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "metrics",
    [
        [],
        [{"tokens": 10, "bits_per_byte": 3.0}],
        [{"tokens": 10, "bits_per_byte": 3.0}, {"tokens": 20, "bits_per_byte": 2.5}, {"tokens": 20, "val_bits_per_byte": 2.6}],
    ],
)
@pytest.mark.parametrize("baselines", [{}, {"unigram": 4.0, "bigram": 3.1}])
def test_the_curve_is_a_png(tmp_path: Path, metrics: list[dict], baselines: dict[str, float]) -> None:
    draw_curve(tmp_path / "curve.png", metrics, baselines, "001-base: үрнәк")
    content = (tmp_path / "curve.png").read_bytes()
    assert content[:8] == b"\x89PNG\r\n\x1a\n" and content[12:16] == b"IHDR"
    assert (int.from_bytes(content[16:20], "big"), int.from_bytes(content[20:24], "big")) == (880, 550)
    assert content[-8:-4] == b"IEND"
    assert [path.name for path in tmp_path.iterdir()] == ["curve.png"]
