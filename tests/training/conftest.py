"""One thread, no measuring, and a workspace of a few words for each test of the trainer."""

from __future__ import annotations

import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from little_training import prepare_words

from tatar_llm.training import start
from tatar_llm.workspace import Workspace


@pytest.fixture(autouse=True)
def one_thread(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TATAR_LLM_DEVICE", "cpu")
    monkeypatch.setattr(start, "measure_flops", lambda *_: 1e9)  # a plan without seconds of measuring
    monkeypatch.setattr(start, "measure_peak", lambda *_: 1e11)
    before, handler = torch.get_num_threads(), signal.getsignal(signal.SIGTERM)
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
    signal.signal(signal.SIGTERM, handler)


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace with a corpus, a tokenizer and token files: copy it, never write to it."""
    return prepare_words(tmp_path_factory.mktemp("prepared") / "эш урыны").root


@pytest.fixture
def workspace(prepared: Path, tmp_path: Path) -> Workspace:
    """A copy of it to train in."""
    return Workspace(shutil.copytree(prepared, tmp_path / "эш урыны"))
