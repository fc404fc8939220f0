"""Verbs that train, and the table of their runs: run, train, finetune, runs."""

from __future__ import annotations

import argparse
import dataclasses
import time
from typing import TYPE_CHECKING

from tatar_llm.cli import given
from tatar_llm.commands.shared import (
    chosen_recipe,
    corpus_config,
    emit,
    size_is_free,
    workspace_flag,
    writable_workspace,
)
from tatar_llm.config import ChatConfig, GPTConfig, TrainConfig, from_values
from tatar_llm.console import first_process, human_time, say
from tatar_llm.errors import UsageError
from tatar_llm.workspace import Workspace

if TYPE_CHECKING:
    from tatar_llm.model import GPT
    from tatar_llm.training.validation import Score


def run(args: argparse.Namespace) -> int:
    """All stages within the minutes given."""
    from tatar_llm.pipeline import run_pipeline

    workspace = writable_workspace(args)
    result = run_pipeline(
        workspace,
        minutes=args.minutes,
        corpus=corpus_config(args),
        fallback=not args.source,
        recipe=chosen_recipe(args),
        free_size=size_is_free(args),
        on_validation=SampleWhileTraining(workspace),
    )
    emit(args, result)
    return 0


def train(args: argparse.Namespace) -> int:
    """Train a new run, or go on with the last."""
    from tatar_llm.training.distributed import launch, under_torchrun
    from tatar_llm.training.start import resume
    from tatar_llm.training.start import train as start_training
    from tatar_llm.training.stop import Interrupted

    workspace = writable_workspace(args)
    if args.nproc > 1 and not under_torchrun():
        return launch(args.nproc, args.arguments, args.default_recipe)
    sampler = SampleWhileTraining(workspace)
    try:
        if args.resume:
            _refuse_changes(args)
            finished = resume(workspace, on_validation=sampler, started=args.started)
        else:
            recipe = chosen_recipe(args)  # first: a mistyped flag must not wait for the encoding
            if args.vocab_size:
                say("the vocabulary comes from the tokenizer: --vocab_size belongs to `tatar-llm tokenizer`")
            if first_process():
                encode_if_stale(workspace)
            finished = start_training(
                recipe, workspace, minutes=args.minutes, free_size=size_is_free(args),
                on_validation=sampler, started=args.started,
            )  # fmt: skip
    except Interrupted as stop:
        say(f"stopped, the checkpoint is written. Go on with: {resume_command(workspace)}")
        return stop.exit_code
    if not first_process():
        return 0
    say(f"model: {finished.best_model}\ncurve: {finished.curve}")
    emit(args, {"run": finished.label, "settings": finished.settings(), **finished.status()})
    return 0


def finetune(args: argparse.Namespace) -> int:
    """Teach a model to answer."""
    from tatar_llm.chat import tune
    from tatar_llm.training import find_model
    from tatar_llm.training.stop import Interrupted

    workspace = writable_workspace(args)
    changes = given(args, TrainConfig)
    if args.resume and (named := [*changes, *given(args, ChatConfig), *(name for name in ("minutes", "model") if getattr(args, name))]):
        raise UsageError(f"--resume keeps the run's settings: leave out --{named[0]}, or start a new run without --resume")
    settings = dataclasses.replace(tune.TRAIN, **changes)
    try:
        if args.resume:
            done = tune.resume(workspace, started=args.started)
        else:
            minutes = args.minutes if args.minutes is not None else (0.0 if "max_iters" in changes else tune.MINUTES)
            config = from_values(ChatConfig, given(args, ChatConfig), "command line")
            done = tune.finetune(workspace, find_model(workspace, args.model), config, settings, minutes=minutes, started=args.started)
    except Interrupted as stop:
        say(f"stopped, the checkpoint is written. Go on with: tatar-llm finetune --resume{workspace_flag(workspace)}")
        return stop.exit_code
    say(f"talk to it: tatar-llm chat{workspace_flag(workspace)}")
    emit(args, {"run": done.label, "settings": done.settings(), **done.status()})
    return 0


