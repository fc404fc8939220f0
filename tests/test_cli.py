"""The command line: what it accepts, what it refuses, and that every foreseen failure is one line."""

from __future__ import annotations

import errno
import json
import multiprocessing
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

import tatar_llm
from tatar_llm import commands
from tatar_llm import workspace as workspace_module
from tatar_llm.cli import given, main, parse
from tatar_llm.commands import shared
from tatar_llm.config import CorpusConfig, GPTConfig, TrainConfig
from tatar_llm.errors import TatarLLMError, UsageError

ROOT = Path(tatar_llm.__file__).parents[2]


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    handler = signal.getsignal(signal.SIGTERM)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TATAR_LLM_DEVICE", "cpu")
    yield
    signal.signal(signal.SIGTERM, handler)


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str]) -> Callable[..., SimpleNamespace]:
    def run(*arguments: str) -> SimpleNamespace:
        code = main(list(arguments))
        captured = capsys.readouterr()
        return SimpleNamespace(code=code, out=captured.out, err=captured.err, lines=captured.err.splitlines())

    return run


def one_error(done: SimpleNamespace, code: int) -> str:
    """The one line that a failed command says, as its last."""
    assert done.code == code and done.out == "" and "Traceback" not in done.err
    assert [line for line in done.lines if line.startswith("error: ")] == done.lines[-1:]
    return done.lines[-1]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["train", "--n_layr", "3"], "unknown option --n_layr (did you mean --n_layer?); see `tatar-llm train --help`"),
        (["prepare", "--sourse=sample"], "unknown option --sourse (did you mean --source?)"),
        (["generate", "one", "two"], "unknown argument two"),
        (["runs", "-x"], "unknown option -x"),
        (["trian"], "'trian'"),
        ([], "VERB"),
        (["train", "--n_layer", "many"], "argument --n_layer: invalid int value: 'many'"),
        (["train", "--n_layer"], "expected one argument"),
        (["train", "--tie_weights", "perhaps"], "'perhaps' is neither true nor false"),
        (["train", "--minutes", "0"], "0 minutes are no time to train in"),
        (["train", "--minutes", "abc"], "argument --minutes: 'abc' is no number"),
        (["serve", "--port", "8000.5"], "is no whole number"),
        (["run", "--minutes", "nan"], "nan minutes are no time"),
        (["run", "--minutes", "soon"], "--minutes"),
        (["generate", "x", "--samples", "-1"], "-1 must lie between 0 and 10000"),
        (["export"], "format"),
        (["export", "coreml"], "'coreml'"),
    ],
)
def test_wrong_usage_is_2(call: Callable[..., SimpleNamespace], arguments: list[str], said: str) -> None:
    assert said in one_error(call(*arguments), 2)


def test_dashes_and_underscores_are_the_same() -> None:
    for flag in ("--n_layer", "--n-layer"):
        assert parse(["train", flag, "3"]).n_layer == 3
        assert parse(["train", f"{flag}=3"]).n_layer == 3
    both = parse(["train", "--gradient-accumulation-steps", "2", "--learning-rate=3e-4", "--min-lr", "0"])
    assert given(both, TrainConfig) == {"gradient_accumulation_steps": 2, "learning_rate": 3e-4, "min_lr": 0.0}


def test_values_are_left_as_they_are() -> None:
    args = parse(["generate", "ак-кара – сүз", "--model", "my-run-1", "--max-new-tokens=5"])
    assert (args.prompt, args.model, args.max_new_tokens) == ("ак-кара – сүз", "my-run-1", 5)
    assert parse(["prepare", "--source=a-b=c-d"]).source == ["a-b=c-d"]
    assert parse(["generate", "--", "--n-layer"]).prompt == "--n-layer"


def test_flags_of_every_kind() -> None:
    assert parse(["train", "--tie_weights", "no"]).tie_weights is False
    assert parse(["train", "--gradient_checkpointing"]).gradient_checkpointing is True
    assert given(parse(["prepare", "--source", "a", "--source", "b"]), CorpusConfig) == {"source": ("a", "b")}
    assert given(parse(["train"]), GPTConfig) == {}
    with pytest.raises(UsageError):
        parse(["train", "--n_lay", "3"])  # no abbreviations: they break when a flag is added


