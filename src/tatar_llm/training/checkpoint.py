"""Checkpoints: all that an exact resume needs, complete or absent, never torn."""

from __future__ import annotations

import contextlib
import pickle
import re
import shutil
import zipfile
from pathlib import Path
from typing import Any

import torch

from tatar_llm.errors import TatarLLMError
from tatar_llm.workspace import whole_folder

NAME = re.compile(r"step_(\d{6,})$")


def write_checkpoint(folder: Path, step: int, state: dict[str, Any], keep: int) -> Path:
    """Write `state` as folder/step_NNNNNN and remove all but the newest `keep` checkpoints."""
    target = folder / f"step_{step:06d}"
    with whole_folder(target) as temporary:
        torch.save(state, temporary / "state.pt")
    for old in checkpoints(folder)[:-keep]:
        shutil.rmtree(old, ignore_errors=True)
    return target


def checkpoints(folder: Path) -> list[Path]:
    """Complete checkpoints below `folder`, oldest first."""
    if not folder.is_dir():
        return []
    found = [(int(match[1]), path) for path in folder.iterdir() if (match := NAME.search(path.name))]
    return [path for _, path in sorted(found) if (path / "state.pt").is_file()]


def read_newest(folder: Path) -> dict[str, Any] | None:
    """The newest checkpoint that can be read, or None; leftovers of interrupted writes are removed."""
    for leftover in folder.glob(".step_*") if folder.is_dir() else ():
        shutil.rmtree(leftover, ignore_errors=True)
    for path in reversed(checkpoints(folder)):
        with contextlib.suppress(pickle.UnpicklingError, RuntimeError, EOFError, OSError, zipfile.BadZipFile):
            return torch.load(path / "state.pt", map_location="cpu", weights_only=True)
    return None


def random_state(device: torch.device) -> dict[str, Any]:
    """torch's random state on the CPU and on the device (dropout draws from it)."""
    state: dict[str, Any] = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        state["cuda"] = torch.cuda.get_rng_state(device)
    elif device.type == "mps":
        state["mps"] = torch.mps.get_rng_state()
    return state


def restore_random_state(state: dict[str, Any], device: torch.device) -> None:
    """Undo what was drawn since `random_state`."""
    torch.set_rng_state(state["cpu"])
    if device.type == "cuda" and "cuda" in state:
        torch.cuda.set_rng_state(state["cuda"], device)
    elif device.type == "mps" and "mps" in state:
        torch.mps.set_rng_state(state["mps"])


def need_checkpoint(folder: Path) -> dict[str, Any]:
    """The newest readable checkpoint; raises TatarLLMError where there is none."""
    state = read_newest(folder)
    if state is None:
        raise TatarLLMError(f"{folder} holds no readable checkpoint: this run cannot be resumed, start a new one")
    return state
