"""What each recipe takes on this machine: peak memory, tokens a second, time for 10 M tokens, seconds to the first step.

    python benchmarks/recipes.py [tiny small base large seed] [--steps 3]

Each recipe runs in a process of its own: a few optimizer steps with random tokens, as `tatar-llm train` would do them here
(precision, micro-batch, allocator). Beside the measured peak stands what planner.memory_needed counts, without the 300 MB
or so of Python and torch themselves. Run it with nothing else on the machine.
"""

from __future__ import annotations

import argparse
import multiprocessing
import statistics
import sys
import time


def measure(name: str, steps: int) -> tuple[float, float, float, float]:
    """Peak memory in MB, MB as counted, tokens a second, and MB of the program before the network is there."""
    import torch

    from tatar_llm.config import load_recipe
    from tatar_llm.device import choose_execution, keep_freed_memory, synchronize
    from tatar_llm.model import GPT
    from tatar_llm.training.optimizer import Optimizer
    from tatar_llm.training.planner import autocast_dtype, memory_needed, split_micro_batch

    keep_freed_memory()
    execution, recipe = choose_execution(), load_recipe(name)
    device = torch.device(execution.device)
    micro_batch, accumulation = split_micro_batch(recipe.train, recipe.model, execution.device)
    before = _peak(device)
    model = GPT(recipe.model).to(device).train()
    optimizer, autocast = Optimizer(model, recipe.train), autocast_dtype(execution.precision)
    ids = torch.randint(recipe.model.vocab_size, (micro_batch, recipe.model.block_size + 1)).to(device)
    inputs, targets = ids[:, :-1].contiguous(), ids[:, 1:].contiguous()
    pieces, took = min(accumulation, 4), []
    for _ in range(steps + 1):
        began = time.perf_counter()
        for _ in range(pieces):
            with torch.autocast(device.type, dtype=autocast, enabled=autocast is not None):
                _, loss = model(inputs, targets, return_logits=False)
            loss.backward()
        synchronize(device)
        forward = time.perf_counter() - began
        began = time.perf_counter()
        optimizer.step(torch.zeros((), dtype=torch.bool, device=device))
        optimizer.zero_grad()
        synchronize(device)
        took.append(forward / pieces * accumulation + time.perf_counter() - began)
    speed = micro_batch * accumulation * recipe.model.block_size / statistics.median(took[1:])
    needed = memory_needed(recipe.model, recipe.train, micro_batch, execution.precision)
    return _peak(device) / 1e6, needed / 1e6, speed, before / 1e6


def _peak(device) -> float:
    import torch

    if device.type == "cuda":
        return torch.cuda.max_memory_allocated()
    import resource  # Linux and macOS

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("recipes", nargs="*", default=["tiny", "small", "base", "seed", "large"])
    parser.add_argument("--steps", type=int, default=3)
    args = parser.parse_args()
    print("| recipe | peak memory | counted, without program | program | tokens/s | 10 M tokens |\n|---|---:|---:|---:|---:|---:|")
    for name in args.recipes:
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            peak, needed, speed, before = pool.apply(measure, (name, args.steps))
        print(f"| {name} | {peak:,.0f} MB | {needed:,.0f} MB | {before:,.0f} MB | {speed:,.0f} | {1e7 / speed / 3600:.1f} h |", flush=True)


if __name__ == "__main__":
    main()
