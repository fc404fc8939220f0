"""Runs: one training each, complete in itself, never overwritten. And which model a name means."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from tatar_llm.errors import TatarLLMError, nearest
from tatar_llm.languages import LANGUAGE_FILE
from tatar_llm.model.stock import is_hf_folder
from tatar_llm.workspace import Workspace, read_json, sha256_file, write_json

SHIPPED = "shipped"
"""Name of the model that comes with the package."""
CHAT = "chat"
"""Kind of a run that teaches a model to answer; others have none."""
NUMBER = re.compile(r"(\d{3,})-(.+)$")


@dataclass(frozen=True)
class Run:
    """A folder models/runs/NNN-NAME."""

    folder: Path

    @property
    def label(self) -> str:
        return self.folder.name

    @property
    def best_model(self) -> Path:
        return self.folder / "best_model.pt"

    @property
    def final_model(self) -> Path:
        return self.folder / "final_model.pt"

    @property
    def tokenizer(self) -> Path:
        return self.folder / "tokenizer"

    @property
    def checkpoints(self) -> Path:
        return self.folder / "checkpoints"

    @property
    def metrics(self) -> Path:
        return self.folder / "metrics.jsonl"

    @property
    def curve(self) -> Path:
        return self.folder / "curve.png"

    def is_chat(self) -> bool:
        """Whether a model is taught to answer in it."""
        try:
            return self.settings().get("kind") == CHAT
        except TatarLLMError:  # one damaged run must not hide the others
            return False

    def settings(self) -> dict[str, Any]:
        """Everything resolved before the first step: model, train, plan, corpus, hashes."""
        return self._read("settings.json")

    def status(self) -> dict[str, Any]:
        """Where the run stands: state (running, finished, stopped, damaged), step, best bits per byte, seconds."""
        try:
            return self._read("status.json")
        except TatarLLMError:  # one damaged run must not hide the others
            return {"state": "damaged", "step": 0}

    def bits_per_byte(self) -> float | None:
        """The best on held-out text; of a run that teaches to answer, on plain text at its end."""
        return self.status().get("plain_after" if self.is_chat() else "best_bits_per_byte")

    def write_status(self, **facts: Any) -> None:
        write_json(self.folder / "status.json", facts)

    def read_metrics(self) -> list[dict[str, Any]]:
        """All whole lines of metrics.jsonl."""
        return list(_json_lines(self.metrics))

    def _read(self, name: str) -> dict[str, Any]:
        try:
            return read_json(self.folder / name)
        except (OSError, ValueError) as error:
            raise TatarLLMError(f"{self.folder / name} cannot be read: this run is damaged") from error


def _json_lines(path: Path) -> Iterator[dict[str, Any]]:
    if not path.is_file():
        return
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            yield json.loads(line)
        except ValueError:  # the line being written when the machine went down
            return


def list_runs(workspace: Workspace) -> list[Run]:
    """All runs, oldest first."""
    if not workspace.runs.is_dir():
        return []
    found = [(int(match[1]), path) for path in workspace.runs.iterdir() if (match := NUMBER.fullmatch(path.name))]
    return [Run(path) for _, path in sorted(found) if (path / "settings.json").is_file()]


def new_run(workspace: Workspace, name: str, settings: dict[str, Any], tokenizer: Path | None = None) -> Run:
    """Make the next run's folder, with its settings and its own copy of the tokenizer (the workspace's, if not given)."""
    taken = [int(match[1]) for path in workspace.runs.glob("*") if (match := NUMBER.fullmatch(path.name))]
    number = max(taken, default=0) + 1
    safe = re.sub(r"[^\w.-]+", "-", name).strip("-") or "run"
    while True:
        folder = workspace.runs / f"{number:03d}-{safe}"
        try:
            folder.mkdir(parents=True)
            break
        except FileExistsError:
            number += 1
    _copy_tokenizer(tokenizer or workspace.tokenizer, folder / "tokenizer")
    if (workspace.processed / LANGUAGE_FILE).is_file():
        shutil.copyfile(workspace.processed / LANGUAGE_FILE, folder / LANGUAGE_FILE)
    run = Run(folder)
    write_json(folder / "settings.json", settings)
    run.write_status(state="running", step=0)
    return run


def _copy_tokenizer(source: Path, target: Path) -> None:
    if not is_hf_folder(source):
        shutil.copytree(source, target)
        return
    target.mkdir()  # of a Hugging Face folder only what tells of the tokenizer
    for name in ("tokenizer.json", "tokenizer_config.json", "config.json"):
        shutil.copyfile(source / name, target / name)


def find_run(workspace: Workspace, name: str) -> Run:
    """The run called NNN, NAME or NNN-NAME (the newest of that name)."""
    runs = list_runs(workspace)
    for run in reversed(runs):
        number, label = run.label.split("-", 1)
        if name in (run.label, label, number) or (name.isdigit() and int(name) == int(number)):
            return run
    labels = [run.label for run in runs]
    there = f"there are {', '.join(labels)}" if labels else "nothing has been trained yet: run `tatar-llm train`"
    raise TatarLLMError(f"no run {name!r}{nearest(name, labels)}: {there}")


def newest_unfinished(workspace: Workspace, chat: bool = False) -> Run:
    """The newest run of its kind, if it can go on; raises TatarLLMError where there is nothing to resume."""
    command = "finetune" if chat else "train"
    runs = [run for run in list_runs(workspace) if run.is_chat() == chat]
    if not runs:
        raise TatarLLMError(f"no run to resume: start one with `tatar-llm {command}`")
    run = runs[-1]
    if run.status().get("state") == "finished":
        raise TatarLLMError(f"run {run.label} is finished: start a new one with `tatar-llm {command}`")
    return run


@dataclass(frozen=True)
class ModelPlace:
    """Where a model and its own tokenizer lie."""

    name: str
    model: Path
    tokenizer: Path

    def check(self, facts: dict[str, Any]) -> None:
        """Raise TatarLLMError where the tokenizer is another than the model's `facts` tell; a Hugging Face folder has its own."""
        told = facts.get("tokenizer_sha256")
        if not is_hf_folder(self.model) and told not in (None, sha256_file(self.tokenizer / "tokenizer.json")):
            raise TatarLLMError(f"{self.model} was trained with another tokenizer than {self.tokenizer}")


