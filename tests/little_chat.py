"""A model that knows nothing and a few conversations that teach it to answer."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import torch

from tatar_llm.config import GPTConfig, TrainConfig
from tatar_llm.model import GPT, save_model
from tatar_llm.workspace import Workspace, sha256_file

PAIRS = {"Урман нәрсә ул?": "Урман — агачлар.", "Күл нәрсә ул?": "Күл — су.", "Син кем?": "Мин модель."}
QUICK = TrainConfig(batch_size=4, gradient_accumulation_steps=1, learning_rate=1e-2, max_iters=120, warmup_iters=5, schedule="linear", patience=0,
                    eval_interval=40, log_interval=20, compile="off", name="chat", weight_decay=0.0)  # fmt: skip


def make_ready(workspace: Workspace, file: Path) -> tuple[Workspace, Path]:
    """The workspace with a run of a random network, and `file` with the conversations."""
    torch.manual_seed(0)
    model = GPT(GPTConfig(n_layer=2, n_head=4, n_embd=64, block_size=64, vocab_size=400))
    run = workspace.runs / "001-base"
    shutil.copytree(workspace.tokenizer, run / "tokenizer")
    save_model(run / "best_model.pt", model, language="tat", corpus="words", tokenizer_sha256=sha256_file(run / "tokenizer" / "tokenizer.json"))
    (run / "settings.json").write_text('{"parameters": 1, "baselines": {}, "corpus": "words"}')
    (run / "status.json").write_text('{"state": "finished", "step": 1, "best_bits_per_byte": 2.0}')
    rows = [{"messages": [{"role": "user", "content": asked}, {"role": "assistant", "content": told}]} for asked, told in PAIRS.items()]
    file.write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8")
    return workspace, file
