"""From settings to a finished run: choose, plan, say what is expected, train, measure, hand over."""

from __future__ import annotations

import dataclasses
import math
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from tatar_llm.config import GPTConfig, Recipe, TrainConfig, as_dict
from tatar_llm.console import human_time, say
from tatar_llm.device import Execution, choose_execution, find_device
from tatar_llm.errors import TatarLLMError
from tatar_llm.model import GPT, load_model, save_model
from tatar_llm.tokenizer import TokenFile, load_tokenizer, read_tokens
from tatar_llm.training.batches import Batches
from tatar_llm.training.checkpoint import need_checkpoint
from tatar_llm.training.curve import draw_curve
from tatar_llm.training.planner import (
    LONG_HOURS,
    MOST_PASSES,
    Plan,
    autocast_dtype,
    choose_size,
    compile_pays,
    measure_flops,
    most_passes,
    split_micro_batch,
    timed_settings,
)
from tatar_llm.training.runs import Run, new_run, newest_unfinished
from tatar_llm.training.trainer import Interrupted, Trainer
from tatar_llm.training.validation import Score, held_out, score
from tatar_llm.workspace import Workspace, whole_file

OnValidation = Callable[[GPT, int, Score], None]
VALIDATIONS = 40  # at most, in one run
VALIDATION_SHARE = 0.02  # of the training time
CHECKPOINT_SECONDS = 120
FINAL_SHARE = 0.06  # of a timed run, at most, for measuring all held-out text at the end


@dataclass(frozen=True)
class Inputs:
    """What a run reads: token files, tokenizer, and where they came from."""

    train: TokenFile
    val: TokenFile
    tokenizer_config: dict[str, Any]
    manifest: dict[str, Any]
    corpus: dict[str, Any]


