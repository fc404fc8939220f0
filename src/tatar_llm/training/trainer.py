"""The one training loop."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import time
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from tatar_llm.config import TrainConfig
from tatar_llm.console import human_time, progress, say
from tatar_llm.device import is_out_of_memory, synchronize
from tatar_llm.errors import TatarLLMError
from tatar_llm.model import GPT, compiled, save_model
from tatar_llm.training.average import Average
from tatar_llm.training.batches import WindowSource
from tatar_llm.training.checkpoint import checkpoints, random_state, restore_random_state, write_checkpoint
from tatar_llm.training.clock import Clock
from tatar_llm.training.distributed import Processes
from tatar_llm.training.optimizer import Optimizer
from tatar_llm.training.planner import Plan, autocast_dtype
from tatar_llm.training.recorder import Recorder
from tatar_llm.training.runs import Run
from tatar_llm.training.schedule import multiplier
from tatar_llm.training.stop import Interrupted, StopRequest
from tatar_llm.training.validation import HeldOut, Score, score
from tatar_llm.training.watchdog import Watchdog

REVISE_AT = (0.03, 0.1, 0.3, 0.6, 0.85)  # shares of the time allowed at which measured speed corrects the plan


class Trainer:
    """Trains a network until the plan's steps are done, validation stops improving, or somebody says stop."""

    def __init__(
        self,
        run: Run,
        model: GPT,
        config: TrainConfig,
        plan: Plan,
        batches: WindowSource,
        held_out: HeldOut,
        bytes_per_token: float,
        facts: dict[str, Any],
        on_validation: Callable[[GPT, int, Score], None] | None = None,
        started: float | None = None,
        processes: Processes = Processes(),  # noqa: B008
        peak_flops: float = 0.0,
    ) -> None:
        self.run, self.model, self.config, self.plan = run, model, config, plan
        self.batches, self.held_out, self.facts = batches, held_out, facts
        self.bits = 1 / (math.log(2) * bytes_per_token)  # nats per token -> bits per byte
        self.on_validation, self.processes = on_validation, processes
        self.peak_flops = peak_flops * processes.world
        self.device = model.device
        self.autocast = autocast_dtype(plan.precision)
        self.optimizer = Optimizer(model, config)
        self.average = Average(model, config.ema)
        self.watchdog = Watchdog(self.device)
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=plan.precision == "fp16")
        model.gradient_checkpointing, model.z_loss = config.gradient_checkpointing, config.z_loss
        model.balance_loss, model.router_z_loss = config.balance_loss, config.router_z_loss
        self.network = self._for_execution()
        self.recorder = Recorder(run, processes.first, config.tensorboard)
        self.step = 0
        self.best = math.inf
        self.best_step = 0
        self.without_gain = 0
        self.revised = 0
        self.skipped = 0  # as last told
        self.started = time.perf_counter() if started is None else started
        self.clock = Clock(time.perf_counter() - self.started)
        self.counted = 0  # steps whose time the clock knows
        self.stretch = (0, 0.0)  # steps and their seconds since the last log line
        self.losses: list[Tensor] = []  # of the steps since then
        self.reserve = 0.0
        self.seconds_to_first_step = 0.0
        self.began = 0.0  # seconds at which the loop started
        self.stop = StopRequest(several_senders=processes.world > 1)

    def _for_execution(self) -> Callable:
        network: Any = self.model
        if self.processes.world > 1:
            on_gpu = [self.device.index or 0] if self.device.type == "cuda" else None
            network = torch.nn.parallel.DistributedDataParallel(network, on_gpu, gradient_as_bucket_view=True)
        return compiled(network) if self.plan.compile else network

    @property
    def windows_per_step(self) -> int:
        return self.plan.micro_batch * self.plan.accumulation * self.processes.world

    @property
    def tokens_per_step(self) -> int:
        return self.windows_per_step * self.batches.block_size

    # -- the loop ------------------------------------------------------------------------------------------------

    def fit(self) -> str:
        """Train; returns why it ended: "steps" or "patience".

        Raises Interrupted after Ctrl-C or SIGTERM, TatarLLMError where training diverges or memory ends.
        """
        self.model.train()
        first_step = self.counted = self.step
        self.began = self.clock.seconds
        with self.stop.listen(self._tell_of_stop), progress("training", None, "steps") as advance:
            while self.step < self.plan.total_steps:
                loss, norm = self.train_step()
                self.losses.append(loss)
                self.step += 1
                if self.step == first_step + 1:
                    self._tell_of_first_step()
                if self.step % self.config.log_interval == 0 or self.step in (1, self.plan.total_steps):
                    row = self._log(norm)
                    self.recorder.row(row)
                    advance(self.step, self._note(row), total=self.plan.total_steps)
                    self._judge_run()
                    self._revise_plan(first_step)
                if self.step % self.plan.eval_interval == 0 and self.step < self.plan.total_steps:
                    self.recorder.row(self._validate())
                    if self.config.patience and self.without_gain >= self.config.patience:
                        return "patience"
                stop = self.processes.largest(self.stop.signal)
                if stop or self.step % self.plan.checkpoint_interval == 0:
                    self._checkpoint(even_if_unfit=bool(stop))
                if stop:
                    raise Interrupted(stop)
            self.recorder.row(self._validate())
        return "steps"

    @contextlib.contextmanager
    def telling_of_failure(self) -> Iterator[None]:
        """Inside, whatever ends the training before its time is written into the run's status."""
        try:
            yield
        except (Interrupted, TatarLLMError) as error:
            self.write_status("stopped", reason="interrupted" if isinstance(error, Interrupted) else "failed")
            raise

    def train_step(self) -> tuple[Tensor, Tensor]:
        """Forward, backward and one optimizer step; returns mean loss and gradient norm, still on the device."""
        self.optimizer.set_rate(self.rate())
        loss = self._gradients()
        for part in self.optimizer.parts:
            self.scaler.unscale_(part)
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.config.grad_clip or math.inf)
        self.optimizer.step(skip=self.watchdog.judge(loss, norm))
        self.scaler.update()
        self.optimizer.zero_grad()
        self.average.update()
        return loss, norm

    def _gradients(self) -> Tensor:
        """Gradients of the mean loss over the step's windows; where memory does not suffice, in smaller pieces."""
        place = self.batches.state()
        while True:
            try:
                return self._accumulate(*self.batches.next(self.windows_per_step))
            except RuntimeError as error:
                if not is_out_of_memory(error):
                    raise
            self._halve_micro_batch()
            self.batches.restore(place)

    def _accumulate(self, inputs: Tensor, targets: Tensor) -> Tensor:
        """Backward through all windows of a step that are this process's; returns the mean loss of all processes."""
        total = torch.zeros((), device=self.device)
        scored = int((targets >= 0).sum())  # in the whole step: the same gradients however it is split
        mine = self.processes.slice(len(inputs))
        pieces = list(zip(*(part[mine].split(self.plan.micro_batch) for part in (inputs, targets)), strict=True))
        for number, (piece, aims) in enumerate(pieces, 1):
            weight = int((aims >= 0).sum()) / max(scored, 1)
            last = number == len(pieces) or self.processes.world == 1
            with contextlib.nullcontext() if last else self._without_exchange():
                with torch.autocast(self.device.type, dtype=self.autocast, enabled=self.autocast is not None):
                    _, loss = self.network(self._to_device(piece), self._to_device(aims), return_logits=False)
                # DistributedDataParallel averages over the processes; the sum is wanted
                self.scaler.scale(loss * (weight * self.processes.world)).backward()
            total += loss.detach() * weight
        return self.processes.add(total)

    def _without_exchange(self) -> contextlib.AbstractContextManager:
        """Gradients of all but the last piece stay in their process."""
        network: Any = getattr(self.network, "_orig_mod", self.network)
        return network.no_sync()

    def _halve_micro_batch(self) -> None:
        """Out of memory: half the micro-batch, twice the accumulation, the same step; the plan remembers it."""
        self.optimizer.zero_grad()
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        whole, piece = self.plan.micro_batch * self.plan.accumulation, self.plan.micro_batch // 2
        if not piece or self.processes.world > 1:
            raise TatarLLMError(
                "not enough memory for a training step: take "
                + ("a smaller --batch_size" if piece else "--gradient_checkpointing, a smaller --block_size or --recipe")
                + self._last_checkpoint()
            )
        while whole % piece:
            piece -= 1
        say(f"out of memory at step {self.step}: micro-batches of {piece} windows instead of {self.plan.micro_batch} "
            f"from now on; a step still takes {whole}")  # fmt: skip
        self.plan = dataclasses.replace(
            self.plan, micro_batch=piece, accumulation=whole // piece, shrunk=(*self.plan.shrunk, (self.step, piece))
        )

    def rate(self) -> float:
        """The learning rate of this step as a share of its peak."""
        config = self.config
        return multiplier(
            self.step, self.plan.total_steps, config.warmup_iters, config.schedule, config.min_lr, config.cooldown
        )

    def _to_device(self, ids: Tensor) -> Tensor:
        """Asynchronous only from pinned memory to CUDA: elsewhere it can deliver garbage ids (Apple MPS)."""
        if self.device.type == "cuda":
            return ids.pin_memory().to(self.device, non_blocking=True)
        return ids.to(self.device)

    # -- what it tells -------------------------------------------------------------------------------------------

    def _log(self, norm: Tensor) -> dict[str, Any]:
        values, self.losses = torch.stack(self.losses), []
        loss = float(values[torch.isfinite(values)].mean())  # nan where no step had one
        self._count_steps()
        (steps, stretch), self.stretch = self.stretch, (0, 0.0)
        speed = steps * self.tokens_per_step / max(stretch, 1e-9)
        row = {
            "step": self.step,
            "tokens": self.step * self.tokens_per_step,
            "epoch": self.batches.epoch,
            "loss": round(loss, 5) if math.isfinite(loss) else None,
            "bits_per_byte": round(loss * self.bits, 5) if math.isfinite(loss) else None,
            "learning_rate": self.optimizer.parts[0].param_groups[0]["lr"],
            "gradient_norm": round(float(norm), 4) if math.isfinite(float(norm)) else None,
            "tokens_per_second": round(speed),
            "seconds": round(self.clock.seconds, 2),
        }
        if self.peak_flops:
            row["share_of_peak"] = round(speed * self.model.config.flops_per_token() / self.peak_flops, 4)
        if self.model.config.n_expert:
            row["expert_load"] = self._expert_load()
        skipped, _ = self.watchdog.counts()
        if skipped:
            row["skipped"] = skipped
        return row

    def _expert_load(self) -> list[list[float]]:
        """Of each layer, the share of tokens that each expert got since the last log line; even is 1 / n_expert."""
        load = self.model.expert_load
        shares = (load / load.sum(dim=1, keepdim=True).clamp(min=1e-9)).tolist()
        load.zero_()
        return [[round(share, 4) for share in layer] for layer in shares]

    def _note(self, row: dict[str, Any]) -> str:
        best = f", held-out {self.best:.3f}" if self.best < math.inf else ""
        share = f" ({row['share_of_peak']:.0%} of peak)" if "share_of_peak" in row else ""
        loss = "no loss" if row["loss"] is None else f"loss {row['loss']:.3f}, {row['bits_per_byte']:.3f} bits/byte"
        busiest = f", busiest expert {max(map(max, row['expert_load'])):.0%}" if "expert_load" in row else ""
        return f"{loss}{best}, {row['tokens_per_second']:,} tokens/s{share}{busiest}"

    def _judge_run(self) -> None:
        """Tell of skipped steps; end the run when there are too many."""
        skipped, in_a_row = self.watchdog.counts()
        if skipped > self.skipped:
            say(f"WARNING: {skipped - self.skipped} steps up to {self.step} were skipped, {skipped} so far: "
                "the loss was not a number or its gradient far beyond the usual")  # fmt: skip
            self.skipped = skipped
        if self.watchdog.gives_up(self.step, self.plan.total_steps):
            raise TatarLLMError(
                f"training diverged: {in_a_row or skipped} steps {'in a row ' if in_a_row else ''}had to be skipped up to "
                f"step {self.step}, their loss is no longer a number or their gradient far beyond the usual. Take a lower "
                f"--learning_rate (with Muon also --muon_rate){self._last_checkpoint()}"
            )

    def _tell_of_first_step(self) -> None:
        synchronize(self.device)
        self.seconds_to_first_step = time.perf_counter() - self.started
        say(f"first step done {self.seconds_to_first_step:.1f} s after the command began")

    def _tell_of_stop(self) -> None:
        say(f"\nstopping after this step (again to stop at once): step {self.step}, "
            f"{human_time(self.clock.seconds)} of training are kept")  # fmt: skip

    def _last_checkpoint(self) -> str:
        found = checkpoints(self.run.checkpoints)
        return f"; the last good checkpoint is {found[-1]}" if found else "; no checkpoint had been written yet"

    def _validate(self) -> dict[str, Any]:
        """Score the fixed part of the held-out text; keep the weights when they are the best so far."""
        self._count_steps()
        result: Score | None = None
        if self.processes.first:
            with self.average.inside_model():
                result = score(self.model, self.held_out, max(1, self.plan.micro_batch // 2), self.autocast)
                if result.bits_per_byte < self.best:
                    self._save("best", result)
                if self.on_validation:
                    self.on_validation(self.model, self.step, result)
        bits, nats = self.processes.share((result.bits_per_byte, result.nats_per_token) if result else None)
        if bits < self.best:
            self.best, self.best_step, self.without_gain = bits, self.step, 0
        else:
            self.without_gain += 1
        self.write_status("running")
        self.clock.mark()
        return {
            "step": self.step,
            "tokens": self.step * self.tokens_per_step,
            "val_loss": round(nats, 5),
            "val_bits_per_byte": round(bits, 5),
            "seconds": round(self.clock.seconds, 2),
        }

    def _save(self, which: str, result: Score) -> None:
        val = {"bits_per_byte": result.bits_per_byte, "nats_per_token": result.nats_per_token}
        path = self.run.best_model if which == "best" else self.run.final_model
        facts = {"step": self.step, "val": val, **self.facts}
        self.recorder.file(f"the {which} model", lambda: save_model(path, self.model, **facts))

    def save_final(self, result: Score) -> None:
        """Write final_model.pt, the weights of the last step (their average, where one is kept)."""
        self._save("final", result)

    def write_status(self, state: str, **facts: Any) -> None:
        """Tell `tatar-llm runs` where the run stands."""
        self.recorder.status(
            state=state, step=self.step, total_steps=self.plan.total_steps,
            best_bits_per_byte=None if math.isinf(self.best) else self.best, best_step=self.best_step,
            seconds=round(self.clock.seconds, 1), **facts,
        )  # fmt: skip

    # -- time ----------------------------------------------------------------------------------------------------

    def _count_steps(self) -> None:
        """Give the clock the steps done since it was last asked."""
        synchronize(self.device)
        steps, seconds = self.stretch
        self.stretch = steps + self.step - self.counted, seconds + self.clock.mark(self.step - self.counted)
        self.counted = self.step

    def _revise_plan(self, first_step: int) -> None:
        """Correct the number of steps by the speed measured so far, a few times a run."""
        if not self.plan.seconds or self.revised == len(REVISE_AT):
            return
        seconds = self.processes.share(self.clock.seconds)
        if self.step - first_step < 2 or seconds < REVISE_AT[self.revised] * self.plan.seconds:
            return
        while self.revised < len(REVISE_AT) and seconds >= REVISE_AT[self.revised] * self.plan.seconds:
            self.revised += 1
        beside = max(0.0, seconds - self.began - self.clock.in_steps)  # validations, checkpoints
        per_step = self.clock.usual_step() + beside / (self.step - first_step)
        left = self.plan.seconds - self.reserve - seconds
        total = max(self.step + 1, self.step + round(left / per_step))
        total = self.processes.share(min(total, self.plan.most_steps or total))
        if abs(total - self.plan.total_steps) > 0.01 * self.plan.total_steps:
            self.plan = self.plan.revised(self.step, total)

    # -- checkpoints ---------------------------------------------------------------------------------------------

    def _checkpoint(self, even_if_unfit: bool = False) -> None:
        """Write one, unless steps are being skipped just now: the one before is the good one then."""
        self._count_steps()
        if even_if_unfit or not self.watchdog.counts()[1]:
            state = self.state()
            self.recorder.file(
                "a checkpoint",
                lambda: write_checkpoint(self.run.checkpoints, self.step, state, self.config.keep_checkpoints),
            )
        self.clock.mark()

    def state(self) -> dict[str, Any]:
        """All that an exact resume needs."""
        return {
            "step": self.step,
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "average": self.average.state(),
            "watchdog": self.watchdog.state(),
            "scaler": self.scaler.state_dict(),
            "batches": self.batches.state(),
            "random": self.processes.gather(random_state(self.device)),
            "plan": dataclasses.asdict(self.plan),
            "best": [self.best, self.best_step, self.without_gain],
            "revised": self.revised,
            "seconds": self.clock.seconds,
            "reserve": self.reserve,
            "losses": [float(loss) for loss in self.losses],
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Continue from a checkpoint's state; metrics written after it are dropped, they will come again."""
        if "watchdog" not in state:
            raise TatarLLMError("this checkpoint is of an older tatar-llm and holds too little to go on exactly: start a new run")
        self.step = state["step"]
        try:
            self.model.load_state_dict(state["model"])
        except RuntimeError as error:
            raise TatarLLMError(
                f"the checkpoint of step {self.step} holds a network of another shape than the run's settings: "
                f"this run cannot be resumed ({str(error).splitlines()[-1].strip()})"
            ) from error
        self.optimizer.load_state_dict(state["optimizer"])
        self.average.restore(state["average"])
        self.watchdog.restore(state["watchdog"])
        self.skipped, _ = self.watchdog.counts()
        self.scaler.load_state_dict(state["scaler"])
        self.batches.restore(state["batches"])
        if len(state["random"]) == self.processes.world:
            restore_random_state(state["random"][self.processes.rank], self.device)
        self.best, self.best_step, self.without_gain = state["best"]
        self.revised, self.reserve = state["revised"], state["reserve"]
        self.losses = [torch.tensor(loss, device=self.device) for loss in state["losses"]]
        self.clock = Clock(state["seconds"])
        self.recorder.forget_after(self.step)
