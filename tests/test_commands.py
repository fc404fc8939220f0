"""What is said beside a validation while a training goes on."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from tatar_llm.commands.training import SampleWhileTraining
from tatar_llm.workspace import Workspace


def test_a_sample_and_now_and_then_the_grammar(
    tiny_workspace: Workspace, tiny_model, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    beside = SampleWhileTraining(tiny_workspace)
    score = SimpleNamespace(bits_per_byte=1.25)
    beside.last_grammar -= beside.GRAMMAR_SECONDS
    beside(tiny_model, 10, score)
    said = capsys.readouterr().err
    assert "step 10, held-out 1.250 bits/byte: Казан урамнары" in said
    assert "of 160 minimal pairs (50% by chance)" in said
    beside(tiny_model, 11, score)
    assert capsys.readouterr().err == "", "not again within half a minute"
    beside.last -= beside.SAMPLE_SECONDS
    beside(tiny_model, 12, score)
    said = capsys.readouterr().err
    assert "step 12" in said and "minimal pairs" not in said
