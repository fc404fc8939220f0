"""What several tests share: made-up Tatar lines, a tiny workspace, its tokenizer, a tiny random model."""

from __future__ import annotations

import dataclasses
import os
import shutil
from pathlib import Path

import pytest

os.environ.setdefault("HF_HUB_OFFLINE", "1")

from made_up import tatar_lines, write_corpus

from tatar_llm.config import GPTConfig, TokenizerConfig
from tatar_llm.workspace import Workspace


@pytest.fixture(scope="session", autouse=True)
def single_thread() -> None:
    """Networks this small only wait for their threads: 33 s instead of 210 s for these tests on two busy cores."""
    import torch

    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def tiny_workspace(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """400 + 40 sentences, a tokenizer of 400 tokens, token files. Shared: read it, never write to it."""
    from tatar_llm.tokenizer import encode_corpus, train_tokenizer

    workspace = Workspace(tmp_path_factory.mktemp("эш урыны"))
    write_corpus(workspace, tatar_lines(400), tatar_lines(40, seed=1))
    train_tokenizer(TokenizerConfig(vocab_size=400), workspace)
    encode_corpus(workspace)
    return workspace


@pytest.fixture
def own_workspace(tiny_workspace: Workspace, tmp_path: Path) -> Workspace:
    """A copy of the tiny workspace to change at will."""
    shutil.copytree(tiny_workspace.root, tmp_path / "workspace")
    return Workspace(tmp_path / "workspace")


@pytest.fixture(scope="session")
def tiny_tokenizer(tiny_workspace: Workspace) -> tuple:
    """The tokenizer and its config."""
    from tatar_llm.tokenizer import load_tokenizer

    return load_tokenizer(tiny_workspace.tokenizer)


@pytest.fixture
def tiny_config(tiny_tokenizer: tuple) -> GPTConfig:
    """Two layers of width 64."""
    return GPTConfig(n_layer=2, n_head=4, n_embd=64, block_size=32, vocab_size=tiny_tokenizer[1]["vocab_size"])


def far_from_uniform(config: GPTConfig):
    """A random network whose next token is far from uniform, in evaluation mode."""
    import torch

    from tatar_llm.model import GPT

    torch.manual_seed(0)
    model = GPT(config).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.dim() >= 2:
                parameter.mul_(3 if name == "embedding.weight" else 5)
            else:
                parameter.add_(0.1 * torch.randn_like(parameter))  # gains of one would hide a mix-up of the norms
    return model


@pytest.fixture
def tiny_model(tiny_config: GPTConfig):
    """Dense, with full attention."""
    return far_from_uniform(tiny_config)


@pytest.fixture(params=[{}, {"sliding_window": 6, "window_pattern": "SF"}, {"n_expert": 4}], ids=["dense", "window", "experts"])
def any_model(tiny_config: GPTConfig, request: pytest.FixtureRequest):
    """One network of each kind."""
    return far_from_uniform(dataclasses.replace(tiny_config, **request.param))


@pytest.fixture(scope="session")
def chat_place(tiny_workspace: Workspace, tmp_path_factory: pytest.TempPathFactory):
    """A tiny model that has learnt the few answers of little_chat.PAIRS. Shared: never write to it."""
    from little_chat import QUICK, make_ready

    from tatar_llm.chat import tune
    from tatar_llm.config import ChatConfig
    from tatar_llm.training import find_model

    folder = tmp_path_factory.mktemp("chat")
    workspace, data = make_ready(Workspace(shutil.copytree(tiny_workspace.root, folder / "workspace")), folder / "own.jsonl")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TATAR_LLM_DEVICE", "cpu")
        patch.setattr(tune, "measure_flops", lambda *_: 1e9)
        tune.finetune(workspace, find_model(workspace), ChatConfig(data=(str(data),), builtin=False), QUICK, minutes=0)
    return find_model(workspace, chat=True)
