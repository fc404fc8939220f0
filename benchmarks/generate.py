"""Tokens a second one by one and in batches of 8: tatar-llm, transformers.generate and llama.cpp on the same weights.

    python benchmarks/generate.py [--workspace DIR] [--model NNN] [--tokens 64] [--rounds 5] [--threads 2]

Needs `pip install "tatar-llm[hf,gguf]"`. The model is exported (fp32 for transformers, f16 for llama.cpp) and every system lives in
a process of its own; all are asked in turn, so that a noisy machine hits all alike. Greedy, and no text ends early. A batch holds
prompts of different length. llama.cpp is asked over loopback, as its own server is. Run it with nothing else on the machine.
"""

from __future__ import annotations

import argparse
import contextlib
import multiprocessing
import statistics
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

BATCH = 8
Ask = Callable[[list[list[int]], int], Any]
"""Continue these prompts (token ids) by so many tokens."""


def ours(place: str, threads: int) -> Ask:
    from tatar_llm.generation import Batch, Settings
    from tatar_llm.model import load_model

    model, _ = load_model(place)

    def ask(prompts: list[list[int]], tokens: int) -> None:
        batch = Batch(model, len(prompts))
        rows = [batch.add(prompt, [Settings(tokens, temperature=0)])[0] for prompt in prompts]
        while batch.rows:
            batch.step()
        assert all(len(row.new) == tokens for row in rows)

    return ask


def transformers(place: str, threads: int) -> Ask:
    import torch
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(place, dtype=torch.float32).eval()

    def ask(prompts: list[list[int]], tokens: int) -> None:
        longest = max(map(len, prompts))
        ids = torch.tensor([[0] * (longest - len(prompt)) + prompt for prompt in prompts])
        seen = torch.tensor([[0] * (longest - len(prompt)) + [1] * len(prompt) for prompt in prompts])
        made = model.generate(ids, attention_mask=seen, do_sample=False, max_new_tokens=tokens, min_new_tokens=tokens, pad_token_id=0)
        assert made.shape[1] == longest + tokens

    return ask


def llama_cpp(place: str, threads: int) -> Ask:
    from tatar_llm.export.llama_cpp import LlamaCpp

    server = LlamaCpp(place, 256, threads, BATCH)

    def ask(prompts: list[list[int]], tokens: int) -> None:
        def one(prompt: list[int]) -> None:
            body = {"prompt": prompt, "temperature": 0, "n_predict": tokens, "ignore_eos": True, "return_tokens": True, "cache_prompt": False}
            assert len(server.ask("/completion", body)["tokens"]) == tokens

        with ThreadPoolExecutor(len(prompts)) as pool:
            list(pool.map(one, prompts))

    return ask


def worker(pipe: Connection, make: Callable[[str, int], Ask], place: str, threads: int, prompts: list[list[int]], tokens: int) -> None:
    """Load a system, then time whatever is asked for: the number of prompts at a time."""
    import torch

    torch.set_num_threads(threads)
    ask = make(place, threads)
    ask(prompts[:1], 8), ask(prompts, 8)
    pipe.send("ready")
    while count := pipe.recv():
        began = time.perf_counter()
        if count == 1:
            for prompt in prompts[:2]:
                ask([prompt], tokens)
            pipe.send(2 * tokens / (time.perf_counter() - began))
        else:
            ask(prompts, tokens)
            pipe.send(len(prompts) * tokens / (time.perf_counter() - began))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--workspace", default=".")
    parser.add_argument("--model", default="")
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=0)
    args = parser.parse_args()
    import torch

    from tatar_llm.export import export_gguf, export_hf
    from tatar_llm.languages import load_language
    from tatar_llm.model import load_model
    from tatar_llm.tokenizer import encode_text, load_tokenizer
    from tatar_llm.training import find_model
    from tatar_llm.workspace import Workspace

    threads = args.threads or torch.get_num_threads()
    workspace = Workspace(args.workspace)
    place = find_model(workspace, args.model)
    tokenizer, config = load_tokenizer(place.tokenizer)
    texts = list(load_language("tat").prompts)
    texts = [*texts, " ".join(texts), " ".join(texts[:3]), " ".join(texts[2:])][:BATCH]
    prompts = [[config["bos_token_id"], *encode_text(tokenizer, text)] for text in texts]
    parameters = load_model(place.model)[1].parameters()
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as folder:
        hf = str(export_hf(workspace, place, str(Path(folder) / "hf")))
        gguf = str(export_gguf(workspace, place, str(Path(folder) / "gguf"), dtype="f16") / "model-f16.gguf")
        systems = {"transformers.generate, fp32": (transformers, hf), "tatar-llm, fp32": (ours, str(place.model)), "llama.cpp, f16": (llama_cpp, gguf)}
        pipes, processes = {}, []
        for name, (make, where) in systems.items():
            pipe, theirs = context.Pipe()
            processes.append(context.Process(target=worker, args=(theirs, make, where, threads, prompts, args.tokens), daemon=True))
            processes[-1].start()
            assert pipe.recv() == "ready"
            pipes[name] = pipe
        speeds: dict[tuple[str, int], list[float]] = {}
        for _ in range(args.rounds):
            for count in (1, BATCH):
                for name, pipe in pipes.items():
                    pipe.send(count)
                    speeds.setdefault((name, count), []).append(pipe.recv())
        for process in processes:
            with contextlib.suppress(OSError):
                process.kill()
    print(f"{place.name}, {parameters / 1e6:.1f} M parameters, {threads} threads, {args.tokens} new tokens, median of {args.rounds} rounds (slowest to fastest)\n")
    print(f"| | one by one, tokens/s | | {BATCH} at a time, tokens/s | |\n|---|---:|---:|---:|---:|")
    first = next(iter(systems))
    for name in systems:
        row = []
        for count in (1, BATCH):
            mine, base = speeds[name, count], statistics.median(speeds[first, count])
            row += [f"{statistics.median(mine):,.0f} ({min(mine):,.0f} to {max(mine):,.0f})", f"{statistics.median(mine) / base:.1f}x"]
        print(f"| {name} | {' | '.join(row)} |")


if __name__ == "__main__":
    main()