def test_the_command_line_reaches_the_recipe() -> None:
    args = parse(["train", "--recipe", "tiny", "--n-layer", "5", "--max-iters", "7"])
    args.default_recipe = "base"
    recipe = shared.chosen_recipe(args)
    assert (recipe.name, recipe.model.n_layer, recipe.train.max_iters) == ("tiny", 5, 7)
    assert not shared.size_is_free(args)
    for flags, free in (([], True), (["--vocab_size", "500"], True), (["--n_embd", "64"], False), (["--recipe", "base"], False)):
        args = parse(["run", *flags])
        args.default_recipe = "seed"
        assert shared.size_is_free(args) is free
        assert shared.chosen_recipe(args).name == ("base" if "base" in flags else "seed")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["tokenizer"], "run `tatar-llm prepare` first"),
        (["train"], "run `tatar-llm prepare` first"),
        (["evaluate"], "run `tatar-llm prepare` first"),
        (["generate", "Казан", "--model", "003"], "no run '003': nothing has been trained yet: run `tatar-llm train`"),
        (["generate", "Казан", "--model", "absent.pt"], "no model at absent.pt"),
        (["train", "--resume"], "no run to resume: start one with `tatar-llm train`"),
        (["train", "--recipe", "tyni"], "did you mean tiny?"),
        (["generate", "x", "--temperature", "-1"], "temperature is -1.0: it must lie between 0 and 100"),
        (["tokenizer", "--vocab_size", "100"], "vocab_size 100 is out of range"),
        (["prepare", "--source", "leipzig-mixed-2015-1"], "did you mean leipzig-mixed-2015-1"),
        (["prepare", "--source", "absent.txt"], "no source or file 'absent.txt'"),
        (["prepare", "--language", "tar"], "no language 'tar' (did you mean tat?)"),
        (["prepare", "--source", "sample", "--val_share", "0"], "val_share is 0.0"),
    ],
)
def test_what_is_missing_is_one_line(call: Callable[..., SimpleNamespace], arguments: list[str], said: str) -> None:
    assert said in one_error(call(*arguments), 1)


def test_train_names_the_tokenizer_when_only_that_is_missing(call: Callable[..., SimpleNamespace], tmp_path: Path) -> None:
    place = workspace_module.Workspace(tmp_path / "w")
    workspace_module.write_text(place.train_text, "бер\n")
    assert "run `tatar-llm tokenizer` first" in one_error(call("train", "--workspace", str(place.root)), 1)


def test_runs_of_an_empty_workspace(call: Callable[..., SimpleNamespace], tmp_path: Path) -> None:
    done = call("runs", "--workspace", str(tmp_path / "new"))
    assert (done.code, done.out) == (0, "") and "no runs yet: start one with `tatar-llm train`" in done.err
    done = call("runs", "--json", "--workspace", str(tmp_path / "new"))
    assert (done.code, json.loads(done.out)) == (0, {"runs": []})
    assert not (tmp_path / "new").exists()  # looking makes nothing


@pytest.mark.parametrize("verb", ["prepare", "tokenizer", "train", "evaluate", "run"])
def test_a_file_as_workspace(call: Callable[..., SimpleNamespace], tmp_path: Path, verb: str) -> None:
    (tmp_path / "file").write_text("mine")
    assert "is a file, not a folder" in one_error(call(verb, "--workspace", "file"), 1)
    assert (tmp_path / "file").read_text() == "mine"


def test_json_is_one_object_and_nothing_else(call: Callable[..., SimpleNamespace]) -> None:
    done = call("prepare", "--source", "sample", "--sample_size", "20000", "--json")
    assert done.code == 0
    manifest = json.loads(done.out)
    assert manifest["corpus"] == "sample" and manifest["fallback"] is None and manifest["language"] == "tat"
    done = call("tokenizer", "--vocab-size", "600", "--json")
    assert done.code == 0
    told = json.loads(done.out)
    assert told["tokenizer"]["vocab_size"] == 600 and told["tokens"]["train"]["tokens"] > 1000
    again = call("tokenizer", "--vocab_size=600", "--json")
    assert json.loads(again.out) == told and "nothing changed" in again.err


def test_doctor(call: Callable[..., SimpleNamespace], monkeypatch: pytest.MonkeyPatch) -> None:
    from tatar_llm import doctor

    monkeypatch.setattr(doctor, "measure_flops", lambda *_: 5e10)
    monkeypatch.setattr(doctor, "measure_peak", lambda *_: 1e11)
    facts = json.loads(call("doctor", "--json").out)
    assert facts.keys() == {
        "tatar_llm", "python", "torch", "platform", "device", "precision", "compile", "threads", "reasons", "gflops",
        "peak_gflops", "share_of_peak", "recipes",
    }  # fmt: skip
    assert facts["device"] == "cpu" and facts["gflops"] == 50
    assert {row["recipe"] for row in facts["recipes"]} >= {"tiny", "base", "large"}
    assert all(row["tokens_per_second"] > 0 for row in facts["recipes"])
    shown = call("doctor")
    assert shown.code == 0 and "50.0 GFLOP/s" in shown.out and "50% of what" in shown.out and "23." in shown.out


