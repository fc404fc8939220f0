"""Teaching a tiny network to answer, from the command line's functions down."""

from __future__ import annotations

import json
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from little_chat import PAIRS, QUICK, make_ready

from tatar_llm.chat import Speaker, Turn, tune
from tatar_llm.chat.terminal import Terminal
from tatar_llm.cli import main
from tatar_llm.config import ChatConfig, TrainConfig
from tatar_llm.errors import TatarLLMError
from tatar_llm.generation import Settings
from tatar_llm.model import GPT, load_model_file
from tatar_llm.training import find_model, list_runs
from tatar_llm.training.stop import Interrupted
from tatar_llm.workspace import Workspace


@pytest.fixture(autouse=True)
def no_measuring(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TATAR_LLM_DEVICE", "cpu")
    monkeypatch.setattr(tune, "measure_flops", lambda *_: 1e9)
    handler = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, handler)


@pytest.fixture
def ready(own_workspace: Workspace, tmp_path: Path) -> tuple[Workspace, Path]:
    return make_ready(own_workspace, tmp_path / "own.jsonl")


def test_it_learns_to_answer_and_is_found_by_those_who_want_it(ready: tuple[Workspace, Path], capsys: pytest.CaptureFixture) -> None:
    workspace, data = ready
    run = tune.finetune(workspace, find_model(workspace), ChatConfig(data=(str(data),), builtin=False), QUICK, minutes=0)
    assert run.label == "002-chat" and run.status()["state"] == "finished" and run.status()["plain_after"] > 0
    assert find_model(workspace).name == "001-base"  # it continues texts as before
    place = find_model(workspace, chat=True)
    assert place.name == "002-chat" and load_model_file(place.model)["chat"] is True and load_model_file(workspace.chat_model)["base"] == "001-base"
    speaker = Speaker.load(place, "cpu")
    greedy = Settings(20, temperature=0)
    assert speaker.answers([[Turn("user", asked)] for asked in PAIRS], greedy) == list(PAIRS.values())
    assert "".join(speaker.stream([Turn("user", "Син кем?")], greedy)) == "Мин модель."
    capsys.readouterr()
    assert main(["chat", "Күл нәрсә ул?", "--temperature", "0", "--workspace", str(workspace.root)]) == 0
    assert capsys.readouterr().out == "Күл — су.\n"


