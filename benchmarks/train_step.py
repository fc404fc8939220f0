"""One whole training step (forward, backward, clipping, optimizer) against transformers' Qwen3 of the same shape.

    python benchmarks/train_step.py [--recipe base] [--tokens 8192] [--rounds 5] [--compile] [--bf16]

Every system lives in a process of its own, so that one's allocator does not help another, and is asked for one step at a
time while the others wait; rounds go round all systems, so that a noisy machine hits all alike. transformers takes the
micro-batch that is fastest for it. The floor is nothing but the step's matrix products of the linear layers (forward,
input gradient, weight gradient) into memory that is already there. bf16 is tried where the device computes it natively,
or with --bf16. Run it with nothing else on the machine.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import multiprocessing
import platform
import statistics
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

SYSTEMS = {
    "transformers Qwen3, eager fp32, AdamW": ("theirs", "fp32", False, "adamw"),
    "transformers Qwen3, bf16 autocast, AdamW": ("theirs", "bf16", False, "adamw"),
    "transformers Qwen3, compiled fp32, AdamW": ("theirs", "fp32", True, "adamw"),
    "transformers Qwen3, compiled bf16, AdamW": ("theirs", "bf16", True, "adamw"),
    "tatar-llm, AdamW": ("ours", "native", False, "adamw"),
    "tatar-llm, Muon": ("ours", "native", False, "muon"),
    "tatar-llm, compiled, Muon": ("ours", "native", True, "muon"),
    "floor: matrix products alone": ("floor", "native", False, ""),
}


def worker(pipe: Connection, system: tuple[str, str, bool, str], recipe_name: str, tokens: int) -> None:
    """Build a system, then time one step whenever asked."""
    import torch

    from tatar_llm.config import load_recipe
    from tatar_llm.device import choose_execution, synchronize

    kind, precision, compiled, optimizer = system
    execution, recipe = choose_execution(), load_recipe(recipe_name)
    device = torch.device(execution.device)
    recipe = dataclasses.replace(recipe, train=dataclasses.replace(recipe.train, optimizer=optimizer or "adamw"))
    precision = execution.precision if precision == "native" else precision
    torch.manual_seed(0)
    step = {"ours": our_step, "theirs": their_step, "floor": floor_step}[kind](recipe, device, precision, compiled, tokens)
    step(), step()
    pipe.send("ready")
    while pipe.recv() == "step":
        synchronize(device)
        began = time.perf_counter()
        step()
        synchronize(device)
        pipe.send(time.perf_counter() - began)


def autocast(device: Any, precision: str) -> contextlib.AbstractContextManager:
    import torch

    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision == "bf16")


def our_step(recipe: Any, device: Any, precision: str, compiled: bool, tokens: int) -> Callable[[], None]:
    """As `tatar-llm train` does it here: micro-batch, allocator, optimizer."""
    import torch

    from tatar_llm import model as networks
    from tatar_llm.device import keep_freed_memory
    from tatar_llm.training.optimizer import Optimizer
    from tatar_llm.training.planner import split_micro_batch

    if device.type == "cpu":
        keep_freed_memory()
    windows = tokens // recipe.model.block_size
    train = dataclasses.replace(recipe.train, batch_size=windows, gradient_accumulation_steps=1)
    piece, pieces = split_micro_batch(train, recipe.model, device.type)
    model = networks.GPT(recipe.model).to(device).train()
    network, optimizer = networks.compiled(model) if compiled else model, Optimizer(model, train)
    ids = torch.randint(recipe.model.vocab_size, (windows, recipe.model.block_size + 1)).to(device)
    go_on = torch.zeros((), dtype=torch.bool, device=device)

    def step() -> None:
        for part in ids.split(piece):
            with autocast(device, precision):
                _, loss = network(part[:, :-1].contiguous(), part[:, 1:].contiguous(), return_logits=False)
            (loss / pieces).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step(go_on)
        optimizer.zero_grad()

    return step


def their_step(recipe: Any, device: Any, precision: str, compiled: bool, tokens: int) -> Callable[[], None]:
    """transformers' network and loss, torch's fused AdamW, with the micro-batch that is fastest for it."""
    import torch
    import transformers

    from tatar_llm.export.hf import hf_config

    special = {"bos_token_id": 2, "eos_token_id": 3, "pad_token_id": 0}
    model = transformers.Qwen3ForCausalLM(transformers.Qwen3Config(**hf_config(recipe.model, special))).to(device).train()
    network = torch.compile(model) if compiled else model
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)
    ids = torch.randint(recipe.model.vocab_size, (tokens // recipe.model.block_size, recipe.model.block_size)).to(device)

    def step(piece: int = 8) -> None:
        parts = ids.split(piece)
        for part in parts:
            with autocast(device, precision):
                loss = network(input_ids=part, labels=part).loss
            (loss / len(parts)).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    if compiled or device.type != "cpu":  # compiled anew for each shape, and a GPU takes all at once
        return lambda: step(8 if device.type == "cpu" else len(ids))
    speeds: dict[int, float] = {}
    for piece in (4, 8, 16):
        if piece <= len(ids):
            step(piece)
            began = time.perf_counter()
            step(piece)
            speeds[piece] = time.perf_counter() - began
    best = min(speeds, key=speeds.__getitem__)
    return lambda: step(best)


def floor_step(recipe: Any, device: Any, precision: str, compiled: bool, tokens: int) -> Callable[[], None]:
    """Three matrix products for each linear layer, outputs allocated beforehand."""
    import torch

    from tatar_llm.model import GPT
    from tatar_llm.training.planner import split_micro_batch

    train = dataclasses.replace(recipe.train, batch_size=tokens // recipe.model.block_size, gradient_accumulation_steps=1)
    piece, pieces = split_micro_batch(train, recipe.model, device.type)
    rows, dtype = piece * recipe.model.block_size, torch.bfloat16 if precision == "bf16" else torch.float32
    layers = [module for module in GPT(recipe.model).modules() if isinstance(module, torch.nn.Linear)]
    jobs = []
    for layer in layers:
        x, y = (torch.randn(rows, width, device=device, dtype=dtype) for width in (layer.in_features, layer.out_features))
        weight = torch.randn(layer.out_features, layer.in_features, device=device, dtype=dtype)
        jobs.append((x, y, weight, torch.empty_like(x), torch.empty_like(y), torch.empty_like(weight)))

    def step() -> None:
        for _ in range(pieces):
            for x, y, weight, x_out, y_out, weight_out in jobs:
                torch.mm(x, weight.t(), out=y_out)
                torch.mm(y, weight, out=x_out)
                torch.mm(y.t(), x, out=weight_out)

    return step


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--recipe", default="base")
    parser.add_argument("--tokens", type=int, default=8192)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--compile", action="store_true", help="compiled systems too; a minute or two each to compile")
    parser.add_argument("--bf16", action="store_true", help="bf16 where it is not native too")
    args = parser.parse_args()
    import torch
    import transformers

    from tatar_llm.device import choose_execution

    execution = choose_execution()
    bf16 = args.bf16 or execution.precision == "bf16"
    systems = {
        name: system for name, system in SYSTEMS.items() if (args.compile or not system[2]) and (bf16 or system[1] != "bf16")
    }
    context, workers = multiprocessing.get_context("spawn"), {}
    for name, system in systems.items():
        here, there = context.Pipe()
        process = context.Process(target=worker, args=(there, system, args.recipe, args.tokens), daemon=True)
        process.start()
        assert here.recv() == "ready"
        workers[name] = (here, process)
    seconds: dict[str, list[float]] = {name: [] for name in systems}
    for _ in range(args.rounds):
        for name, (pipe, _process) in workers.items():
            pipe.send("step")
            seconds[name].append(pipe.recv())
    for pipe, process in workers.values():
        pipe.send("end")
        process.join()
    usual = {name: statistics.median(values) for name, values in seconds.items()}
    first, floor = next(iter(usual.values())), usual["floor: matrix products alone"]
    print(f"{args.recipe}, {args.tokens} tokens a step, {args.rounds} rounds; {'; '.join(execution.reasons[:2])}; "
          f"{platform.processor() or platform.machine()}; torch {torch.__version__}, transformers {transformers.__version__}\n")  # fmt: skip
    print("| system | seconds a step (fastest to slowest) | tokens/s | times the first | share of the floor |\n|---|---|---:|---:|---:|")
    for name, value in usual.items():
        spread = f"{min(seconds[name]):.2f} to {max(seconds[name]):.2f}"
        print(f"| {name} | {value:.2f} ({spread}) | {args.tokens / value:,.0f} | {first / value:.2f} | {floor / value:.0%} |")


if __name__ == "__main__":
    main()
