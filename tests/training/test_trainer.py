"""The loop: it learns, it resumes to the bit, and nothing that happens to the machine costs more than a checkpoint."""

from __future__ import annotations

import dataclasses
import errno
import json
import math
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from tatar_llm.cli import main
from tatar_llm.config import GPTConfig, TokenizerConfig, TrainConfig
from tatar_llm.errors import TatarLLMError
from tatar_llm.model import GPT, load_model
from tatar_llm.tokenizer import TokenFile, encode_corpus, train_tokenizer
from tatar_llm.tokenizer.baselines import ngram_baselines
from tatar_llm.training import list_runs, start
from tatar_llm.training import trainer as trainer_module
from tatar_llm.training.batches import Batches
from tatar_llm.training.checkpoint import checkpoints, need_checkpoint
from tatar_llm.training.curve import draw_curve
from tatar_llm.training.planner import Plan
from tatar_llm.training.runs import Run
from tatar_llm.training.trainer import Clock, Interrupted, Trainer
from tatar_llm.training.validation import Score, held_out
from tatar_llm.workspace import Workspace, read_json, sha256_file, write_json, write_text

BOS = 2
TINY = GPTConfig(n_layer=2, n_head=2, n_embd=32, block_size=16, vocab_size=300)


@pytest.fixture(autouse=True)
def one_thread(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TATAR_LLM_DEVICE", "cpu")
    monkeypatch.setattr(start, "measure_flops", lambda *_: 1e9)  # a plan without seconds of measuring
    before, handler = torch.get_num_threads(), signal.getsignal(signal.SIGTERM)
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
    signal.signal(signal.SIGTERM, handler)


# -- a trainer over token files in memory ----------------------------------------------------------------------------


def chains(documents: int, seed: int, letters: int = 40) -> TokenFile:
    """Documents in which each token follows from the one before: learnable, though every token is equally frequent."""
    random_numbers = np.random.default_rng(seed)
    parts = []
    for _ in range(documents):
        place = int(random_numbers.integers(letters))
        tokens = [BOS]
        for _ in range(int(random_numbers.integers(10, 30))):
            tokens.append(16 + place)
            place = (7 * place + 3) % letters
        parts.append(np.array([*tokens, 3], dtype=np.uint16))
    lengths = np.array([len(part) for part in parts])
    return TokenFile(np.concatenate(parts), lengths, lengths * 4, {})


def make_trainer(
    folder: Path,
    *,
    steps: int = 10,
    micro_batch: int = 2,
    accumulation: int = 2,
    config: GPTConfig = TINY,
    seed: int = 0,
    data: TokenFile | None = None,
    on_validation: Callable[..., None] | None = None,
    plan: dict[str, Any] | None = None,
    trainer: type[Trainer] = Trainer,
    **train: Any,
) -> Trainer:
    settings = TrainConfig(**{"learning_rate": 1e-2, "log_interval": 1, "warmup_iters": 3, "patience": 0, **train})
    made = Plan(
        device="cpu", precision="fp32", compile=False, threads=1, micro_batch=micro_batch, accumulation=accumulation,
        total_steps=steps, eval_interval=1000, checkpoint_interval=1000,
    )  # fmt: skip
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(seed)
    data = data or chains(25, 0)
    return trainer(
        Run(folder), GPT(config), settings, dataclasses.replace(made, **(plan or {})),
        Batches(data, config.block_size, 0), held_out(chains(10, 1), config, BOS), 4.0, {"corpus": "chains"}, on_validation,
    )  # fmt: skip


def losses(trainer: Trainer) -> list[float]:
    return [row["loss"] for row in trainer.run.read_metrics() if "loss" in row]


def same_weights(one: GPT, other: GPT) -> bool:
    mine, its = one.state_dict(), other.state_dict()
    return mine.keys() == its.keys() and all(torch.equal(mine[name], its[name]) for name in mine)


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
        (5, {"optimizer": "muon", "gradient_checkpointing": True}),
    ],
)
def test_a_resume_is_equal_to_the_bit(tmp_path: Path, stop: int, options: dict) -> None:
    config = dataclasses.replace(TINY, dropout=0.2)
    arguments = {"steps": 24, "config": config, "plan": {"eval_interval": stop}, **options}
    whole = make_trainer(tmp_path / "whole", **arguments)
    assert whole.batches.windows % 4, "the border of an epoch must fall inside a step"
    assert 2.5 * whole.batches.windows < 24 * 4
    whole.fit()

    def stop_it(_model: GPT, step: int, _score: Score) -> None:
        if step == stop:
            first.stop_signal = signal.SIGTERM

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
    with pytest.raises(TatarLLMError, match=r"no longer a number at step 1: .*lower --learning_rate"):
        trainer.fit()
    assert not trainer.run.best_model.exists()


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
    monkeypatch.setattr(trainer_module, "time", made)
    return made


@pytest.mark.parametrize("planned", [1000, 97, 8], ids=["far too many", "about right", "far too few"])
@pytest.mark.parametrize("log_interval", [1, 10])
def test_minutes_end_near_the_steps_that_fit(tmp_path: Path, fake: Fake, planned: int, log_interval: int) -> None:
    class Second(Trainer):
        """Each step takes a second, the first one, with everything that is warmed up, five."""

        def _train_step(self) -> Any:
            fake.now += 5 if self.step == 0 else 1
            return super()._train_step()

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

FLAGS = [
    "--n_layer", "2", "--n_head", "2", "--n_embd", "32", "--block_size", "16", "--batch_size", "4",
    "--gradient_accumulation_steps", "1", "--dropout", "0.1", "--compile", "off", "--log_interval", "5", "--patience", "0",
]  # fmt: skip
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


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace with a corpus, a tokenizer and token files."""
    place = Workspace(tmp_path_factory.mktemp("prepared") / "эш урыны")
    chance = random.Random(0)
    words = ["китап", "урман", "елга", "әни", "көн", "төн", "кояш", "җил", "һава", "өй", "үрдәк", "таң", "сүз", "юл"]
    for path, count in ((place.train_text, 300), (place.val_text, 30)):
        write_text(path, "".join(" ".join(chance.choices(words, k=6)) + ".\n" for _ in range(count)))
    write_json(place.corpus_manifest, {"document": "line", "corpus": "words", "language": "tat", "fallback": None})
    train_tokenizer(TokenizerConfig(vocab_size=300), place)
    encode_corpus(place)
    return place.root


@pytest.fixture
def workspace(prepared: Path, tmp_path: Path) -> Workspace:
    return Workspace(shutil.copytree(prepared, tmp_path / "эш урыны"))


def train(workspace: Workspace, *more: str) -> int:
    return main(["train", "--workspace", str(workspace.root), *FLAGS, *more])


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


def test_a_training_that_diverges_says_one_line(workspace: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    assert train(workspace, "--max_iters", "50", "--learning_rate", "1e30") == 1
    said = capsys.readouterr().err
    assert "Traceback" not in said
    assert [line for line in said.splitlines() if line.startswith("error:")] == said.splitlines()[-1:]
    assert "no longer a number" in said.splitlines()[-1]
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
