"""prepare --explain: each step's answer for one line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tatar_llm.cli import main
from tatar_llm.config import CorpusConfig
from tatar_llm.corpus import prepare
from tatar_llm.corpus.explain import explain, render
from tatar_llm.workspace import Workspace


def test_a_mended_line(tmp_path: Path) -> None:
    told = explain("Бүген  hава &nbsp;сaлкын .", CorpusConfig(), Workspace(tmp_path))
    assert told["kept"] and told["result"] == "Бүген һава салкын." and told["where"] is None
    changed = [step["step"] for step in told["steps"] if step["does"] == "changed"]
    assert changed == ["mark-up", "look-alike letters", "spaces and punctuation"]
    text = render(told)
    assert "look-alike letters       changed: " in text and "does not hold this line" in text


def test_a_dropped_line_and_a_line_of_the_corpus(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    workspace = Workspace(tmp_path)
    assert main(["prepare", "--explain", "А сколько это стоит?", "--workspace", str(tmp_path)]) == 0
    assert "dropped: foreign language (Russian)" in capsys.readouterr().out
    prepare(CorpusConfig(source=("sample",), sample_size=0), workspace)
    line = workspace.train_text.read_text(encoding="utf-8").split("\n")[0]
    assert main(["prepare", "--explain", line, "--json", "--workspace", str(tmp_path)]) == 0
    assert json.loads(capsys.readouterr().out)["where"] == "train.txt"
