"""Long checks: a real training on the sample corpus, and training through the compiler. Run by run_tests.sh --slow."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.slow


def tatar_llm(*arguments: str, folder: Path) -> dict[str, Any]:
    command = [sys.executable, "-m", "tatar_llm", *arguments, "--workspace", str(folder), "--json"]
    environment = {**os.environ, "TATAR_LLM_DEVICE": "cpu"}
    done = subprocess.run(command, env=environment, capture_output=True, encoding="utf-8", timeout=1200)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_a_run_on_the_sample_writes_tatar_words(tmp_path: Path) -> None:
    result = tatar_llm("run", "--minutes", "4", "--source", "sample", folder=tmp_path)
    report = json.loads((tmp_path / "reports" / "report.json").read_text(encoding="utf-8"))
    assert result["bits_per_byte"] < 0.9 * result["baselines"]["unigram"]
    assert report["known_words"] >= 0.9  # no spaces inside words, no invented ones
    assert report["copied"] < 0.7  # patterns of the grammar, the more of them the faster the machine; not a recital
    assert (tmp_path / "exports" / "hf" / "model.safetensors").is_file()


@pytest.mark.skipif(not (shutil.which("g++") or shutil.which("clang++")), reason="no C++ compiler")
def test_the_compiled_network_trains_the_same(tmp_path: Path) -> None:
    tatar_llm("prepare", "--source", "sample", folder=tmp_path)
    tatar_llm("tokenizer", "--vocab_size", "1000", folder=tmp_path)
    size = ("--n_layer", "2", "--n_head", "2", "--n_embd", "64", "--batch_size", "8", "--max_iters", "30")
    same = ("--gradient_accumulation_steps", "1", "--log_interval", "5", "--eval_interval", "15")
    for compiled in ("off", "on"):
        tatar_llm("train", *size, *same, "--compile", compiled, "--name", compiled, folder=tmp_path)
    losses = {}
    for run in ("001-off", "002-on"):
        rows = (tmp_path / "models" / "runs" / run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
        losses[run] = [row["loss"] for row in map(json.loads, rows) if "loss" in row]
    settings = json.loads((tmp_path / "models" / "runs" / "002-on" / "settings.json").read_text(encoding="utf-8"))
    assert settings["plan"]["compile"]
    assert len(losses["001-off"]) == 7
    assert losses["002-on"] == pytest.approx(losses["001-off"], rel=2e-3)
