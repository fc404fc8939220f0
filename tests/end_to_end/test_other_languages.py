"""Another language from its archive to a model that speaks: Sakha as shipped, and a language file of one's own."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from made_up import dirty_sakha_lines, sakha_lines, write_sakha_archive

from tatar_llm.cli import main
from tatar_llm.languages import language_folder
from tatar_llm.workspace import Workspace, read_json

NETWORK = ("--recipe", "tiny", "--n_layer", "1", "--n_embd", "32", "--n_head", "2", "--block_size", "32", "--batch_size", "4",
           "--max_iters", "6", "--warmup_iters", "1")  # fmt: skip


def all_stages(workspace: Path, language: str, source: Path) -> None:
    place = ("--workspace", str(workspace))
    assert main(["prepare", "--language", language, "--source", str(source), *place]) == 0
    assert main(["tokenizer", "--vocab_size", "400", *place]) == 0
    assert main(["train", *NETWORK, *place]) == 0
    assert main(["evaluate", "--samples", "2", *place]) == 0


@pytest.fixture(autouse=True)
def on_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TATAR_LLM_DEVICE", "cpu")


def test_sakha(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    workspace = Workspace(tmp_path / "sakha")
    all_stages(workspace.root, "sah", write_sakha_archive(tmp_path, 3000))
    manifest = read_json(workspace.corpus_manifest)
    assert manifest["language"] == "sah" and manifest["document"] == "line"
    rules = read_json(workspace.processed / "report.json")["rules"]
    assert rules["look-alike letters"]["changed"] == 150 and rules["foreign language"]["dropped"] == 150
    text = workspace.train_text.read_text(encoding="utf-8") + workspace.val_text.read_text(encoding="utf-8")
    clean = sakha_lines(3000)
    mended = {line for line, dirty in zip(clean, dirty_sakha_lines(3000), strict=True) if line != dirty and "ҕ" in line}
    assert mended & set(text.splitlines()), "lines with look-alikes came back whole"
    report = read_json(workspace.reports / "report.json")
    assert report["language"] == "sah" and report["samples"][0]["prompt"] == "Дьокуускай куорат"


def test_a_language_file_of_ones_own(tmp_path: Path) -> None:
    """A copy of a shipped file under another code: no verb needs code for it, and it goes along with the run."""
    own = tmp_path / "менин.toml"
    text = (language_folder() / "sah.toml").read_text(encoding="utf-8").replace('code = "sah"', 'code = "zzz"')
    own.write_text(text.replace("Дьокуускай куорат", "Бүгүн мин"), encoding="utf-8")
    workspace = Workspace(tmp_path / "own")
    all_stages(workspace.root, str(own), write_sakha_archive(tmp_path, 1500))
    own.unlink()
    shutil.rmtree(workspace.processed.parent / "tokens")
    assert main(["generate", "Мин", "--workspace", str(workspace.root), "--max_new_tokens", "3"]) == 0
    (run,) = (workspace.runs).iterdir()
    assert read_json(run / "settings.json")["language"] == "zzz" and (run / "language.toml").is_file()
    assert read_json(workspace.reports / "report.json")["samples"][0]["prompt"] == "Бүгүн мин"
