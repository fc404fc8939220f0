"""`tatar-llm doctor`: what this machine can do, what would be chosen, and a report to send when something is wrong."""

from __future__ import annotations

import os
import platform
import re
import traceback
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from tatar_llm import __version__
from tatar_llm.config import GPTConfig, load_recipe, recipe_names
from tatar_llm.device import choose_execution, describe_device, find_device, native_precision
from tatar_llm.model import GPT
from tatar_llm.training.planner import autocast_dtype, measure_flops, measure_peak, memory_needed, split_micro_batch
from tatar_llm.workspace import write_text

PACKAGES = ("numpy", "tokenizers", "safetensors", "transformers", "triton", "tensorboard", "matplotlib", "rich")
VARIABLES = ("TATAR_LLM_", "OMP_", "MKL_", "GOMP_", "KMP_", "CUDA_", "PYTORCH_", "TORCH", "NCCL_", "GLOO_", "CC", "CXX")
CHECKED = GPTConfig(n_layer=2, n_head=4, n_embd=64, block_size=64, vocab_size=512)


def examine() -> dict[str, Any]:
    """Versions, what would be chosen and why, measured speed, and what each recipe would take here."""
    execution = choose_execution()
    flops, peak = measure_flops(execution, 8192, 256), measure_peak(execution)
    recipes = []
    for name in recipe_names():
        recipe = load_recipe(name)
        rate = flops / recipe.model.flops_per_token()
        micro_batch, _ = split_micro_batch(recipe.train, recipe.model, execution.device)
        recipes.append({
            "recipe": name,
            "parameters": recipe.model.parameters(),
            "tokens_per_second": round(rate),
            "hours_for_10M_tokens": round(1e7 / rate / 3600, 2),
            "memory_bytes": round(memory_needed(recipe.model, recipe.train, micro_batch, execution.precision)),
        })  # fmt: skip
    return {
        "tatar_llm": __version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "platform": platform.platform(),
        "device": execution.device,
        "precision": execution.precision,
        "compile": execution.compile,
        "threads": execution.threads,
        "reasons": list(execution.reasons),
        "gflops": round(flops / 1e9, 1),
        "peak_gflops": round(peak / 1e9, 1),
        "share_of_peak": round(flops / peak, 3),
        "recipes": recipes,
    }


def write_bug_report(path: Path, facts: dict[str, Any]) -> None:
    """One Markdown file with all that a maintainer needs about a machine that he does not have.

    It holds versions, settings and numbers; the user's home folder is written as ~ and no text of his is in it.
    """
    lines = ["# tatar-llm: report on this machine", "", f"tatar-llm {__version__}, Python {platform.python_version()}, "
             f"{platform.platform()}, {platform.processor() or platform.machine()}, {os.cpu_count()} logical cores", ""]  # fmt: skip
    lines += ["## Chosen", "", *(f"- {reason}" for reason in facts["reasons"])]
    lines += [f"- {facts['gflops']} GFLOP/s in training steps, {facts['peak_gflops']} in matrix products alone", ""]
    lines += ["## Every device against the CPU in fp32", "", "| device | precision | loss | gradient norm | verdict |", "|---|---|---|---|---|"]
    lines += [f"| {' | '.join(row)} |" for row in check_devices()]
    lines += ["", "## Packages", "", ", ".join(_versions()), "", "## Environment", ""]
    lines += [f"- {name}={value}" for name, value in sorted(os.environ.items()) if name.startswith(VARIABLES)] or ["- nothing set"]
    lines += ["", "## torch", "", "```", torch.__config__.show().strip(), torch.__config__.parallel_info().strip(), "```", ""]
    home = re.compile(rf"(?<![\w.-]){re.escape(str(Path.home()))}(?![\w.-])")
    write_text(path, home.sub("~", "\n".join(lines)))


def check_devices() -> Iterator[tuple[str, str, str, str, str]]:
    """One training step's loss and gradient norm on each device that is here, in each precision it may be given.

    Yields (device, precision, loss, gradient norm, verdict) in words; a failure is a row with its reason.
    """
    right = _step(torch.device("cpu"), "fp32")
    for kind, there in (("cpu", True), ("cuda", torch.cuda.is_available()), ("mps", torch.backends.mps.is_available())):
        if not there:
            continue
        device = find_device(kind) if not os.environ.get("TATAR_LLM_DEVICE") else torch.device(kind)
        for precision in dict.fromkeys(("fp32", native_precision(device)[0])):
            name = f"{kind}: {describe_device(device)}"
            try:
                loss, norm = _step(device, precision)
            except Exception:  # whatever happens on a machine nobody here has is what the report is for
                yield name, precision, "", "", "failed: " + traceback.format_exc(limit=3).strip().replace("\n", " / ").replace("|", "/")
                continue
            far = max(abs(loss / right[0] - 1), abs(norm / right[1] - 1))
            bound = 0.001 if precision == "fp32" else 0.03
            yield name, precision, f"{loss:.5f}", f"{norm:.5f}", "as on the CPU" if far < bound else f"WRONG: {far:.1%} off"


def _step(device: torch.device, precision: str) -> tuple[float, float]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = GPT(CHECKED).train()
        ids = torch.randint(CHECKED.vocab_size, (8, CHECKED.block_size + 1))
    model.to(device)
    inputs, targets = ids[:, :-1].contiguous().to(device), ids[:, 1:].contiguous().to(device)
    autocast = autocast_dtype(precision)
    with torch.autocast(device.type, dtype=autocast, enabled=autocast is not None):
        _, loss = model(inputs, targets, return_logits=False)
    loss.backward()
    norm = torch.nn.utils.clip_grad_norm_(model.parameters(), float("inf"))
    return float(loss.detach()), float(norm)


def _versions() -> Iterator[str]:
    yield f"torch {torch.__version__}"  # with its build (+cpu, +cu130), which the installed package's name may lack
    for name in PACKAGES:
        try:
            yield f"{name} {metadata.version(name)}"
        except metadata.PackageNotFoundError:
            yield f"{name} not installed"
