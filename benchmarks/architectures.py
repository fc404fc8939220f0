"""What a window, experts or gradient checkpointing cost and save: seconds a step, peak memory, memory of the cache.

    python benchmarks/architectures.py [--recipe tiny] [--context 2048] [--window 256] [--rounds 5]

Every network lives in a process of its own, so that its peak memory is its own, and takes one training step at a time while the
others wait; rounds go round all networks, so that a busy machine hits all alike. A step is 4,096 tokens, AdamW. Peak memory is the
process's (Linux and macOS) above what it held before the first step. Run it with nothing else on the machine.
"""

from __future__ import annotations

import argparse
import dataclasses
import multiprocessing
import statistics
import sys
import time
from multiprocessing.connection import Connection
from typing import Any

STEP_TOKENS = 4096


def networks(recipe: str, context: int, window: int) -> dict[str, tuple[dict[str, Any], bool]]:
    """Name -> (what differs from the recipe's network, gradient checkpointing)."""
    short = {"block_size": 256}
    long = {"block_size": context}
    return {
        "context 256": (short, False),
        "context 256, gradient checkpointing": (short, True),
        "context 256, experts 4, 2 at work": (short | {"n_expert": 4}, False),
        "context 256, experts 8, 2 at work": (short | {"n_expert": 8}, False),
        f"context {context}": (long, False),
        f"context {context}, window {window}, SSF": (long | {"sliding_window": window}, False),
        f"context {context}, window {window}, every layer": (long | {"sliding_window": window, "window_pattern": "S"}, False),
        f"context {context}, gradient checkpointing": (long, True),
    }


def peak_bytes() -> int:
    """The most memory that this process has held; 0 where the system does not tell."""
    try:
        import resource
    except ImportError:
        return 0
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def worker(pipe: Connection, recipe_name: str, changes: dict[str, Any], checkpointing: bool) -> None:
    """Build a network, then take one step whenever asked."""
    import torch

    from tatar_llm.config import load_recipe
    from tatar_llm.device import find_device, synchronize
    from tatar_llm.model import GPT, KVCache

    config = dataclasses.replace(load_recipe(recipe_name).model, dropout=0.0, **changes)
    device = find_device()
    model = GPT(config).to(device).train()
    model.gradient_checkpointing, model.balance_loss = checkpointing, 0.01
    optimizer = model.configure_optimizers(0.1, 1e-4, (0.9, 0.95), device.type)
    ids = torch.randint(config.vocab_size, (STEP_TOKENS // config.block_size, config.block_size + 1)).to(device)
    before = peak_bytes()

    def step() -> float:
        synchronize(device)
        began = time.perf_counter()
        model(ids[:, :-1].contiguous(), ids[:, 1:].contiguous(), return_logits=False)[1].backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        synchronize(device)
        return time.perf_counter() - began

    step(), step()
    cache = KVCache(config, 1, config.block_size, device, torch.float32).bytes
    peak = torch.cuda.max_memory_allocated() if device.type == "cuda" else peak_bytes() - before
    pipe.send({"parameters": config.parameters(), "active": config.active_parameters(), "peak": peak, "cache": cache})
    while pipe.recv() == "step":
        pipe.send(step())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--recipe", default="tiny")
    parser.add_argument("--context", type=int, default=2048)
    parser.add_argument("--window", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    spawn, pipes, facts = multiprocessing.get_context("spawn"), {}, {}
    for name, (changes, checkpointing) in networks(args.recipe, args.context, args.window).items():
        pipes[name], there = spawn.Pipe()
        spawn.Process(target=worker, args=(there, args.recipe, changes, checkpointing), daemon=True).start()
        facts[name] = pipes[name].recv()
    times: dict[str, list[float]] = {name: [] for name in pipes}
    for _ in range(args.rounds):
        for name, pipe in pipes.items():
            pipe.send("step")
            times[name].append(pipe.recv())
    for pipe in pipes.values():
        pipe.send("stop")
    medians = {name: statistics.median(rows) for name, rows in times.items()}
    first = next(iter(medians.values()))
    print("| network | parameters (at work) | step, s | against the first | peak memory | cache of one text |\n|---|---:|---:|---:|---:|---:|")
    for name, fact in facts.items():
        at_work = f" ({fact['active'] / 1e6:.2f} M)" if fact["active"] != fact["parameters"] else ""
        print(f"| {name} | {fact['parameters'] / 1e6:.2f} M{at_work} | {medians[name]:.2f} ({min(times[name]):.2f} to {max(times[name]):.2f}) | "
              f"{medians[name] / first:.2f} | {fact['peak'] / 2**20:.0f} MiB | {fact['cache'] / 2**20:.2f} MiB |")  # fmt: skip


if __name__ == "__main__":
    main()
