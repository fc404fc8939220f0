"""What several verbs share."""

from __future__ import annotations

import argparse
import json
import sys
from typing import TYPE_CHECKING, Any

from tatar_llm.cli import given
from tatar_llm.config import CorpusConfig, GPTConfig, Recipe, TokenizerConfig, TrainConfig, from_values, load_recipe
from tatar_llm.console import say
from tatar_llm.workspace import Workspace

if TYPE_CHECKING:
    from tatar_llm.training import ModelPlace


def writable_workspace(args: argparse.Namespace) -> Workspace:
    """The workspace, once it is known that it can be written."""
    workspace = Workspace(args.workspace)
    workspace.ensure_writable()
    return workspace


def corpus_config(args: argparse.Namespace) -> CorpusConfig:
    """What the user set of the corpus's settings."""
    return from_values(CorpusConfig, given(args, CorpusConfig), "command line")


def chosen_recipe(args: argparse.Namespace) -> Recipe:
    """The recipe, with what the user set on the command line."""
    overrides: dict[str, Any] = {}
    for kind in (TokenizerConfig, GPTConfig, TrainConfig):
        overrides |= given(args, kind)
    return load_recipe(args.recipe or args.default_recipe, overrides)


def size_is_free(args: argparse.Namespace) -> bool:
    """Whether the planner may choose the network: the user named neither a recipe nor a part of the network."""
    fixed = given(args, GPTConfig).keys() - {"vocab_size", "block_size"}
    fixed |= given(args, TrainConfig).keys() & {
        "batch_size", "gradient_accumulation_steps", "max_iters", "learning_rate", "schedule",
        "optimizer", "muon_rate", "min_lr", "warmup_iters", "beta2",
    }  # fmt: skip
    return args.recipe is None and not fixed


def workspace_flag(workspace: Workspace) -> str:
    """What a command to copy needs to find this workspace."""
    return "" if str(workspace.root) == "." else f' --workspace "{workspace.root}"'


def introduce(place: ModelPlace) -> None:
    """Say which model speaks, and on what it was trained."""
    from tatar_llm.model import load_model_file

    facts = load_model_file(place.model)
    bits = facts.get("val", {}).get("bits_per_byte")
    measured = f", {bits:.3f} bits per byte" if bits else ""
    say(f"model {place.name}, trained on {facts.get('corpus') or 'unknown text'}{measured}")
    if facts.get("fallback"):
        say(f"note: {facts['fallback']}")


def emit(args: argparse.Namespace, result: dict[str, Any]) -> None:
    """With --json, the result as the one thing on standard output."""
    if getattr(args, "json", False):
        json.dump(result, sys.stdout, ensure_ascii=False, indent=1)
        sys.stdout.write("\n")
