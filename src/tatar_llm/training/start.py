"""From settings to a finished run: choose, plan, say what is expected, train, measure, hand over."""

from __future__ import annotations

import dataclasses
import math
import re
import time
from collections.abc import Callable
from typing import Any

import torch

from tatar_llm.config import GPTConfig, Recipe, TrainConfig, as_dict
from tatar_llm.console import human_time, say
from tatar_llm.device import (
    Execution,
    attention_kernel,
    choose_execution,
    find_device,
    is_out_of_memory,
    keep_freed_memory,
)
from tatar_llm.errors import TatarLLMError
from tatar_llm.model import GPT
from tatar_llm.training.batches import Batches
from tatar_llm.training.checkpoint import need_checkpoint
from tatar_llm.training.distributed import Processes, process_group
from tatar_llm.training.handover import FINAL_SHARE, hand_over, scoring_seconds
from tatar_llm.training.inputs import Inputs, read_inputs
from tatar_llm.training.planner import (
    FIT_FROM,
    LONG_HOURS,
    MOST_PASSES,
    Plan,
    choose_size,
    compile_pays,
    expected_bits,
    measure_flops,
    measure_peak,
    most_passes,
    split_micro_batch,
    timed_settings,
    useful_tokens,
)
from tatar_llm.training.runs import Run, new_run, newest_unfinished
from tatar_llm.training.selfcheck import self_check
from tatar_llm.training.trainer import Trainer
from tatar_llm.training.validation import Score, held_out
from tatar_llm.workspace import Workspace

OnValidation = Callable[[GPT, int, Score], None]
VALIDATIONS = 40  # at most, in one run
VALIDATION_SHARE = 0.02  # of the training time
CHECKPOINT_SECONDS = 120
FEW_STEPS = 500  # of a network that the user chose: a smaller one learns more in the same time (docs/results.md, an hour of base)


def train(
    recipe: Recipe,
    workspace: Workspace,
    *,
    minutes: float = 0.0,
    free_size: bool = False,
    on_validation: OnValidation | None = None,
    started: float | None = None,
) -> Run:
    """Train a new run, in all processes that torchrun or `--nproc` has started.

    Args:
        recipe: network and trainer settings.
        minutes: time for this training; 0 does the recipe's max_iters.
        free_size: with `minutes`, choose size, batch and rate for the time given instead of the recipe's.
        on_validation: called with the model, the step and its score after each validation.
        started: time.perf_counter() when the command began, for the time until the first step; now, if not given.

    Raises:
        TatarLLMError: missing or unfit inputs. Interrupted: stopped by the user, with a checkpoint.
    """
    started = time.perf_counter() if started is None else started
    device = find_device(recipe.train.device)
    if device.type == "cpu":
        keep_freed_memory()
    with process_group(device.type) as processes:
        inputs = read_inputs(workspace)
        begun = _begin(recipe, workspace, inputs, minutes, free_size, processes.world) if processes.first else None
        run, config, settings, plan, peak = processes.share(begun)
        torch.manual_seed(settings.seed)
        _fit(run, workspace, config, settings, plan, inputs, on_validation, started, processes, peak)
    return run


