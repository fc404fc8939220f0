"""A training without a run: the trainer's own numbers, and nothing left behind."""

from __future__ import annotations

import signal
import tempfile
from pathlib import Path

import pytest
from little_training import BOS, TINY, chains, make_trainer

from tatar_llm.config import TrainConfig
from tatar_llm.errors import TatarLLMError
from tatar_llm.training.bare import BareRun, _QuietTrainer, bare_run
from tatar_llm.training.stop import Interrupted

SETTINGS = TrainConfig(learning_rate=1e-2, log_interval=1, warmup_iters=3, patience=0, precision="fp32", device="cpu")


def run(seed: int = 0, steps: int = 10, **more: int) -> BareRun:
    return bare_run(
        chains(25, 0), chains(10, 1), TINY, SETTINGS, steps=steps, micro_batch=2, accumulation=2, bos=BOS, validation_tokens=0,
        seed=seed, **more,
    )  # fmt: skip


def test_the_trainers_own_numbers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    trainer = make_trainer(tmp_path / "run")
    trainer.fit()
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    capsys.readouterr()
    found = run(validations=2)
    assert not list((tmp_path / "temporary").iterdir()) and not capsys.readouterr().err
    expected = [row for row in trainer.run.read_metrics() if "loss" in row]
    assert [row["loss"] for row in found.metrics if "loss" in row] == [row["loss"] for row in expected]
    assert found.final == found.curve[-1] == found.score.bits_per_byte == pytest.approx(trainer.best)
    assert len(found.curve) == 2 and found.best == min(found.curve) and found.seconds > 0
    assert found.training == pytest.approx(sum(row["bits_per_byte"] for row in found.metrics if "loss" in row and row["step"] > 7) / 3)


def test_a_seed_decides() -> None:
    assert run(seed=1).curve == run(seed=1).curve != run(seed=2).curve


def test_too_little_text() -> None:
    with pytest.raises(TatarLLMError, match="fewer than one window"):
        bare_run(chains(1, 0), chains(1, 1), TINY.__class__(n_layer=1, n_head=2, n_embd=32, block_size=512, vocab_size=300), SETTINGS,
                 steps=1, micro_batch=1, accumulation=1, bos=BOS, validation_tokens=0, seed=0)  # fmt: skip


def test_a_stop_is_passed_on(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    step = _QuietTrainer.train_step

    def ctrl_c(trainer: _QuietTrainer) -> tuple:
        signal.raise_signal(signal.SIGINT)
        return step(trainer)

    monkeypatch.setattr(_QuietTrainer, "train_step", ctrl_c)
    with pytest.raises(Interrupted):
        run()
    assert "this training is not kept" in capsys.readouterr().err
