"""A training without a run: token files and settings in, losses out, nothing kept. For comparisons of many small networks."""

from __future__ import annotations

import statistics
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from tatar_llm.config import GPTConfig, TrainConfig
from tatar_llm.console import say
from tatar_llm.device import choose_execution, keep_freed_memory
from tatar_llm.model import GPT
from tatar_llm.tokenizer import TokenFile
from tatar_llm.training.batches import Batches
from tatar_llm.training.planner import Plan
from tatar_llm.training.runs import Run
from tatar_llm.training.trainer import Trainer
from tatar_llm.training.validation import Score, held_out

NEVER = 10**9  # steps between checkpoints


@dataclass(frozen=True)
class BareRun:
    """What a training came to, in bits per byte."""

    final: float
    """On held-out text after the last step."""
    best: float
    """The lowest of the curve."""
    curve: list[float]
    """On held-out text, every validation."""
    training: float
    """On the training text, the mean of the last log lines."""
    seconds: float
    """Of the training steps; validations are left out."""
    score: Score
    """The last validation in parts, for intervals."""
    metrics: list[dict[str, Any]]
    """The lines of metrics.jsonl."""


class _QuietTrainer(Trainer):
    """Says neither when its first step is done nor that anything is kept."""

    def _tell_of_first_step(self) -> None:
        pass

    def _tell_of_stop(self) -> None:
        say(f"\nstopping after this step (again to stop at once): step {self.step}; this training is not kept")


def bare_run(
    train: TokenFile,
    val: TokenFile,
    config: GPTConfig,
    settings: TrainConfig,
    *,
    steps: int,
    micro_batch: int,
    accumulation: int,
    bos: int,
    validation_tokens: int,
    seed: int,
    validations: int = 8,
    threads: int = 0,
) -> BareRun:
    """Train a network of `config` from scratch and measure it; files exist only meanwhile, in a temporary folder.

    Args:
        settings: device, precision, optimizer and schedule. Only `compile` "on" compiles: these trainings are short.
        steps: optimizer steps of micro_batch x accumulation windows.
        bos: id that starts a document.
        validation_tokens: held-out tokens scored at each validation, 0 for all.
        seed: of weights, dropout and data order.
        validations: how many, evenly spread; the last one stands at the end.
        threads: CPU threads of torch from now on; 0 leaves them as they are.

    Raises:
        TatarLLMError: text shorter than a window, a device that is not here, a loss that is no longer a number.
        Interrupted: stopped by the user.
    """
    if threads:
        torch.set_num_threads(threads)
    execution = choose_execution(settings.device, settings.precision, settings.compile)
    if execution.device == "cpu":
        keep_freed_memory()
    plan = Plan(
        device=execution.device, precision=execution.precision, compile=settings.compile == "on", threads=execution.threads,
        micro_batch=micro_batch, accumulation=accumulation, total_steps=steps, eval_interval=max(1, steps // validations),
        checkpoint_interval=NEVER,
    )  # fmt: skip
    torch.manual_seed(seed)
    model = GPT(config).to(execution.device)
    part = held_out(val, config, bos, validation_tokens)
    scores: list[Score] = []
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        trainer = _QuietTrainer(
            Run(Path(folder)), model, settings, plan, Batches(train, config.block_size, seed), part,
            float(train.document_bytes.sum() / train.document_tokens.sum()), {},
            on_validation=lambda _model, _step, found: scores.append(found),
        )  # fmt: skip
        trainer.fit()
        metrics = trainer.run.read_metrics()
    curve = [found.bits_per_byte for found in scores]
    logged = [row["bits_per_byte"] for row in metrics if row.get("bits_per_byte")]
    return BareRun(
        curve[-1], min(curve), curve, statistics.mean(logged[-3:]), trainer.clock.in_steps, scores[-1], metrics
    )