def test_a_report_on_a_machine_that_nobody_has(
    tmp_path: Path, call: Callable[..., SimpleNamespace], monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    from tatar_llm import doctor

    monkeypatch.setattr(doctor, "measure_flops", lambda *_: 5e10)
    monkeypatch.setattr(doctor, "measure_peak", lambda *_: 1e11)
    monkeypatch.setattr(doctor, "native_precision", lambda _: ("fp32", ""))  # whatever this CPU can
    monkeypatch.setenv("OMP_SECRET", str(Path.home() / "x"))
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)  # and then it fails
    monkeypatch.delenv("TATAR_LLM_DEVICE", raising=False)
    done = call("doctor", "--report", "--workspace", str(tmp_path))
    assert done.code == 0, done.err
    text = (tmp_path / "doctor-report.md").read_text(encoding="utf-8")
    assert "| as on the CPU |" in text and "| failed: Traceback" in text
    assert f"OMP_SECRET=~{os.sep}x" in text and f"torch {torch.__version__}" in text
    wrong = iter([(6.0, 1.0), (6.0, 1.0), (6.5, 1.0)])
    monkeypatch.setattr(doctor, "_step", lambda *_: next(wrong))
    assert [row[-1] for row in doctor.check_devices()] == ["as on the CPU", "WRONG: 8.3% off"]


def failing(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    def fail(_args: object) -> int:
        raise error

    monkeypatch.setattr(commands, "runs", fail)


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (OSError(errno.ENOSPC, "No space left on device", "train.txt"), "the disk is full at train.txt: free some space"),
        (PermissionError(errno.EACCES, "Permission denied", "x"), "no permission to write at x: choose another folder with --workspace"),
        (OSError(errno.EIO, "Input/output error"), "error: Input/output error"),
        (MemoryError(), "not enough memory: take a smaller --batch_size"),
        (RuntimeError("CUDA out of memory. Tried to allocate"), "not enough memory"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), "not enough memory"),
        (TatarLLMError("what happened: what to do"), "error: what happened: what to do"),
    ],
)  # fmt: skip
def test_what_the_machine_refuses_is_one_line(
    call: Callable[..., SimpleNamespace], monkeypatch: pytest.MonkeyPatch, error: Exception, said: str
) -> None:
    failing(monkeypatch, error)
    assert said in one_error(call("runs"), 1)


def test_an_error_that_nobody_foresaw_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    failing(monkeypatch, RuntimeError("a bug"))
    with pytest.raises(RuntimeError, match="a bug"):
        main(["runs"])


def test_a_disk_that_fills_while_writing_the_corpus(
    call: Callable[..., SimpleNamespace], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(workspace_module.os, "fsync", full)
    assert "the disk is full" in one_error(call("prepare", "--source", "sample", "--sample_size", "20000"), 1)
    assert [path for path in (tmp_path / "data").rglob("*") if path.is_file()] == []


def test_ctrl_c_is_130(call: Callable[..., SimpleNamespace], monkeypatch: pytest.MonkeyPatch) -> None:
    failing(monkeypatch, KeyboardInterrupt())
    done = call("runs")
    assert done.code == 130 and "the same command goes on from there" in done.err


def test_sigterm_is_143(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commands, "runs", lambda _args: signal.raise_signal(signal.SIGTERM))
    with pytest.raises(SystemExit) as end:
        main(["runs"])
    assert end.value.code == 143


def test_help_and_version(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (["--help"], ["--version"], ["train", "--help"], ["run", "--help"]):
        with pytest.raises(SystemExit) as end:
            main(arguments)
        assert not end.value.code
    shown = capsys.readouterr().out
    assert tatar_llm.__version__ in shown and "Optimizer steps." in shown  # the line under the field


def script(name: str, *arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(ROOT / name), *arguments]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, encoding="utf-8", timeout=120)


@pytest.mark.skipif(not (ROOT / "03_train.py").is_file(), reason="not a checkout")
@pytest.mark.parametrize(
    ("name", "arguments", "code", "said"),
    [
        ("01_prepare_data.py", ["--source", "absent.txt"], 1, "no source or file 'absent.txt'"),
        ("02_train_tokenizer.py", [], 1, "run `tatar-llm prepare` first"),
        ("02_train_tokenizer.py", ["--vocab_siz", "5"], 2, "did you mean --vocab_size?"),
        ("03_train.py", [], 1, "run `tatar-llm prepare` first"),
        ("quick_test.py", ["--sampels", "1"], 2, "did you mean --samples?"),
    ],
)
def test_front_doors_from_anywhere(tmp_path: Path, name: str, arguments: list[str], code: int, said: str) -> None:
    done = script(name, *arguments, folder=tmp_path)
    assert done.returncode == code, done.stderr
    assert done.stdout == "" and len(done.stderr.splitlines()) == 1 and said in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_spawned_process_prepares(tmp_path: Path) -> None:
    """Windows and macOS start workers by spawn: nothing may depend on what a fork would have carried over."""
    arguments = ["prepare", "--source", "sample", "--sample_size", "20000", "--workspace", str(tmp_path)]
    process = multiprocessing.get_context("spawn").Process(target=run_and_exit, args=(arguments,))
    process.start()
    process.join(120)
    assert process.exitcode == 0
    assert (tmp_path / "data" / "processed" / "train.txt").stat().st_size > 100_000


def run_and_exit(arguments: list[str]) -> None:
    raise SystemExit(main(arguments))
