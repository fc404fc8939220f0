"""Which trainer settings suit few unique tokens and many passes: a grid of small runs over one subset of a corpus.

    python benchmarks/recipe_search.py WORKSPACE grid.toml --out rows.jsonl [--processes 2] [--seeds 1]

WORKSPACE holds token files (`tatar-llm prepare` and `tatar-llm tokenizer` have been there). The grid names a subset, a
network, the number of passes, and per run what differs from the settings at its head:

    tokens = 250_000
    validation_tokens = 60_000
    [model]
    n_layer = 2
    [train]
    optimizer = "muon"
    [runs]
    "4 passes" = { passes = 4 }
    "4 passes, dropout 0.1" = { passes = 4, dropout = 0.1 }

Every run is a line of the output file, with the seconds its steps took; those already there are not run again. `batch_tokens`
sets the tokens of a step. Runs go one thread each, as many at a time as there are processes: the bits per byte compare
settings at equal tokens, the seconds do not compare anything. At the end a Markdown table, best first.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
import multiprocessing
import statistics
import tomllib
from collections import defaultdict
from pathlib import Path

import numpy as np


def one_run(job: dict) -> dict:
    """Train once; a row of settings and results."""
    from tatar_llm.config import GPTConfig, TrainConfig, field_names
    from tatar_llm.tokenizer import TokenFile, read_tokens
    from tatar_llm.training.bare import bare_run
    from tatar_llm.workspace import Workspace

    workspace = Workspace(job["workspace"])
    train, val = (read_tokens(workspace.tokens / f"{name}.bin") for name in ("train", "val"))
    vocabulary = workspace.manifest(workspace.tokens_manifest)["vocab_size"]
    values = {"precision": "fp32", "device": "cpu", **job["settings"]}
    passes, batch_tokens = values.pop("passes"), values.pop("batch_tokens", 2048)
    config = GPTConfig(vocab_size=vocabulary, **{k: values.pop(k) for k in list(values) if k in field_names(GPTConfig)})
    subset = first_documents(train, job["tokens"], TokenFile)
    windows = max(1, batch_tokens // config.block_size)
    steps = math.ceil(passes * int(subset.document_tokens.sum()) / (windows * config.block_size))
    piece = math.gcd(windows, 8)
    done = bare_run(
        subset, val, config, TrainConfig(patience=0, log_interval=100, **values), steps=steps, micro_batch=piece,
        accumulation=windows // piece, bos=2, validation_tokens=job["validation_tokens"], seed=job["seed"], threads=1,
    )  # fmt: skip
    return {
        "name": job["name"], "seed": job["seed"], "final": done.final, "best": done.best, "curve": done.curve,
        "training": round(done.training, 4), "steps": steps, "parameters": config.parameters(),
        "tokens": steps * windows * config.block_size, "unique": int(subset.document_tokens.sum()),
        "seconds": round(done.seconds), "settings": job["settings"],
    }  # fmt: skip


def first_documents(tokens, wanted: int, kind: type):
    """Documents of a token file in an order fixed by chance, up to `wanted` tokens; long ones cut to a tenth of that."""
    order = np.random.Generator(np.random.PCG64(1)).permutation(len(tokens.document_tokens))
    starts = np.concatenate(([0], np.cumsum(tokens.document_tokens)))
    pieces, lengths, sizes, total = [], [], [], 0
    for document in order:
        length = int(tokens.document_tokens[document])
        take = min(length, max(2, wanted // 10), wanted - total)
        if take < 2:
            break
        pieces.append(np.asarray(tokens.ids[starts[document] : starts[document] + take]))
        lengths.append(take)
        sizes.append(round(int(tokens.document_bytes[document]) * take / length))
        total += take
    facts = tokens.facts if dataclasses.is_dataclass(tokens) else {}
    return kind(np.concatenate(pieces), np.array(lengths), np.array(sizes), facts)


def table(rows: list[dict]) -> str:
    """One line for each name: mean over its seeds, and their spread."""
    groups = defaultdict(list)
    for row in rows:
        groups[row["name"]].append(row)
    lines = ["| run | bits per byte at the end | best | training | seeds |", "|---|---:|---:|---:|---:|"]
    for name, group in sorted(groups.items(), key=lambda item: statistics.mean(row["final"] for row in item[1])):
        final = [row["final"] for row in group]
        spread = f" ± {statistics.stdev(final):.3f}" if len(final) > 1 else ""
        best, training = (statistics.mean(row[key] for row in group) for key in ("best", "training"))
        lines.append(f"| {name} | {statistics.mean(final):.3f}{spread} | {best:.3f} | {training:.3f} | {len(group)} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("workspace")
    parser.add_argument("grid", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--seeds", type=int, default=1)
    args = parser.parse_args()
    grid = tomllib.loads(args.grid.read_text(encoding="utf-8"))
    done = [json.loads(line) for line in args.out.read_text(encoding="utf-8").splitlines()] if args.out.is_file() else []
    known = {(row["name"], row["seed"]) for row in done}
    jobs = [
        {"name": name, "seed": seed, "workspace": args.workspace, "tokens": grid["tokens"],
         "validation_tokens": grid["validation_tokens"], "settings": {**grid["model"], **grid["train"], **changes}}
        for seed in range(args.seeds) for name, changes in grid["runs"].items() if (name, seed) not in known
    ]  # fmt: skip
    with multiprocessing.get_context("spawn").Pool(args.processes, maxtasksperchild=1) as pool:
        for row in pool.imap_unordered(one_run, jobs):
            done.append(row)
            with open(args.out, "a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")
    print(table([row for row in done if row["name"] in grid["runs"]]))


if __name__ == "__main__":
    main()
