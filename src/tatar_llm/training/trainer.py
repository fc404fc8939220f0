"""The one training loop."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
import signal
import statistics
import time
from collections.abc import Callable, Iterator
from typing import Any

import torch

from tatar_llm.config import TrainConfig
from tatar_llm.console import human_time, progress, say
from tatar_llm.device import synchronize
from tatar_llm.errors import TatarLLMError, explain_os_error
from tatar_llm.model import GPT, save_model
from tatar_llm.training.batches import Batches
from tatar_llm.training.checkpoint import random_state, restore_random_state, write_checkpoint
from tatar_llm.training.optimizer import Optimizer
from tatar_llm.training.planner import Plan, autocast_dtype
from tatar_llm.training.runs import Run
from tatar_llm.training.schedule import multiplier
from tatar_llm.training.validation import HeldOut, Score, score
from tatar_llm.workspace import write_text

REVISE_AT = (0.03, 0.1, 0.3, 0.6, 0.85)  # shares of the time allowed at which measured speed corrects the plan


class Interrupted(Exception):
    """Training was asked to stop and has written its checkpoint."""

    def __init__(self, number: int) -> None:
        super().__init__(f"signal {number}")
        self.exit_code = 128 + number


class Clock:
    """Seconds of work. A stretch of steps far longer than its like (the laptop slept) counts as an ordinary one."""

    def __init__(self, seconds: float = 0.0) -> None:
        self.seconds = seconds
        self.in_steps = 0.0
        self._per_step: list[float] = []
        self._last = time.perf_counter()

    def usual_step(self) -> float:
        """Seconds of one step of late, without the odd slow one."""
        return statistics.median(self._per_step[-9:])

    def mark(self, steps: int = 0) -> float:
        """Count the time since the last mark, in which `steps` training steps were done (0: something else)."""
        now = time.perf_counter()
        stretch, self._last = now - self._last, now
        if steps:
            if len(self._per_step) >= 3:
                usual = statistics.median(self._per_step[-50:]) * steps
                stretch = usual if stretch > 60 + 10 * usual else stretch
            self._per_step.append(stretch / steps)
            self.in_steps += stretch
        self.seconds += stretch
        return stretch


class Trainer:
    """Trains a network until the plan's steps are done, validation stops improving, or somebody says stop."""

    def __init__(
        self,
        run: Run,
        model: GPT,
        config: TrainConfig,
        plan: Plan,
        batches: Batches,
        held_out: HeldOut,
        bytes_per_token: float,
        facts: dict[str, Any],
        on_validation: Callable[[GPT, int, Score], None] | None = None,
        seconds_used: float = 0.0,
    ) -> None:
        self.run, self.model, self.config, self.plan = run, model, config, plan
        self.batches, self.held_out, self.facts = batches, held_out, facts
        self.bits = 1 / (math.log(2) * bytes_per_token)  # nats per token -> bits per byte
        self.on_validation = on_validation
        self.device = model.device
        self.autocast = autocast_dtype(plan.precision)
        self.optimizer = Optimizer(model, config)
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=plan.precision == "fp16")
        model.gradient_checkpointing = config.gradient_checkpointing
        self.network: Callable = torch.compile(model) if plan.compile else model
        self.step = 0
        self.best = math.inf
        self.best_step = 0
        self.without_gain = 0
        self.revised = 0
        self.clock = Clock(seconds_used)
        self.counted = 0  # steps whose time the clock knows
        self.stretch = 0.0  # seconds of training steps since the last log line
        self.reserve = 0.0
        self.seconds_to_first_step = 0.0
        self.began = 0.0  # seconds at which the loop started
        self.stop_signal = 0

    @property
    def tokens_per_step(self) -> int:
        return self.plan.micro_batch * self.plan.accumulation * self.batches.block_size

    # -- the loop ------------------------------------------------------------------------------------------------

    def fit(self) -> str:
        """Train; returns why it ended: "steps" or "patience". Raises Interrupted after Ctrl-C or SIGTERM."""
        self.model.train()
        losses: list[torch.Tensor] = []
        first_step = since_log = self.counted = self.step
        self.began = self.clock.seconds
        with self._listen_for_signals(), progress("training", None, "steps") as advance:
            while self.step < self.plan.total_steps:
                loss, norm = self._train_step()
                losses.append(loss)
                self.step += 1
                if self.step % self.config.log_interval == 0 or self.step in (first_step + 1, self.plan.total_steps):
                    row = self._log(losses, norm, self.step - since_log)
                    self._record(row)
                    advance(self.step, self._note(row), total=self.plan.total_steps)
                    losses, since_log = [], self.step
                    self._revise_plan(first_step)
                if self.step % self.plan.eval_interval == 0 and self.step < self.plan.total_steps:
                    self._record(self._validate())
                    if self.config.patience and self.without_gain >= self.config.patience:
                        return "patience"
                if self.step % self.plan.checkpoint_interval == 0 or self.stop_signal:
                    self._checkpoint()
                if self.stop_signal:
                    raise Interrupted(self.stop_signal)
            self._record(self._validate())
        return "steps"

    def _train_step(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Forward, backward and one optimizer step; returns mean loss and gradient norm, still on the device."""
        self.optimizer.set_rate(self.rate())
        total = torch.zeros((), device=self.device)
        for _ in range(self.plan.accumulation):
            inputs, targets = (self._to_device(part) for part in self.batches.next(self.plan.micro_batch))
            with torch.autocast(self.device.type, dtype=self.autocast, enabled=self.autocast is not None):
                _, loss = self.network(inputs, targets, return_logits=False)
            loss = loss / self.plan.accumulation
            self.scaler.scale(loss).backward()
            total += loss.detach()
        for part in self.optimizer.parts:
            self.scaler.unscale_(part)
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.config.grad_clip or math.inf)
        for part in self.optimizer.parts:
            self.scaler.step(part)
        self.scaler.update()
        self.optimizer.zero_grad()
        return total, norm

    def rate(self) -> float:
        """The learning rate of this step as a share of its peak."""
        return multiplier(
            self.step, self.plan.total_steps, self.config.warmup_iters, self.config.schedule, self.config.min_lr
        )

    def _to_device(self, ids: torch.Tensor) -> torch.Tensor:
        """Asynchronous only from pinned memory to CUDA: elsewhere it can deliver garbage ids (Apple MPS)."""
        if self.device.type == "cuda":
            return ids.pin_memory().to(self.device, non_blocking=True)
        return ids.to(self.device)

    # -- what it tells -------------------------------------------------------------------------------------------

    def _log(self, losses: list[torch.Tensor], norm: torch.Tensor, steps: int) -> dict[str, Any]:
        loss = float(torch.stack(losses).mean())
        self._count_steps()
        stretch, self.stretch = self.stretch, 0.0
        if not self.seconds_to_first_step:
            self.seconds_to_first_step = self.clock.seconds
        if not math.isfinite(loss):
            raise TatarLLMError(
                f"the loss is no longer a number at step {self.step}: training diverged. Take a lower --learning_rate; "
                f"the best model so far and the last checkpoint are in {self.run.folder}"
            )
        return {
            "step": self.step,
            "tokens": self.step * self.tokens_per_step,
            "epoch": self.batches.epoch,
            "loss": round(loss, 5),
            "bits_per_byte": round(loss * self.bits, 5),
            "learning_rate": self.optimizer.parts[0].param_groups[0]["lr"],
            "gradient_norm": round(float(norm), 4),
            "tokens_per_second": round(steps * self.tokens_per_step / max(stretch, 1e-9)),
            "seconds": round(self.clock.seconds, 2),
        }

    def _note(self, row: dict[str, Any]) -> str:
        best = f", held-out {self.best:.3f}" if self.best < math.inf else ""
        return f"loss {row['loss']:.3f}, {row['bits_per_byte']:.3f} bits/byte{best}, {row['tokens_per_second']:,} tokens/s"

    def _validate(self) -> dict[str, Any]:
        """Score the fixed part of the held-out text; keep the weights when they are the best so far."""
        self._count_steps()
        result = score(self.model, self.held_out, max(1, self.plan.micro_batch // 2), self.autocast)
        if result.bits_per_byte < self.best:
            self.best, self.best_step, self.without_gain = result.bits_per_byte, self.step, 0
            self._save("best", result)
        else:
            self.without_gain += 1
        if self.on_validation:
            self.on_validation(self.model, self.step, result)
        self.write_status("running")
        self.clock.mark()
        return {
            "step": self.step,
            "tokens": self.step * self.tokens_per_step,
            "val_loss": round(result.nats_per_token, 5),
            "val_bits_per_byte": round(result.bits_per_byte, 5),
            "seconds": round(self.clock.seconds, 2),
        }

    def _save(self, which: str, result: Score) -> None:
        val = {"bits_per_byte": result.bits_per_byte, "nats_per_token": result.nats_per_token}
        path = self.run.best_model if which == "best" else self.run.final_model
        with self._keep_going(f"the {which} model"):
            save_model(path, self.model, step=self.step, val=val, **self.facts)

    def save_final(self, result: Score) -> None:
        """Write final_model.pt, the weights of the last step."""
        self._save("final", result)

    def write_status(self, state: str, **facts: Any) -> None:
        """Tell `tatar-llm runs` where the run stands."""
        with self._keep_going("status.json"):
            self.run.write_status(
                state=state, step=self.step, total_steps=self.plan.total_steps,
                best_bits_per_byte=None if math.isinf(self.best) else self.best, best_step=self.best_step,
                seconds=round(self.clock.seconds, 1), **facts,
            )  # fmt: skip

    # -- time ----------------------------------------------------------------------------------------------------

    def _count_steps(self) -> None:
        """Give the clock the steps done since it was last asked."""
        synchronize(self.device)
        self.stretch += self.clock.mark(self.step - self.counted)
        self.counted = self.step

    def _revise_plan(self, first_step: int) -> None:
        """Correct the number of steps by the speed measured so far, a few times a run."""
        if not self.plan.seconds or self.revised == len(REVISE_AT):
            return
        if self.step - first_step < 2 or self.clock.seconds < REVISE_AT[self.revised] * self.plan.seconds:
            return
        while self.revised < len(REVISE_AT) and self.clock.seconds >= REVISE_AT[self.revised] * self.plan.seconds:
            self.revised += 1
        beside = max(0.0, self.clock.seconds - self.began - self.clock.in_steps)  # validations, checkpoints
        per_step = self.clock.usual_step() + beside / (self.step - first_step)
        left = self.plan.seconds - self.reserve - self.clock.seconds
        total = max(self.step + 1, self.step + round(left / per_step))
        total = min(total, self.plan.most_steps or total)
        if abs(total - self.plan.total_steps) > 0.01 * self.plan.total_steps:
            self.plan = self.plan.revised(self.step, total)

    # -- checkpoints ---------------------------------------------------------------------------------------------

    def _checkpoint(self) -> None:
        self._count_steps()
        with self._keep_going("a checkpoint"):
            write_checkpoint(self.run.checkpoints, self.step, self.state(), self.config.keep_checkpoints)
        self.clock.mark()

    def state(self) -> dict[str, Any]:
        """All that an exact resume needs."""
        return {
            "step": self.step,
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "batches": self.batches.state(),
            "random": random_state(self.device),
            "plan": dataclasses.asdict(self.plan),
            "best": [self.best, self.best_step, self.without_gain],
            "revised": self.revised,
            "seconds": self.clock.seconds,
            "reserve": self.reserve,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Continue from a checkpoint's state; metrics written after it are dropped, they will come again."""
        self.step = state["step"]
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.scaler.load_state_dict(state["scaler"])
        self.batches.restore(state["batches"])
        restore_random_state(state["random"], self.device)
        self.best, self.best_step, self.without_gain = state["best"]
        self.revised, self.reserve = state["revised"], state["reserve"]
        self.clock = Clock(state["seconds"])
        rows = [row for row in self.run.read_metrics() if row["step"] <= self.step]
        write_text(self.run.metrics, "".join(json.dumps(row) + "\n" for row in rows))

    @contextlib.contextmanager
    def _keep_going(self, what: str) -> Iterator[None]:
        """A full disk must not end the training: warn, keep what was there before, go on."""
        try:
            yield
        except (OSError, RuntimeError) as error:
            reason = explain_os_error(error) if isinstance(error, OSError) else str(error).splitlines()[0]
            say(f"WARNING: {what} could not be written, training goes on: {reason}")

    def _record(self, row: dict[str, Any]) -> None:
        with self._keep_going("metrics.jsonl"), open(self.run.metrics, "a", encoding="utf-8", newline="\n") as log:
            log.write(json.dumps(row) + "\n")

    @contextlib.contextmanager
    def _listen_for_signals(self) -> Iterator[None]:
        """The first Ctrl-C or SIGTERM finishes the step and writes a checkpoint; a second one ends at once."""

        def on_signal(number: int, _frame: Any) -> None:
            if self.stop_signal:
                raise KeyboardInterrupt
            self.stop_signal = number
            say(f"\nstopping after this step (again to stop at once): step {self.step}, "
                f"{human_time(self.clock.seconds)} of training are kept")  # fmt: skip

        previous = {}
        for number in (signal.SIGINT, signal.SIGTERM):
            with contextlib.suppress(ValueError):  # not the main thread
                previous[number] = signal.signal(number, on_signal)
        try:
            yield
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)
