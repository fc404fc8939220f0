"""The whole way as a user goes it: from nothing to a model that speaks, twice, and through every door."""

from __future__ import annotations

import contextlib
import importlib.util
import io
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

import tatar_llm
from tatar_llm.cli import main
from tatar_llm.tokenizer import load_tokenizer, read_tokens
from tatar_llm.training import list_runs
from tatar_llm.workspace import Workspace, read_json, sha256_file

ROOT = Path(tatar_llm.__file__).parents[2]
in_checkout = pytest.mark.skipif(not (ROOT / "03_train.py").is_file(), reason="not a checkout")
has_transformers = importlib.util.find_spec("transformers") is not None


def environment(**more: str) -> dict[str, str]:
    paths = os.pathsep.join((str(ROOT / "src"), str(ROOT)))
    path = os.pathsep.join((str(Path(sys.executable).parent), os.environ.get("PATH", "")))
    return {**os.environ, "PYTHONPATH": paths, "PATH": path, "TATAR_LLM_DEVICE": "cpu", **more}


def process(*command: str, folder: Path, **more: str) -> subprocess.CompletedProcess[str]:
    """Run a command into pipes; what comes out must be UTF-8, whatever the console's code page."""
    return subprocess.run(
        command, cwd=folder, env=environment(**more), capture_output=True, encoding="utf-8", errors="strict", timeout=300
    )


@pytest.fixture(scope="module", autouse=True)
def on_the_cpu() -> Iterator[None]:
    handler = signal.getsignal(signal.SIGTERM)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TATAR_LLM_DEVICE", "cpu")
        yield
    signal.signal(signal.SIGTERM, handler)


def inside(*arguments: str) -> SimpleNamespace:
    """The same command in this process, which has imported torch already."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main(list(arguments))
    return SimpleNamespace(code=code, out=out.getvalue(), err=err.getvalue())


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """`tatar-llm run` in a folder with spaces and Tatar letters, printed into a pipe of a Russian Windows."""
    folder = tmp_path_factory.mktemp("pipeline")
    name = "минем эш урыны ә"
    done = process(
        sys.executable, "-m", "tatar_llm", "run", "--minutes", "0.3", "--source", "sample", "--sample_size", "200000", "--json",
        "--workspace", name,
        folder=folder, PYTHONIOENCODING="cp1251",
    )  # fmt: skip
    return SimpleNamespace(done=done, workspace=Workspace(folder / name))


@pytest.fixture(scope="module")
def second(first: SimpleNamespace) -> SimpleNamespace:
    """A second run with another tokenizer and another network, and what the first one's files were before it."""
    (run,) = list_runs(first.workspace)
    kept = {path: sha256_file(path) for path in run.folder.rglob("*") if path.is_file()}
    done = inside(
        "run", "--minutes", "0.05", "--source", "sample", "--sample_size", "200000", "--workspace", str(first.workspace.root), "--vocab_size", "600",
        "--n_layer", "1", "--n_head", "2", "--n_embd", "32", "--block_size", "64", "--name", "кечкенә", "--json",
    )  # fmt: skip
    return SimpleNamespace(done=done, kept=kept, workspace=first.workspace)


def test_it_ends_well_and_says_so_in_utf8(first: SimpleNamespace) -> None:
    done = first.done
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    result = json.loads(done.stdout)  # one object and nothing else
    assert result["run"] == "001-auto" and result["corpus"] == "sample" and result["fallback"] is None
    assert 0 < result["bits_per_byte"] < 8 and result["baselines"]["bigram"] < result["baselines"]["unigram"]
    assert len(result["samples"]) == 5 and any("ә" in text for text in result["samples"])
    assert len(result["side_by_side"]) == 3 and all(row["shipped"] and row["yours"] for row in result["side_by_side"])
    assert done.stderr.count("shipped model: ") == 3
    assert "минем эш урыны ә" in done.stderr
    stages = [line for line in done.stderr.splitlines() if line[1:4] == "/5 "]
    assert [line[0] for line in stages] == ["1", "2", "3", "4", "5"]