def train(
    recipe: Recipe,
    workspace: Workspace,
    *,
    minutes: float = 0.0,
    free_size: bool = False,
    on_validation: OnValidation | None = None,
) -> Run:
    """Train a new run.

    Args:
        recipe: network and trainer settings.
        minutes: time for this training; 0 does the recipe's max_iters.
        free_size: with `minutes`, choose size, batch and rate for the time given instead of the recipe's.
        on_validation: called with the model, the step and its score after each validation.

    Raises:
        TatarLLMError: missing or unfit inputs. Interrupted: stopped by the user, with a checkpoint.
    """
    started = time.perf_counter()
    inputs = _read_inputs(workspace)
    config = dataclasses.replace(recipe.model, vocab_size=inputs.tokenizer_config["vocab_size"])
    settings = recipe.train
    unique = inputs.manifest["train"]["tokens"]
    if config.block_size + 1 > unique:
        Batches(inputs.train, config.block_size, settings.seed)  # raises, before speed is measured with it
    execution = choose_execution(settings.device, settings.precision, settings.compile)
    for reason in execution.reasons[:2]:
        say(reason)
    flops = measure_flops(execution, config.vocab_size, config.block_size, 4.0 if minutes else 2.0)
    if minutes:
        if free_size:
            config, tokens = choose_size(flops, minutes * 60 * (1 - FINAL_SHARE), unique, config)
            settings = timed_settings(settings, config, tokens)
            recipe = dataclasses.replace(recipe, name="auto")
        else:
            tokens = int(min(minutes * 60 * flops / config.flops_per_token(), most_passes(unique) * unique))
            per_step = settings.batch_size * settings.gradient_accumulation_steps * config.block_size
            settings = dataclasses.replace(settings, max_iters=max(10, tokens // per_step))
    plan = _make_plan(settings, config, execution, flops, minutes, unique)
    _announce(config, settings, plan, inputs, flops)
    torch.manual_seed(settings.seed)
    run = new_run(workspace, settings.name or recipe.name, _settings_record(recipe, config, settings, plan, inputs))
    return _fit(run, workspace, config, settings, plan, inputs, on_validation, started)


def resume(workspace: Workspace, *, on_validation: OnValidation | None = None) -> Run:
    """Go on with the newest unfinished run from its last checkpoint, by the plan written there."""
    started = time.perf_counter()
    run = newest_unfinished(workspace)
    record = run.settings()
    state = need_checkpoint(run.checkpoints)
    inputs = _read_inputs(workspace)
    for name in ("train", "val"):
        if record[f"{name}_tokens_sha256"] != inputs.manifest[name]["sha256"]:
            raise TatarLLMError(
                f"the token files have changed since run {run.label} began: "
                "start a new run with `tatar-llm train`, or bring the old text and tokenizer back"
            )
    config = GPTConfig(**record["model"])
    settings = TrainConfig(**record["train"])
    plan = Plan.from_dict(state["plan"])
    plan = _fit_plan_to_machine(plan)
    say(f"resuming run {run.label} at step {state['step']:,} of {plan.total_steps:,}")
    return _fit(run, workspace, config, settings, plan, inputs, on_validation, started, state)


def _read_inputs(workspace: Workspace) -> Inputs:
    manifest = workspace.manifest(workspace.need(workspace.tokens_manifest, "tatar-llm tokenizer"))
    corpus = workspace.manifest(workspace.need(workspace.corpus_manifest, "tatar-llm prepare"))
    if manifest is None or corpus is None:
        raise TatarLLMError("the manifests below data/ are damaged: run `tatar-llm prepare` and `tatar-llm tokenizer`")
    _, config = load_tokenizer(workspace.need(workspace.tokenizer, "tatar-llm tokenizer"))
    if config["tokenizer_sha256"] != manifest["tokenizer_sha256"]:
        raise TatarLLMError("tokenizer and token files do not belong together: run `tatar-llm tokenizer` again")
    train_file, val_file = (read_tokens(workspace.tokens / f"{name}.bin") for name in ("train", "val"))
    if max(int(file.ids.max(initial=0)) for file in (train_file, val_file)) >= config["vocab_size"]:
        raise TatarLLMError("the token files hold ids outside the vocabulary: run `tatar-llm tokenizer` again")
    return Inputs(train_file, val_file, config, manifest, corpus)


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
        most_steps=math.ceil(most_passes(unique) * unique / per_step) if minutes else 0,
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


def _announce(config: GPTConfig, settings: TrainConfig, plan: Plan, inputs: Inputs, flops: float) -> None:
    tokens = settings.max_iters * plan.micro_batch * plan.accumulation * config.block_size
    seconds = tokens * config.flops_per_token() / flops
    passes = tokens / inputs.manifest["train"]["tokens"]
    say(
        f"network: {config.parameters() / 1e6:.1f} M parameters ({config.n_layer} layers, width {config.n_embd}, "
        f"context {config.block_size}, vocabulary {config.vocab_size})"
    )
    say(
        f"plan: {settings.max_iters:,} steps of {plan.micro_batch * plan.accumulation * config.block_size:,} tokens, "
        f"about {human_time(seconds)}, {passes:.1f} passes over {inputs.manifest['train']['tokens']:,} tokens"
    )
    if plan.seconds and seconds < 0.8 * plan.seconds:
        say(f"plan: more passes over so little text would only learn it by heart; more text would use the "
            f"{human_time(plan.seconds)} better (tatar-llm prepare --source ...)")  # fmt: skip
    if not plan.seconds and (seconds > LONG_HOURS * 3600 or passes > MOST_PASSES):
        say("plan: for something quicker, let it choose size and steps for the time you have: "
            "tatar-llm train --minutes 60")  # fmt: skip


def _settings_record(
    recipe: Recipe, config: GPTConfig, settings: TrainConfig, plan: Plan, inputs: Inputs
) -> dict[str, Any]:
    return {
        "recipe": recipe.name,
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
    state: dict[str, Any] | None = None,
) -> Run:
    device = torch.device(plan.device)
    model = GPT(config).to(device)
    bos = inputs.tokenizer_config["bos_token_id"]
    tokens = settings.max_iters * plan.micro_batch * plan.accumulation * config.block_size
    part = held_out(inputs.val, config, bos, validation_tokens(tokens))
    facts = {
        "tokenizer_sha256": inputs.manifest["tokenizer_sha256"],
        "language": inputs.corpus["language"],
        "corpus": inputs.corpus["corpus"],
        "fallback": inputs.corpus.get("fallback") or "",
    }
    batches = Batches(inputs.train, config.block_size, settings.seed)
    plan = _self_check(model, batches, plan)
    bytes_per_token = inputs.manifest["train"]["bytes"] / inputs.manifest["train"]["tokens"]
    trainer = Trainer(
        run, model, settings, plan, batches, part, bytes_per_token, facts, on_validation,
        seconds_used=time.perf_counter() - started,
    )  # fmt: skip
    trainer.reserve = min(FINAL_SHARE * plan.seconds, _scoring_seconds(model, inputs, plan))
    if state is not None:
        trainer.restore(state)
    try:
        reason = trainer.fit()
    except (Interrupted, TatarLLMError) as error:
        trainer.write_status("stopped", reason="interrupted" if isinstance(error, Interrupted) else "diverged")
        raise
    if reason == "patience":
        say(f"stopped early: the held-out loss has not fallen for {settings.patience} validations; "
            f"the best model is that of step {trainer.best_step:,}")  # fmt: skip
    _finish(run, workspace, trainer, inputs, bos, reason)
    return run


def _self_check(model: GPT, batches: Batches, plan: Plan) -> Plan:
    """One batch's loss on the device and as compiled against plain fp32 on the CPU: catches a device that lies."""
    state = batches.state()
    inputs, targets = batches.next(min(plan.micro_batch, 4))
    batches.restore(state)
    vocabulary = model.config.vocab_size
    if int(inputs.max()) >= vocabulary or int(targets.max()) >= vocabulary:
        raise TatarLLMError("a batch holds ids outside the vocabulary: run `tatar-llm tokenizer` again")
    model.eval()
    device, autocast = model.device, autocast_dtype(plan.precision)
    with torch.no_grad():
        with torch.autocast(device.type, dtype=autocast, enabled=autocast is not None):
            _, here = model(inputs.to(device), targets.to(device), return_logits=False)
        if device.type != "cpu" or autocast is not None:
            _, there = model.to("cpu")(inputs, targets, return_logits=False)
            model.to(device)
            if abs(float(here) - float(there)) > 0.02 * float(there):
                raise TatarLLMError(
                    f"self-check failed: {device.type} in {plan.precision} computes a loss of {float(here):.4f} where "
                    f"the CPU has {float(there):.4f}. Set TATAR_LLM_DEVICE=cpu or --precision fp32"
                )
            say(f"self-check: loss {float(here):.4f} on {device.type} in {plan.precision}, {float(there):.4f} in fp32")
    if plan.compile:
        try:
            with torch.autocast(device.type, dtype=autocast, enabled=autocast is not None):
                model.train()
                _, compiled = torch.compile(model)(inputs.to(device), targets.to(device), return_logits=False)
                compiled.backward()
            model.zero_grad(set_to_none=True)
        except Exception as error:  # whatever the compiler's reason, plain execution works
            say(f"torch.compile off: it failed here ({type(error).__name__}); going on without")
            model.zero_grad(set_to_none=True)
            plan = dataclasses.replace(plan, compile=False)
    return plan


def _scoring_seconds(model: GPT, inputs: Inputs, plan: Plan) -> float:
    """How long scoring all held-out text will take, from a few windows."""
    bos = inputs.tokenizer_config["bos_token_id"]
    piece = held_out(inputs.val, model.config, bos, 2048)
    score(model, piece, 8, autocast_dtype(plan.precision))
    begin = time.perf_counter()
    score(model, piece, 8, autocast_dtype(plan.precision))
    return (time.perf_counter() - begin) * inputs.manifest["val"]["tokens"] / max(1, piece.tokens)


def _finish(run: Run, workspace: Workspace, trainer: Trainer, inputs: Inputs, bos: int, reason: str) -> None:
    """Measure the best model on the held-out text, draw the curve, put copies where the brief expects them."""
    model, plan = trainer.model, trainer.plan
    wanted = inputs.manifest["val"]["tokens"]
    full_seconds = _scoring_seconds(model, inputs, plan)
    if plan.seconds and full_seconds > max(5.0, FINAL_SHARE * plan.seconds):
        wanted = int(wanted * FINAL_SHARE * plan.seconds / full_seconds)
    piece = held_out(inputs.val, model.config, bos, wanted if wanted < inputs.manifest["val"]["tokens"] else 0)
    autocast = autocast_dtype(plan.precision)
    final = score(model, piece, 8, autocast)
    trainer.save_final(final)
    best = final
    if trainer.best_step != trainer.step and run.best_model.is_file():
        best_model, _ = load_model(run.best_model, device=plan.device)
        best = score(best_model, piece, 8, autocast)
        model = best_model
    if final.bits_per_byte <= best.bits_per_byte:
        best, model = final, trainer.model
        trainer.best_step = trainer.step
    val = {"bits_per_byte": best.bits_per_byte, "nats_per_token": best.nats_per_token, "tokens": best.tokens}
    save_model(run.best_model, model, step=trainer.best_step, val=val, **trainer.facts)
    trainer.best = best.bits_per_byte
    draw_curve(run.curve, run.read_metrics(), inputs.manifest["baselines"], f"{run.label}: {inputs.corpus['corpus']}")
    for source, target in ((run.best_model, workspace.best_model), (run.final_model, workspace.final_model)):
        with whole_file(target) as temporary:
            shutil.copyfile(source, temporary)
    trainer.clock.mark()
    trainer.write_status(
        "finished", reason=reason, final_bits_per_byte=final.bits_per_byte, nats_per_token=best.nats_per_token,
        perplexity=best.perplexity, held_out_tokens=best.tokens, held_out_share=piece.share,
        seconds_to_first_step=round(trainer.seconds_to_first_step, 1),
        tokens=trainer.step * trainer.tokens_per_step, parameters=trainer.model.config.parameters(),
        revisions=len(plan.revisions),
        scoring_tokens_per_second=round(inputs.manifest["val"]["tokens"] / max(full_seconds, 1e-3)),
    )  # fmt: skip
    shutil.rmtree(run.checkpoints, ignore_errors=True)
    baselines = inputs.manifest["baselines"]
    part = "" if piece.share == 1 else f" (on {piece.share:.0%} of the held-out text; `tatar-llm evaluate` takes all)"
    say(
        f"run {run.label}: {best.bits_per_byte:.3f} bits per byte on held-out text{part}, "
        f"{best.nats_per_token:.3f} nats per token; bigram {baselines['bigram']:.3f}, unigram {baselines['unigram']:.3f}"
    )