def find_model(workspace: Workspace, wanted: str = "", *, chat: bool = False) -> ModelPlace:
    """The model that `--model` names: a run's number or name, "shipped", a path to a .pt file, a run's folder or a
    Hugging Face folder that was exported here.

    Without a name: with `chat` the newest that has been taught to answer; else, of the other runs measured on the same
    validation text as the newest one, the one with the fewest bits per byte; where nothing has been trained, the model that is
    shipped.
    """
    if wanted == SHIPPED:
        return shipped() or _noshipped()
    if wanted:
        path = Path(wanted)
        if is_hf_folder(path):
            return ModelPlace(path.name, path, path)
        if path.is_dir() and (path / "best_model.pt").is_file():
            return ModelPlace(path.name, path / "best_model.pt", _tokenizer_beside(path / "best_model.pt", workspace))
        if path.is_file():
            return ModelPlace(str(path), path, _tokenizer_beside(path, workspace))
        if path.suffix == ".pt" or "/" in wanted or "\\" in wanted:
            raise TatarLLMError(f"no model at {wanted}: see `tatar-llm runs`")
        run = find_run(workspace, wanted)
    else:
        best = (_newest_chat(workspace) if chat else None) or _best_run(workspace)
        if best is None:
            return shipped() or _no_model()
        run = best
    if not run.best_model.is_file():
        raise TatarLLMError(f"run {run.label} has no model yet: let it train to its first validation")
    return ModelPlace(run.label, run.best_model, run.tokenizer)


def shipped() -> ModelPlace | None:
    """The small model that comes with the package, in the wheel or in the checkout."""
    package = Path(__file__).resolve().parents[1]
    for folder in (package / "pretrained", package.parents[1] / "pretrained"):
        if is_hf_folder(folder):
            return ModelPlace(SHIPPED, folder, folder)
    return None


def _noshipped() -> NoReturn:
    raise TatarLLMError("no model is shipped with this installation: train one with `tatar-llm run`")


def _no_model() -> NoReturn:
    raise TatarLLMError("no model has been trained yet: run `tatar-llm train`")


def _newest_chat(workspace: Workspace) -> Run | None:
    runs = [run for run in list_runs(workspace) if run.best_model.is_file() and run.is_chat()]
    return runs[-1] if runs else None


def _best_run(workspace: Workspace) -> Run | None:
    runs = [run for run in list_runs(workspace) if run.best_model.is_file() and not run.is_chat()]
    if not runs:
        return None
    text = runs[-1].settings().get("val_text_sha256")
    alike = [run for run in runs if run.settings().get("val_text_sha256") == text]
    return min(alike, key=lambda run: run.bits_per_byte() or float("inf"))


def _tokenizer_beside(model: Path, workspace: Workspace) -> Path:
    for folder in (model.parent / "tokenizer", model.parent.parent / "tokenizer", workspace.tokenizer):
        if (folder / "tokenizer.json").is_file():
            return folder
    raise TatarLLMError(f"no tokenizer beside {model}: put its tokenizer/ folder there")