def test_every_artefact_is_there(first: SimpleNamespace) -> None:
    place = first.workspace
    (run,) = list_runs(place)
    for path in (
        *(place.processed / name for name in ("train.txt", "val.txt", "manifest.json", "report.md", "report.json")),
        *(place.tokens / name for name in ("train.bin", "train.json", "val.bin", "val.json", "manifest.json")),
        *(place.tokenizer / name for name in ("tokenizer.json", "config.json", "report.md")),
        *(run.tokenizer / name for name in ("tokenizer.json", "config.json")),
        *(run.folder / name for name in ("settings.json", "status.json", "metrics.jsonl", "curve.png")),
        run.best_model, run.final_model, place.best_model, place.final_model,
        place.reports / "report.md", place.reports / "report.json",
    ):  # fmt: skip
        assert path.is_file() and path.stat().st_size, path
    assert not run.checkpoints.exists()
    leftovers = [path.name for path in place.root.rglob(".*")]
    assert [name for name in leftovers if name.endswith((".tmp", ".old")) or "write-test" in name] == []


def test_what_is_handed_over_fits_together(first: SimpleNamespace) -> None:
    place = first.workspace
    (run,) = list_runs(place)
    facts = torch.load(place.best_model, weights_only=True)
    assert facts.keys() >= {"model", "config", "step", "val", "tokenizer_sha256", "language", "corpus"}
    tokenizer, config = load_tokenizer(place.tokenizer)
    assert facts["config"]["vocab_size"] == config["vocab_size"]
    assert facts["tokenizer_sha256"] == sha256_file(place.tokenizer / "tokenizer.json")
    assert (facts["language"], facts["corpus"]) == ("tat", "sample")
    tokens = read_tokens(place.tokens / "train.bin")
    assert tokens.facts["text_sha256"] == sha256_file(place.train_text)
    text = place.train_text.read_text(encoding="utf-8")
    document = tokens.ids[1 : int(tokens.document_tokens[0]) - 1].tolist()
    assert text.startswith(tokenizer.decode(document) + "\n")
    status = run.status()
    assert status["state"] == "finished" and status["step"] == status["total_steps"]
    assert facts["val"]["bits_per_byte"] == pytest.approx(status["best_bits_per_byte"])
    report = read_json(place.reports / "report.json")
    assert report["bits_per_byte"] == pytest.approx(status["best_bits_per_byte"], rel=0.02)
    assert len(report["samples"]) == 20 and report["small"] is True


@pytest.mark.skipif(not has_transformers, reason="transformers is not installed")
def test_the_export_is_there(first: SimpleNamespace) -> None:
    folder = first.workspace.exports / "hf"
    assert {path.name for path in folder.iterdir()} >= {"config.json", "model.safetensors", "tokenizer.json", "README.md"}


def test_the_second_run_keeps_the_first(second: SimpleNamespace) -> None:
    assert second.done.code == 0, second.done.err
    place = second.workspace
    assert [run.label for run in list_runs(place)] == ["001-auto", "002-кечкенә"]
    assert {path: sha256_file(path) for path in second.kept} == second.kept
    assert "is up to date" in second.done.err  # the corpus is not made again
    assert json.loads(second.done.out)["run"] == "002-кечкенә"
    assert sha256_file(place.best_model) == sha256_file(list_runs(place)[1].best_model)
    assert load_tokenizer(place.tokenizer)[1]["vocab_size"] == 600


@pytest.mark.parametrize("model", ["001", "002-кечкенә"])
def test_each_run_speaks_with_its_own_tokenizer(second: SimpleNamespace, model: str) -> None:
    flags = ("--workspace", str(second.workspace.root), "--model", model, "--seed", "1", "--max-new-tokens", "8")
    done = inside("generate", "Казан урамнары", *flags)
    assert done.code == 0, done.err
    assert done.out.startswith("Казан урамнары") and len(done.out.strip()) > len("Казан урамнары")
    assert f"model {model}" in done.err and "trained on sample" in done.err
    again = inside("generate", "Казан урамнары", *flags, "--json")
    assert json.loads(again.out)["texts"] == [done.out.removesuffix("\n")]  # the same seed, the same text


