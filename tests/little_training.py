"""Trainings that take seconds: token files in memory, tiny networks, a whole workspace of made-up words."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tatar_llm.config import GPTConfig, TokenizerConfig, TrainConfig
from tatar_llm.model import GPT
from tatar_llm.tokenizer import TokenFile, encode_corpus, train_tokenizer
from tatar_llm.training.batches import Batches
from tatar_llm.training.planner import Plan
from tatar_llm.training.runs import Run
from tatar_llm.training.trainer import Trainer
from tatar_llm.training.validation import held_out
from tatar_llm.workspace import Workspace, write_json, write_text

BOS = 2
TINY = GPTConfig(n_layer=2, n_head=2, n_embd=32, block_size=16, vocab_size=300)
FLAGS = [
    "--n_layer", "2", "--n_head", "2", "--n_embd", "32", "--block_size", "16", "--batch_size", "4",
    "--gradient_accumulation_steps", "1", "--dropout", "0.1", "--compile", "off", "--log_interval", "5", "--patience", "0",
]  # fmt: skip


def chains(documents: int, seed: int, letters: int = 40) -> TokenFile:
    """Documents in which each token follows from the one before: learnable, though every token is equally frequent."""
    random_numbers = np.random.default_rng(seed)
    parts = []
    for _ in range(documents):
        place = int(random_numbers.integers(letters))
        tokens = [BOS]
        for _ in range(int(random_numbers.integers(10, 30))):
            tokens.append(16 + place)
            place = (7 * place + 3) % letters
        parts.append(np.array([*tokens, 3], dtype=np.uint16))
    lengths = np.array([len(part) for part in parts])
    return TokenFile(np.concatenate(parts), lengths, lengths * 4, {})


def make_trainer(
    folder: Path,
    *,
    steps: int = 10,
    micro_batch: int = 2,
    accumulation: int = 2,
    config: GPTConfig = TINY,
    seed: int = 0,
    data: TokenFile | None = None,
    on_validation: Callable[..., None] | None = None,
    plan: dict[str, Any] | None = None,
    trainer: type[Trainer] = Trainer,
    peak_flops: float = 0.0,
    **train: Any,
) -> Trainer:
    settings = TrainConfig(**{"learning_rate": 1e-2, "log_interval": 1, "warmup_iters": 3, "patience": 0, **train})
    made = Plan(
        device="cpu", precision="fp32", compile=False, threads=1, micro_batch=micro_batch, accumulation=accumulation,
        total_steps=steps, eval_interval=1000, checkpoint_interval=1000,
    )  # fmt: skip
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(seed)
    data = data or chains(25, 0)
    return trainer(
        Run(folder), GPT(config), settings, dataclasses.replace(made, **(plan or {})),
        Batches(data, config.block_size, 0), held_out(chains(10, 1), config, BOS), 4.0, {"corpus": "chains"}, on_validation,
        peak_flops=peak_flops,
    )  # fmt: skip


def losses(trainer: Trainer) -> list[float]:
    return [row["loss"] for row in trainer.run.read_metrics() if "loss" in row]


def same_weights(one: GPT, other: GPT) -> bool:
    mine, its = one.state_dict(), other.state_dict()
    return mine.keys() == its.keys() and all(torch.equal(mine[name], its[name]) for name in mine)


def prepare_words(folder: Path) -> Workspace:
    """A workspace with a corpus of a few words, a tokenizer and token files."""
    place = Workspace(folder)
    chance = random.Random(0)
    words = ["китап", "урман", "елга", "әни", "көн", "төн", "кояш", "җил", "һава", "өй", "үрдәк", "таң", "сүз", "юл"]
    for path, count in ((place.train_text, 300), (place.val_text, 30)):
        write_text(path, "".join(" ".join(chance.choices(words, k=6)) + ".\n" for _ in range(count)))
    write_json(place.corpus_manifest, {"document": "line", "corpus": "words", "language": "tat", "fallback": None})
    train_tokenizer(TokenizerConfig(vocab_size=300), place)
    encode_corpus(place)
    return place
