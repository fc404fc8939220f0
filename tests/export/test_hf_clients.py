"""The Hugging Face folder in programs that others write: lm-eval and `transformers serve`. Slow, and only where they are installed."""

from __future__ import annotations

import importlib.util
import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest
import torch

from tatar_llm.config import GPTConfig
from tatar_llm.evaluation.pairs import minimal_pairs, read_pairs
from tatar_llm.export import export_hf
from tatar_llm.generation import Settings, stream
from tatar_llm.model import GPT, save_model
from tatar_llm.training import ModelPlace
from tatar_llm.workspace import Workspace, sha256_file

pytest.importorskip("transformers")
pytestmark = pytest.mark.slow
OFFLINE = os.environ | {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "PYTHONIOENCODING": "utf-8"}
PAIRS = 60


@pytest.fixture(scope="module")
def exported(tiny_workspace: Workspace, tmp_path_factory: pytest.TempPathFactory) -> tuple[GPT, Path]:
    """A random network whose next token is far from uniform, and its folder."""
    torch.manual_seed(0)
    model = GPT(GPTConfig(n_layer=2, n_head=4, n_embd=64, block_size=64, vocab_size=400)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(4 if parameter.dim() == 2 else 1)
    folder = tmp_path_factory.mktemp("export")
    digest = sha256_file(tiny_workspace.tokenizer / "tokenizer.json")
    save_model(folder / "m.pt", model, language="tat", tokenizer_sha256=digest)
    return model, export_hf(Workspace(folder), ModelPlace("m", folder / "m.pt", tiny_workspace.tokenizer))


def has(*libraries: str) -> bool:
    return all(importlib.util.find_spec(name) for name in libraries)


@pytest.mark.skipif(not has("lm_eval", "datasets"), reason="needs lm-eval")
def test_lm_eval_finds_what_we_find(exported: tuple[GPT, Path], tiny_tokenizer: tuple, tmp_path: Path) -> None:
    model, folder = exported
    data = Path(importlib.util.find_spec("tatar_llm").origin).parent / "evaluation" / "data"
    command = [sys.executable, "-m", "lm_eval", "run", "--model", "hf", "--model_args", f"pretrained={folder}", "--tasks", "tatar_pairs",
               "--include_path", ".", "--device", "cpu", "--batch_size", "8", "--limit", str(PAIRS),
               "--output_path", str(tmp_path / "found.json")]  # fmt: skip
    done = subprocess.run(command, cwd=data, env=OFFLINE, capture_output=True, timeout=300)
    assert done.returncode == 0, done.stderr.decode()[-2000:]
    (found,) = tmp_path.rglob("*.json")
    theirs = json.loads(found.read_text(encoding="utf-8"))["results"]["tatar_pairs"]["acc,none"]
    assert theirs == pytest.approx(minimal_pairs(model, *tiny_tokenizer, read_pairs()[:PAIRS]).value)


@pytest.mark.skipif(not has("fastapi", "uvicorn", "accelerate"), reason='needs "transformers[serving]"')
def test_transformers_serve(exported: tuple[GPT, Path], tiny_tokenizer: tuple, tmp_path: Path) -> None:
    model, folder = exported
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    address = f"http://127.0.0.1:{port}"
    code = "import sys; from transformers.cli.transformers import main; sys.argv[0] = 'transformers'; main()"
    command = [sys.executable, "-c", code, "serve", str(folder), "--host", "127.0.0.1", "--port", str(port), "--device", "cpu"]
    with open(tmp_path / "log", "wb") as log:
        server = subprocess.Popen(command, env=OFFLINE, stdout=log, stderr=log)
    try:
        for _ in range(240):
            assert server.poll() is None, (tmp_path / "log").read_text(encoding="utf-8")[-2000:]
            try:
                urllib.request.urlopen(f"{address}/health", timeout=5).read()
                break
            except OSError:
                time.sleep(0.5)
        prompt = "Әби бүген"
        asked = {"model": str(folder), "prompt": prompt, "max_tokens": 12, "temperature": 0}
        given = json.loads(ask(f"{address}/v1/completions", asked))["choices"][0]["text"]
        assert given == "".join(stream(model, *tiny_tokenizer, prompt, Settings(max_new_tokens=12, temperature=0)))
        with pytest.raises(urllib.error.HTTPError):  # it has no chat template
            ask(f"{address}/v1/chat/completions", {"model": str(folder), "messages": [{"role": "user", "content": "Сәлам"}]})
    finally:
        server.terminate()
        server.wait(30)


def ask(url: str, body: dict) -> bytes:
    request = urllib.request.Request(url, json.dumps(body).encode(), {"Content-Type": "application/json"})
    return urllib.request.urlopen(request, timeout=60).read()