def runs(args: argparse.Namespace) -> int:
    """A table of all runs."""
    from tatar_llm.training import find_model, list_runs

    workspace = Workspace(args.workspace)
    rows = []
    for item in list_runs(workspace):
        settings, status = item.settings(), item.status()
        rows.append(
            {
                "run": item.label,
                "state": status.get("state"),
                "parameters": settings.get("parameters"),
                "corpus": f"answers, taught to {settings.get('base')}" if item.is_chat() else settings.get("corpus"),
                "steps": status.get("step"),
                "seconds": status.get("seconds", 0),
                "bits_per_byte": item.bits_per_byte(),
                "bigram": settings.get("baselines", {}).get("bigram"),
            }
        )
    if args.json:
        emit(args, {"runs": rows})
        return 0
    if not rows:
        say("no runs yet: start one with `tatar-llm train`")
        return 0
    print(f"{'run':24} {'state':9} {'size':>8} {'time':>10} {'steps':>8} {'bits/byte':>9}  {'bigram':>6}  corpus")
    for row in rows:
        bits = f"{row['bits_per_byte']:.3f}" if row["bits_per_byte"] else "-"
        bigram = f"{row['bigram']:.3f}" if row["bigram"] else "-"
        print(
            f"{row['run']:24} {row['state']:9} {row['parameters'] / 1e6:6.1f} M {human_time(row['seconds']):>10} "
            f"{row['steps']:8,} {bits:>9}  {bigram:>6}  {row['corpus']}"
        )
    if any(row["bits_per_byte"] for row in rows):
        say(f"without --model, {find_model(workspace).name} speaks")
    return 0


class SampleWhileTraining:
    """Beside a validation: a line of generated text, at most one every 30 seconds; grammar, one every 10 minutes."""

    SAMPLE_SECONDS, GRAMMAR_SECONDS = 30, 600

    def __init__(self, workspace: Workspace) -> None:
        self.workspace = workspace
        self.last = 0.0
        self.last_grammar = time.monotonic()

    def __call__(self, model: GPT, step: int, score: Score) -> None:
        from tatar_llm.generation import Settings, stream
        from tatar_llm.languages import find_language
        from tatar_llm.tokenizer import load_tokenizer

        if time.monotonic() - self.last < self.SAMPLE_SECONDS:
            return
        manifest = self.workspace.manifest(self.workspace.corpus_manifest) or {}
        prompt = find_language(manifest.get("language", "tat"), self.workspace.processed).prompts[0]
        vocabulary, config = load_tokenizer(self.workspace.tokenizer)
        text = "".join(stream(model, vocabulary, config, prompt, Settings(max_new_tokens=24, seed=0)))
        say(f"step {step:,}, held-out {score.bits_per_byte:.3f} bits/byte: {prompt}{' '.join(text.split())}")
        self.last = time.monotonic()
        if manifest.get("language") == "tat" and self.last - self.last_grammar >= self.GRAMMAR_SECONDS:
            from tatar_llm.evaluation.pairs import minimal_pairs, read_pairs

            found = minimal_pairs(model, vocabulary, config, read_pairs()[::10])
            say(f"step {step:,}, right form preferred in {found.value:.0%} of {found.n} minimal pairs (50% by chance)")
            self.last_grammar = time.monotonic()


def encode_if_stale(workspace: Workspace) -> None:
    """Token files follow the tokenizer and the text: written anew where one of them has changed."""
    from tatar_llm.tokenizer import encode_corpus

    workspace.need(workspace.train_text, "tatar-llm prepare")
    workspace.need(workspace.tokenizer / "tokenizer.json", "tatar-llm tokenizer")
    encode_corpus(workspace)


def resume_command(workspace: Workspace) -> str:
    """What to type to go on with the last run."""
    return f"tatar-llm train --resume{workspace_flag(workspace)}"


def _refuse_changes(args: argparse.Namespace) -> None:
    """A resumed run keeps its settings: a flag that asks for others is a mistake, not to be passed over."""
    changed = [*given(args, GPTConfig), *given(args, TrainConfig)]
    changed += [name for name in ("recipe", "minutes") if getattr(args, name)]
    if changed:
        raise UsageError(f"--resume keeps the run's settings: leave out --{changed[0]}, or start a new run without --resume")