def _begin(
    recipe: Recipe, workspace: Workspace, inputs: Inputs, minutes: float, free_size: bool, world: int
) -> tuple[Run, GPTConfig, TrainConfig, Plan, float]:
    """The run's folder, network, settings, plan and the machine's peak: everything that is decided before the first step."""
    config = dataclasses.replace(recipe.model, vocab_size=inputs.tokenizer_config["vocab_size"])
    settings, name = recipe.train, recipe.name
    unique = inputs.manifest["train"]["tokens"]
    if config.block_size + 1 > unique:
        Batches(inputs.train, config.block_size, settings.seed)  # raises, before speed is measured with it
    execution = choose_execution(settings.device, settings.precision, settings.compile)
    for reason in execution.reasons[:2]:
        say(reason)
    flops = measure_flops(execution, config.vocab_size, config.block_size, 4.0 if minutes else 2.0)
    flops *= world  # this process has measured its own GPU, or its own share of the CPU's threads
    if minutes:
        if free_size:
            config, tokens = choose_size(flops, minutes * 60 * (1 - FINAL_SHARE), unique, config)
            settings = timed_settings(settings, config, tokens)
            name = "auto"
        else:
            tokens = int(min(minutes * 60 * flops / config.flops_per_token(), most_passes(unique, config.parameters()) * unique))
            per_step = settings.batch_size * settings.gradient_accumulation_steps * config.block_size
            settings = dataclasses.replace(settings, max_iters=max(10, tokens // per_step))
    plan = _make_plan(settings, config, execution, flops, minutes, unique).among(world)
    _announce(config, settings, plan, inputs, flops, free_size)
    peak = measure_peak(execution)
    record = _settings_record(name, config, settings, plan, inputs) | {"peak_flops": peak}
    return new_run(workspace, settings.name or name, record), config, settings, plan, peak


def resume(
    workspace: Workspace, *, on_validation: OnValidation | None = None, started: float | None = None
) -> Run:
    """Go on with the newest unfinished run from its last checkpoint, by the plan written there."""
    started = time.perf_counter() if started is None else started
    run = newest_unfinished(workspace)
    record = run.settings()
    state = need_checkpoint(run.checkpoints)
    inputs = read_inputs(workspace)
    for name in ("train", "val"):
        if record[f"{name}_tokens_sha256"] != inputs.manifest[name]["sha256"]:
            raise TatarLLMError(
                f"the token files have changed since run {run.label} began: "
                "start a new run with `tatar-llm train`, or bring the old text and tokenizer back"
            )
    config = GPTConfig(**record["model"])
    settings = TrainConfig(**record["train"])
    plan = _fit_plan_to_machine(Plan.from_dict(state["plan"]))
    if plan.device == "cpu":
        keep_freed_memory()
    with process_group(plan.device) as processes:
        if processes.world != plan.world:
            say(f"this run began with {plan.world} processes; going on with {processes.world}: "
                "the same batches, not bit-equal to an uninterrupted run")  # fmt: skip
        plan = plan.among(processes.world)
        say(f"resuming run {run.label} at step {state['step']:,} of {plan.total_steps:,}")
        torch.manual_seed(settings.seed)
        peak = record.get("peak_flops", 0.0)
        _fit(run, workspace, config, settings, plan, inputs, on_validation, started, processes, peak, state)
    return run


def _make_plan(
    settings: TrainConfig, config: GPTConfig, execution: Execution, flops: float, minutes: float, unique: int
) -> Plan:
    micro_batch, accumulation = split_micro_batch(settings, config, execution.device)
    per_step = micro_batch * accumulation * config.block_size
    seconds_a_step = per_step * config.flops_per_token() / flops
    expected = settings.max_iters * seconds_a_step
    compiled = settings.compile == "on"
    if settings.compile == "auto":
        compiled, why = compile_pays(execution, expected)
        say(f"torch.compile {'on' if compiled else 'off'}: {why}")
    val_steps = validation_tokens(settings.max_iters * per_step) / 3 / per_step  # forward alone is a third of a step
    interval = max(1, math.ceil(val_steps / VALIDATION_SHARE), math.ceil(settings.max_iters / VALIDATIONS))
    return Plan(
        device=execution.device,
        precision=execution.precision,
        compile=compiled,
        threads=execution.threads,
        micro_batch=micro_batch,
        accumulation=accumulation,
        total_steps=settings.max_iters,
        eval_interval=settings.eval_interval or interval,
        checkpoint_interval=settings.checkpoint_interval or max(1, round(CHECKPOINT_SECONDS / seconds_a_step)),
        seconds=minutes * 60,
        most_steps=math.ceil(most_passes(unique, config.parameters()) * unique / per_step) if minutes else 0,
    )


def validation_tokens(training_tokens: int) -> int:
    """Size of the fixed validation part, so that about 15 validations take VALIDATION_SHARE of the time."""
    return min(262_144, max(4096, int(training_tokens * 3 * VALIDATION_SHARE / 15)))


def _fit_plan_to_machine(plan: Plan) -> Plan:
    try:
        same = find_device(plan.device).type == plan.device
    except TatarLLMError:  # that device is not here
        same = False
    if not same:
        here = choose_execution()
        say(f"this run began on {plan.device}; going on with {here.device}: not bit-equal to an uninterrupted run")
        return dataclasses.replace(
            plan, device=here.device, precision=here.precision, compile=plan.compile and here.compile
        )
    if plan.device == "cpu":
        torch.set_num_threads(plan.threads)
    return plan


def _announce(config: GPTConfig, settings: TrainConfig, plan: Plan, inputs: Inputs, flops: float, free_size: bool) -> None:
    say(f"attention: {_attention(config, plan)}")
    tokens = _planned_tokens(config, settings, plan)
    seconds = tokens * config.flops_per_token() / flops
    unique = inputs.manifest["train"]["tokens"]
    passes = tokens / unique
    say(
        f"network: {config.parameters() / 1e6:.1f} M parameters{_at_work(config)} ({config.n_layer} layers, width {config.n_embd}, "
        f"context {config.block_size}, vocabulary {config.vocab_size})"
    )
    say(
        f"plan: {settings.max_iters:,} steps of {plan.windows_per_step * config.block_size:,} tokens, "
        f"about {human_time(seconds)}, {passes:.1f} passes over {unique:,} tokens"
    )
    expected = _expectation(config, tokens, inputs)
    if expected and settings.optimizer == "muon":
        say(f"plan: about {expected:.2f} bits per byte are to be expected (bigram {inputs.manifest['baselines']['bigram']:.3f})")
    if plan.seconds and seconds < 0.8 * plan.seconds:
        say(f"plan: more passes over so little text would only learn it by heart; more text would use the "
            f"{human_time(plan.seconds)} better (tatar-llm prepare --source fineweb2, or your own files)")  # fmt: skip
    if plan.seconds and not free_size and settings.max_iters < FEW_STEPS:
        say("plan: so few steps teach such a network little; without a recipe or size, --minutes chooses one that learns more in this time")
    if not plan.seconds and (seconds > LONG_HOURS * 3600 or passes > MOST_PASSES):
        say("plan: for something quicker, let it choose size and steps for the time you have: "
            "tatar-llm train --minutes 60")  # fmt: skip


def _attention(config: GPTConfig, plan: Plan) -> str:
    """Which kernel computes it, and over how much."""
    kernel = f"{attention_kernel(torch.device(plan.device), plan.precision, config)} kernel of scaled_dot_product_attention"
    if not any(config.windows):
        return kernel
    kind = "flex_attention" if plan.device == "cuda" and plan.compile else f"chunks, {kernel}"
    return f"window of {config.sliding_window} tokens in {sum(map(bool, config.windows))} of {config.n_layer} layers ({kind})"


def _at_work(config: GPTConfig) -> str:
    return f", {config.active_parameters() / 1e6:.1f} M at work for a token, {config.n_expert} experts" if config.n_expert else ""


def _planned_tokens(config: GPTConfig, settings: TrainConfig, plan: Plan) -> int:
    return settings.max_iters * plan.windows_per_step * config.block_size


def _expectation(config: GPTConfig, tokens: float, inputs: Inputs) -> float:
    """Bits per byte that the planner expects; 0 where the fit has seen nothing like it."""
    bigram, unique = inputs.manifest["baselines"].get("bigram", 0.0), inputs.manifest["train"]["tokens"]
    if not bigram or config.n_expert or useful_tokens(tokens, unique) < FIT_FROM:
        return 0.0
    return expected_bits(config.parameters(), tokens, unique, bigram)


def _settings_record(
    name: str, config: GPTConfig, settings: TrainConfig, plan: Plan, inputs: Inputs
) -> dict[str, Any]:
    return {
        "recipe": name,
        "model": as_dict(config),
        "train": as_dict(settings),
        "plan": dataclasses.asdict(plan),
        "corpus": inputs.corpus["corpus"],
        "language": inputs.corpus["language"],
        "fallback": inputs.corpus.get("fallback"),
        "small": inputs.corpus.get("small", False),
        "tokenizer_sha256": inputs.manifest["tokenizer_sha256"],
        "train_tokens_sha256": inputs.manifest["train"]["sha256"],
        "val_tokens_sha256": inputs.manifest["val"]["sha256"],
        "val_text_sha256": inputs.manifest["val"]["text_sha256"],
        "train_tokens": inputs.manifest["train"]["tokens"],
        "baselines": inputs.manifest["baselines"],
        "parameters": config.parameters(),
        "expected_bits_per_byte": _expectation(config, _planned_tokens(config, settings, plan), inputs),
        "torch": torch.__version__,
    }


def _fit(
    run: Run,
    workspace: Workspace,
    config: GPTConfig,
    settings: TrainConfig,
    plan: Plan,
    inputs: Inputs,
    on_validation: OnValidation | None,
    started: float,
    processes: Processes,
    peak: float,
    state: dict[str, Any] | None = None,
) -> None:
    device = torch.device(plan.device)
    if device.type == "cpu":  # compiled code adds an embedding's gradients in any order otherwise
        torch.use_deterministic_algorithms(plan.compile, warn_only=True)
    model = GPT(config).to(device)
    if processes.rank:  # the same weights, other dropout
        torch.manual_seed(settings.seed + 7919 * processes.rank)
    bos = inputs.tokenizer_config["bos_token_id"]
    part = held_out(inputs.val, config, bos, validation_tokens(_planned_tokens(config, settings, plan)))
    facts = {
        "tokenizer_sha256": inputs.manifest["tokenizer_sha256"],
        "language": inputs.corpus["language"],
        "corpus": inputs.corpus["corpus"],
        "generated_bytes": inputs.corpus.get("generated_bytes", 0),
        "fallback": inputs.corpus.get("fallback") or "",
        "expected_bits_per_byte": run.settings().get("expected_bits_per_byte", 0.0),
    }
    batches = Batches(inputs.train, config.block_size, settings.seed)
    plan = self_check(model, batches, plan)
    bytes_per_token = inputs.manifest["train"]["bytes"] / inputs.manifest["train"]["tokens"]
    reserve = min(FINAL_SHARE * plan.seconds, scoring_seconds(model, inputs, plan))
    trainer = Trainer(
        run, model, settings, plan, batches, part, bytes_per_token, facts, on_validation,
        started=started, processes=processes, peak_flops=peak,
    )  # fmt: skip
    trainer.reserve = reserve
    if state is not None:
        trainer.restore(state)
    try:
        with trainer.telling_of_failure():
            reason = trainer.fit()
    except RuntimeError as error:
        if processes.world == 1 or is_out_of_memory(error):
            raise
        trainer.write_status("stopped", reason="failed")
        reason = re.sub(r"^\[.*?\] *", "", str(error).splitlines()[0]).split(". ")[0]  # without file and line of gloo
        raise TatarLLMError(
            f"another process of this training is gone ({reason}): see what it said, then go on from the last checkpoint "
            "with `tatar-llm train --resume`, with as many processes or fewer"
        ) from error
    if reason == "patience":
        say(f"stopped early: the held-out loss has not fallen for {settings.patience} validations; "
            f"the best model is that of step {trainer.best_step:,}")  # fmt: skip
    if processes.first:
        hand_over(run, workspace, trainer, inputs, bos, reason)
    processes.wait()
