"""Our recipe, the brief's trainer settings, and transformers' GPT-2 under its own Trainer: same text, tokens and size.

    python benchmarks/three_systems.py WORKSPACE --out rows.jsonl [--tokens 1000000] [--minutes 0] [--seeds 3] [--size 2x128] [--threads 1]
    python benchmarks/three_systems.py WORKSPACE --out rows.jsonl --minutes 30 --size 6x512 --threads 2 --processes 1 \
        --seeds 1 --systems gpt2 --runs WORKSPACE/models/runs/001-base [...]

WORKSPACE holds token files (`tatar-llm prepare` and `tatar-llm tokenizer` have been there). Each system sees as many
tokens, or with --minutes trains for as long; one thread each (--threads), two at a time (--processes). Held-out bits per byte on the
same windows, in fp32, or in bf16 where the CPU multiplies it natively. --runs measures runs that `tatar-llm train` left, on those
windows too. GPT-2 needs: pip install transformers accelerate.

- tatar-llm: what `--minutes` would take for so many tokens (Muon, linear decay to zero, small batches).
- seed: the brief's trainer on the same network (AdamW 3e-4, cosine, 128 windows a step, warmup 100).
- gpt2: GPT2LMHeadModel of the same layers, width and heads, trained by transformers' Trainer with its defaults (AdamW,
  linear decay, dropout 0.1, 8 windows a step) and a rate of 3e-4.
- adamw RATE: our network and schedule, AdamW alone, with --adamw: four rates, the honest distance of Muon.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
import multiprocessing
import statistics
import tempfile
import time
from collections import defaultdict
from pathlib import Path

ADAMW_RATES = (1e-3, 2e-3, 4e-3, 8e-3)


def one_run(job: dict) -> dict:
    """Train one system once; a row with what it reached."""
    import torch

    from tatar_llm.config import GPTConfig
    from tatar_llm.device import keep_freed_memory
    from tatar_llm.tokenizer import read_tokens
    from tatar_llm.training.validation import held_out
    from tatar_llm.workspace import Workspace

    torch.set_num_threads(job["threads"])
    keep_freed_memory()
    workspace = Workspace(job["workspace"])
    train, val = (read_tokens(workspace.tokens / f"{name}.bin") for name in ("train", "val"))
    layers, width = (int(part) for part in job["size"].split("x"))
    config = GPTConfig(
        n_layer=layers, n_head=max(2, width // 64), n_embd=width, block_size=256,
        vocab_size=workspace.manifest(workspace.tokens_manifest)["vocab_size"],
    )  # fmt: skip
    part = held_out(val, config, 2, 100_000)
    began = time.perf_counter()
    torch.manual_seed(job["seed"])
    run = gpt2 if job["system"] == "gpt2" else a_run if job["system"].startswith("run ") else ours
    nats, tokens, parameters, seconds = run(job, config, train, part)
    return {
        "system": job["system"], "seed": job["seed"], "size": job["size"], "bits_per_byte": nats / math.log(2) / part.bytes,
        "tokens": tokens, "parameters": parameters, "training_seconds": round(seconds, 1),
        "seconds": round(time.perf_counter() - began, 1), "wanted": job["tokens"] or f"{job['minutes']} minutes",
    }  # fmt: skip


def ours(job: dict, config, train, part) -> tuple[float, int, int, float]:
    """tatar-llm's trainer with the settings of `tatar-llm`, `seed` or AdamW at a rate."""
    from tatar_llm.config import TrainConfig
    from tatar_llm.model import GPT
    from tatar_llm.training.batches import Batches
    from tatar_llm.training.planner import Plan, autocast_dtype, timed_settings
    from tatar_llm.training.runs import Run
    from tatar_llm.training.trainer import Trainer
    from tatar_llm.training.validation import score

    tokens = job["tokens"] or int(job["minutes"] * 60 * 5e10 * job["threads"] / config.flops_per_token())
    if job["system"] == "seed":
        per_step = 128 * config.block_size
        settings = TrainConfig(max_iters=max(1, round(tokens / per_step)), patience=0)
        micro, accumulation = 8, 16
    else:
        settings = dataclasses.replace(timed_settings(TrainConfig(), config, tokens), patience=0)
        micro, accumulation = settings.batch_size, settings.gradient_accumulation_steps
        if job["system"].startswith("adamw"):
            rate = float(job["system"].split()[1])
            settings = dataclasses.replace(settings, optimizer="adamw", learning_rate=rate)
    plan = Plan(
        device="cpu", precision=job["precision"], compile=False, threads=job["threads"], micro_batch=micro, accumulation=accumulation,
        total_steps=settings.max_iters, eval_interval=10**9, checkpoint_interval=10**9, seconds=job["minutes"] * 60,
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        trainer = Trainer(Run(Path(folder)), GPT(config), settings, plan, Batches(train, config.block_size, job["seed"]),
                          dataclasses.replace(part, inputs=part.inputs[:1], targets=part.targets[:1]), 7.0, {})  # fmt: skip
        trainer.fit()
    result = score(trainer.model, part, 8, autocast_dtype(job["precision"]))
    return result.nats, trainer.step * trainer.tokens_per_step, config.parameters(), trainer.clock.in_steps


def a_run(job: dict, config, train, part) -> tuple[float, int, int, float]:
    """What `tatar-llm train` left in a run's folder: nothing is trained here."""
    from tatar_llm.model import load_model
    from tatar_llm.training.planner import autocast_dtype
    from tatar_llm.training.validation import score

    folder = Path(job["system"].removeprefix("run "))
    model, _ = load_model(folder / "best_model.pt", "cpu")
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    result = score(model, part, 8, autocast_dtype(job["precision"]))
    return result.nats, max(row.get("tokens", 0) for row in rows), model.parameter_count(), max(row.get("seconds", 0) for row in rows)


def gpt2(job: dict, config, train, part) -> tuple[float, int, int, float]:
    """transformers' GPT-2 under transformers' Trainer."""
    import torch
    import transformers

    from tatar_llm.training.batches import Batches

    transformers.logging.set_verbosity_error()
    model = transformers.GPT2LMHeadModel(
        transformers.GPT2Config(
            vocab_size=config.vocab_size, n_positions=config.block_size, n_embd=config.n_embd, n_layer=config.n_layer,
            n_head=config.n_head, bos_token_id=2, eos_token_id=3,
        )
    )  # fmt: skip
    per_step, bf16 = 8 * config.block_size, job["precision"] == "bf16"
    if job["minutes"]:
        tokens = _tokens_in(job["minutes"] * 60, model, config, bf16)
    else:
        tokens = job["tokens"]
    steps = max(1, tokens // per_step)
    windows = Batches(train, config.block_size, job["seed"]).next(8 * steps)[0]

    class Windows(torch.utils.data.Dataset):
        def __len__(self) -> int:
            return len(windows)

        def __getitem__(self, index: int) -> dict:
            return {"input_ids": windows[index], "labels": windows[index]}

    with tempfile.TemporaryDirectory() as folder:
        arguments = transformers.TrainingArguments(
            output_dir=folder, learning_rate=3e-4, lr_scheduler_type="linear", max_steps=steps, use_cpu=True,
            per_device_train_batch_size=8, save_strategy="no", report_to=[], disable_tqdm=True, logging_strategy="no",
            seed=job["seed"], bf16=bf16,
        )  # fmt: skip
        began = time.perf_counter()
        transformers.Trainer(model=model, args=arguments, train_dataset=Windows()).train()
        seconds = time.perf_counter() - began
    model.eval()
    nats = 0.0
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16, enabled=bf16):
        for start in range(0, len(part.inputs), 8):
            logits = model(input_ids=part.inputs[start : start + 8]).logits
            targets = part.targets[start : start + 8]
            nats += float(torch.nn.functional.cross_entropy(logits.float().flatten(0, 1), targets.flatten(), reduction="sum"))
    return nats, steps * per_step, model.num_parameters(), seconds


def _tokens_in(seconds: float, model, config, bf16: bool) -> int:
    """How many tokens GPT-2 trains on in `seconds` here, from a few steps."""
    import copy

    import torch

    trial, ids = copy.deepcopy(model), torch.randint(config.vocab_size, (8, config.block_size))
    optimizer = torch.optim.AdamW(trial.parameters(), fused=True)
    times = []
    for _ in range(8):
        began = time.perf_counter()
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=bf16):
            loss = trial(input_ids=ids, labels=ids).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        times.append(time.perf_counter() - began)
    return int(seconds / statistics.median(times) * ids.numel())