def test_the_list_of_runs(second: SimpleNamespace) -> None:
    rows = json.loads(inside("runs", "--json", "--workspace", str(second.workspace.root)).out)["runs"]
    assert [row["run"] for row in rows] == ["001-auto", "002-кечкенә"]
    assert all(row["state"] == "finished" and row["bits_per_byte"] > 0 and row["corpus"] == "sample" for row in rows)


def test_the_models_are_measured_where_they_fit(second: SimpleNamespace) -> None:
    root = str(second.workspace.root)
    done = inside("evaluate", "--workspace", root, "--model", "001", "--samples", "1", "--json")
    assert done.code == 0, "a model of an earlier tokenizer reads the same held-out text in its own tokens"
    assert 0 < json.loads(done.out)["bits_per_byte"] < 8


@in_checkout
def test_the_snippet_of_the_brief(second: SimpleNamespace) -> None:
    snippet = (
        "import utils\n"
        "model, config = utils.load_model('models/best_model.pt', device='auto')\n"
        "tokenizer, tok_config = utils.load_tokenizer('tokenizer')\n"
        "text = utils.generate_text(model, tokenizer, tok_config, 'Казан', max_new_tokens=8, temperature=0.8, top_k=40,\n"
        "                           device='cpu')\n"
        "from model import GPT, GPTConfig\n"
        "assert isinstance(model, GPT) and isinstance(config, GPTConfig) and config.vocab_size == tok_config['vocab_size']\n"
        "assert text.startswith('Казан') and len(text) > 5, text\n"
    )
    done = process(sys.executable, "-c", snippet, folder=second.workspace.root)
    assert done.returncode == 0, done.stderr


@in_checkout
def test_the_smoke_test_at_the_root(second: SimpleNamespace) -> None:
    done = process(sys.executable, str(ROOT / "quick_test.py"), "--max_new_tokens", "4", folder=second.workspace.root)
    assert done.returncode == 0, done.stderr
    for beginning in ("Кояшлы көндә", "Татар язучысы", "Татарларның милли"):
        assert beginning in done.stdout


@in_checkout
@pytest.mark.skipif(os.name == "nt" or not shutil.which("bash"), reason="a bash script")
def test_nothing_to_resume(second: SimpleNamespace) -> None:
    script = str(ROOT / "restart_training.sh")
    done = process("bash", script, "--workspace", str(second.workspace.root), folder=second.workspace.root)
    assert done.returncode == 1
    assert done.stderr.strip() == "error: run 002-кечкенә is finished: start a new one with `tatar-llm train`"


def test_without_a_network_the_sample_stands_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TATAR_LLM_LEIPZIG_URLS", "http://127.0.0.1:9/")  # nothing listens there
    done = inside("prepare", "--workspace", str(tmp_path), "--json")
    assert done.code == 0, done.err
    manifest = json.loads(done.out)
    assert manifest["corpus"] == "sample" and manifest["fallback"]
    assert manifest["fallback"] in done.err
    assert read_json(tmp_path / "data" / "processed" / "manifest.json")["fallback"] == manifest["fallback"]
    named = inside("prepare", "--workspace", str(tmp_path / "b"), "--source", "leipzig-mixed-2015-1m")
    assert named.code == 1 and "Traceback" not in named.err
    assert not (tmp_path / "b" / "data" / "processed" / "train.txt").exists()


def test_before_anything_is_trained_the_shipped_model_speaks(tmp_path: Path) -> None:
    done = inside("generate", "Казан урамнары", "--workspace", str(tmp_path), "--seed", "1", "--max_new_tokens", "12")
    assert done.code == 0 and "model shipped, trained on " in done.err
    assert done.out.startswith("Казан урамнары") and len(done.out) > 20
    again = inside("generate", "Казан урамнары", "--workspace", str(tmp_path), "--model", "shipped", "--seed", "1",
                   "--max_new_tokens", "12")  # fmt: skip
    assert again.out == done.out
    assert list(tmp_path.iterdir()) == []
