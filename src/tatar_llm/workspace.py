"""Where every artefact lies, and how it is written: whole or not at all, with a manifest of what it was made from."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tatar_llm.errors import TatarLLMError, explain_os_error


class Workspace:
    """The folder that one model's text, tokenizer, runs and reports share. All paths are below `root`; raises TatarLLMError where that is a file."""

    def __init__(self, root: str | Path = ".") -> None:
        self.root = Path(root)
        if self.root.is_file():
            raise TatarLLMError(f"the workspace {self.root} is a file, not a folder")
        self.raw = self.root / "data" / "raw"
        self.processed = self.root / "data" / "processed"
        self.train_text = self.processed / "train.txt"
        self.val_text = self.processed / "val.txt"
        self.corpus_manifest = self.processed / "manifest.json"
        self.tokens = self.root / "data" / "tokens"
        self.tokens_manifest = self.tokens / "manifest.json"
        self.tokenizer = self.root / "tokenizer"
        self.comparison = self.root / "data" / "compare"
        self.models = self.root / "models"
        self.runs = self.models / "runs"
        self.best_model = self.models / "best_model.pt"
        self.final_model = self.models / "final_model.pt"
        self.chat_model = self.models / "chat_model.pt"
        self.reports = self.root / "reports"
        self.exports = self.root / "exports"

    def ensure_writable(self) -> None:
        """Create the folder and prove that files can be made in it; raises TatarLLMError where they cannot."""
        probe = self.root / f".write-test-{os.getpid()}"
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            probe.write_bytes(b"x")
            probe.unlink()
        except OSError as error:
            raise TatarLLMError(f"the workspace {self.root} cannot be written: {explain_os_error(error)}") from error

    def need(self, path: Path, command: str) -> Path:
        """`path` if it exists; otherwise the error that names the command that makes it."""
        if not path.exists():
            raise TatarLLMError(f"{path} does not exist yet: run `{command}` first")
        return path

    def manifest(self, path: Path) -> dict[str, Any] | None:
        """A stage's manifest, or None when the stage has not finished here (or its manifest cannot be read)."""
        try:
            found = read_json(path)
        except (OSError, ValueError):
            return None
        return found if isinstance(found, dict) else None


def fingerprint(value: Any) -> str:
    """A short hash of settings and input hashes: equal when nothing that matters has changed."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, ensure_ascii=False).encode()).hexdigest()[:16]


def sha256_file(path: str | Path) -> str:
    """SHA-256 of a file's bytes as hexadecimal digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_json(path: str | Path) -> Any:
    """Parse a UTF-8 JSON file."""
    return json.loads(Path(path).read_text(encoding="utf-8"))


def write_json(path: str | Path, value: Any) -> None:
    """Write `value` as readable UTF-8 JSON, whole or not at all."""
    write_text(path, json.dumps(value, ensure_ascii=False, indent=1) + "\n")


def write_text(path: str | Path, text: str) -> None:
    """Write a UTF-8 file, whole or not at all."""
    with whole_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")


@contextlib.contextmanager
def whole_file(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; what was written there takes its place at the end, or vanishes on error."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        _sync(temporary)
        os.replace(temporary, path)
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def whole_folder(path: str | Path) -> Iterator[Path]:
    """The same for a folder. An existing folder at `path` is replaced only when the new one is complete."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    old = path.with_name(f".{path.name}.{os.getpid()}.old")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir()
    try:
        yield temporary
        for file in temporary.rglob("*"):
            if file.is_file():
                _sync(file)
        if path.exists():
            os.replace(path, old)
        os.replace(temporary, path)
    finally:
        if old.exists() and not path.exists():
            os.replace(old, path)
        shutil.rmtree(temporary, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)


def _sync(path: Path) -> None:
    with open(path, "rb+") as file:
        os.fsync(file.fileno())