def table(rows: list[dict]) -> str:
    """One line a system: mean over its seeds and their spread, and how far above ours it lies."""
    groups = defaultdict(list)
    for row in rows:
        groups[row["system"]].append(row)
    ours_first = next((name for name in groups if name == "tatar-llm" or name.startswith("run ")), "")
    mine = statistics.mean(row["bits_per_byte"] for row in groups[ours_first]) if ours_first else math.nan
    lines = ["| system | bits per byte | ours is lower by | tokens | seconds of training | seeds |", "|---|---:|---:|---:|---:|---:|"]
    for name, group in groups.items():
        values = [row["bits_per_byte"] for row in group]
        spread = f" ± {statistics.stdev(values):.3f}" if len(values) > 1 else ""
        mean = statistics.mean(values)
        tokens, seconds = (statistics.mean(row[key] for row in group) for key in ("tokens", "training_seconds"))
        lines.append(f"| {name} | {mean:.3f}{spread} | {1 - mine / mean:.1%} | {tokens / 1e6:.2f} M | {seconds:.0f} | {len(group)} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("workspace")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--tokens", type=int, default=1_000_000)
    parser.add_argument("--minutes", type=float, default=0.0)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--size", default="2x128")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--adamw", action="store_true")
    parser.add_argument("--systems", nargs="*", default=["tatar-llm", "seed", "gpt2"])
    parser.add_argument("--runs", nargs="*", default=[])
    args = parser.parse_args()
    systems = args.systems if not args.adamw else [f"adamw {rate:g}" for rate in ADAMW_RATES]
    from tatar_llm.device import choose_execution

    common = {"precision": choose_execution("cpu").precision, "workspace": args.workspace, "size": args.size, "minutes": args.minutes, "threads": args.threads,
              "tokens": 0 if args.minutes else args.tokens}  # fmt: skip
    jobs = [{"system": f"run {folder}", "seed": 0, **common} for folder in args.runs]
    jobs += [{"system": system, "seed": seed, **common} for seed in range(args.seeds) for system in systems]
    done = []
    with multiprocessing.get_context("spawn").Pool(args.processes, maxtasksperchild=1) as pool:
        for row in pool.imap_unordered(one_run, jobs):
            done.append(row)
            with open(args.out, "a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")
    print(table(done))


if __name__ == "__main__":
    main()