def test_stopped_and_resumed_it_ends_as_if_uninterrupted(ready: tuple[Workspace, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    workspace, data = ready
    config = ChatConfig(data=(str(data),), builtin=False)
    settings = TrainConfig(**{**vars(QUICK), "max_iters": 30, "eval_interval": 10, "checkpoint_interval": 7})
    whole = tune.finetune(workspace, find_model(workspace), config, settings, minutes=0)

    def stop_at_15(_model: GPT, step: int, _score: object) -> None:
        if step == 10:
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(Interrupted):
        tune.finetune(workspace, find_model(workspace), config, settings, minutes=0, on_validation=stop_at_15)
    assert list_runs(workspace)[-1].status()["state"] == "stopped"
    with pytest.raises(TatarLLMError, match="001-base is finished"):
        from tatar_llm.training.runs import newest_unfinished

        newest_unfinished(workspace)  # `train --resume` leaves it alone
    resumed = tune.resume(workspace)
    mine, theirs = (load_model_file(run.final_model)["model"] for run in (whole, resumed))
    assert all(mine[name].equal(theirs[name]) for name in mine)
    data.write_text(data.read_text(encoding="utf-8") + '\n{"instruction": "Нинди?", "output": "Зур."}', encoding="utf-8")
    resumed.write_status(state="stopped", step=3)
    shutil.copytree(_checkpoint_of(workspace, config, settings), resumed.checkpoints)
    with pytest.raises(TatarLLMError, match="conversations have changed"):
        tune.resume(workspace)


def _checkpoint_of(workspace: Workspace, config: ChatConfig, settings: TrainConfig) -> Path:
    """Checkpoints of a run that was stopped, in a workspace beside."""
    other = Workspace(workspace.root.parent / "other")
    shutil.copytree(workspace.root, other.root)

    def stop(_model: GPT, _step: int, _score: object) -> None:
        signal.raise_signal(signal.SIGINT)

    with pytest.raises(Interrupted):
        tune.finetune(other, find_model(other), config, settings, minutes=0, on_validation=stop)
    return list_runs(other)[-1].checkpoints


def test_the_builtin_conversations(ready: tuple[Workspace, Path], capsys: pytest.CaptureFixture) -> None:
    workspace, _ = ready
    settings = TrainConfig(**{**vars(QUICK), "max_iters": 2, "eval_interval": 2})
    run = tune.finetune(workspace, find_model(workspace), ChatConfig(), settings, minutes=0)
    assert run.status()["step"] == 2
    assert "far from learnt" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (["--builtin", "no"], "nothing to learn from"),
        (["--data", "nowhere.jsonl"], "no file or folder nowhere.jsonl"),
        (["--plain_share", "1"], "plain_share is 1.0"),
        (["--passes", "0"], "passes is 0"),
        (["--resume"], "no run to resume"),
        (["--resume", "--minutes", "3"], "leave out --minutes"),
        (["--model", "7"], "no run '7'"),
    ],
)
def test_bad_wishes(ready: tuple[Workspace, Path], capsys: pytest.CaptureFixture, flags: list[str], told: str) -> None:
    workspace, _ = ready
    assert main(["finetune", "--workspace", str(workspace.root), *flags]) in (1, 2)
    [line] = [line for line in capsys.readouterr().err.splitlines() if "error" in line]
    assert told in line


def test_a_language_without_conversations(ready: tuple[Workspace, Path]) -> None:
    workspace, _ = ready
    place = find_model(workspace)
    content = load_model_file(place.model)
    torch.save({**content, "language": "sah"}, place.model)
    with pytest.raises(TatarLLMError, match="language is sah: give --data"):
        tune.finetune(workspace, place, ChatConfig(), QUICK, minutes=0)


def test_a_conversation_longer_than_the_context_is_left_out(ready: tuple[Workspace, Path], capsys: pytest.CaptureFixture) -> None:
    workspace, data = ready
    data.write_text(data.read_text(encoding="utf-8") + "\n" + json.dumps({"instruction": "Сөйлә!", "output": "Урман. " * 80}), encoding="utf-8")
    settings = TrainConfig(**{**vars(QUICK), "max_iters": 1, "eval_interval": 1})
    tune.finetune(workspace, find_model(workspace), ChatConfig(data=(str(data),), builtin=False), settings, minutes=0)
    assert "1 conversations are left out" in capsys.readouterr().err


class Says:
    """Answers with the number of turns before it."""

    def stream(self, turns: list[Turn], _settings: Settings) -> Iterator[str]:
        yield from (" ", f"[bold]{len(turns)}", ".")


def test_the_terminal(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    import io

    file = tmp_path / "kept.jsonl"
    lines = f"Сәлам\n/retry\nТагын\n/save {file}\n/save {file}\n/reset\nЯңа\n/save\n/ \n\n/exit\nюк\n"
    monkeypatch.setattr("sys.stdin", io.StringIO(lines))
    Terminal(Says(), Settings(5), system="Кыска.").run()
    out = capsys.readouterr().out
    assert [line for line in out.splitlines() if "bold" in line] == ["[bold]2.", "[bold]2.", "[bold]4.", "[bold]2."]
    assert "is there already" in out.replace("\n", " ") and "/reset begins anew" in out
    told = json.loads(file.read_text(encoding="utf-8"))["messages"]
    assert [one["role"] for one in told] == ["system", "user", "assistant", "user", "assistant"]
