"""Conversations of the user's own, in the forms in which they lie about, checked one by one.

Messages: {"messages": [{"role", "content"}, ...]}, as OpenAI's fine-tuning takes them. Alpaca: {"instruction", "input",
"output"}. ShareGPT: {"conversations": [{"from": "human", "value"}, ...]}. Each as JSON lines, as one JSON list, or as parquet.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tatar_llm.chat.template import Turn, check_turns
from tatar_llm.errors import TatarLLMError

SPEAKERS = {"human": "user", "gpt": "assistant", "user": "user", "assistant": "assistant", "system": "system", "developer": "system",
            "chatgpt": "assistant", "bot": "assistant", "model": "assistant", "bing": "assistant"}  # fmt: skip
FORMS = "messages, Alpaca (instruction, output) or ShareGPT (conversations)"
HUB_ID = 2
"""Parts of a Hugging Face data set's id: USER/NAME."""


@dataclass
class Loaded:
    """What a file held."""

    conversations: list[list[Turn]] = field(default_factory=list)
    places: list[str] = field(default_factory=list)
    """Of each conversation, for messages about it: "FILE, line 12"."""


def load_conversations(wanted: str) -> Loaded:
    """The conversations of a file, of a folder's files, or of a Hugging Face data set (USER/NAME).

    Raises:
        TatarLLMError: naming file, line and reason, for the first conversation that is not one.
    """
    path = Path(wanted)
    if path.is_dir():
        files = sorted(file for file in path.iterdir() if file.suffix in (".jsonl", ".json", ".parquet"))
        if not files:
            raise TatarLLMError(f"{path} holds no .jsonl, .json or .parquet")
    elif path.is_file():
        files = [path]
    else:
        files = _from_hub(wanted)
    loaded = Loaded()
    for file in files:
        for place, row in _rows(file):
            turns = as_turns(row, place)
            if problem := check_turns(turns):
                raise TatarLLMError(f"{place}: {problem}")
            loaded.conversations.append(turns)
            loaded.places.append(place)
    if not loaded.conversations:
        raise TatarLLMError(f"{wanted} is empty: no conversation is in it")
    return loaded


def as_turns(row: Any, place: str) -> list[Turn]:
    """A row in any of the known forms; raises TatarLLMError naming the place where it is none."""
    if not isinstance(row, dict):
        raise TatarLLMError(f"{place}: an object is wanted, not {type(row).__name__}")
    if isinstance(row.get("messages"), list):
        return [_turn(one, "role", "content", place) for one in row["messages"]]
    if isinstance(row.get("conversations"), list):
        return [_turn(one, "from", "value", place) for one in row["conversations"]]
    if "instruction" in row and "output" in row:
        asked = "\n".join(_text(row.get(key) or "", key, place) for key in ("instruction", "input") if row.get(key))
        return [Turn("user", asked), Turn("assistant", _text(row["output"], "output", place))]
    raise TatarLLMError(f"{place}: no conversation in a known form ({FORMS}); its keys are {', '.join(map(str, row)) or 'none'}")


def _turn(one: Any, role: str, text: str, place: str) -> Turn:
    if not isinstance(one, dict) or role not in one or text not in one:
        raise TatarLLMError(f"{place}: each turn needs {role!r} and {text!r}")
    speaker = str(one[role])
    return Turn(SPEAKERS.get(speaker.lower(), speaker), _text(one[text], text, place))


def _text(value: Any, key: str, place: str) -> str:
    if isinstance(value, list) and all(isinstance(part, dict) and part.get("type") == "text" for part in value):
        value = "".join(str(part.get("text", "")) for part in value)
    if not isinstance(value, str):
        raise TatarLLMError(f"{place}: {key!r} must be text, not {type(value).__name__}")
    return value.strip()


def _rows(path: Path) -> Iterator[tuple[str, Any]]:
    """(where, row) of a JSON list, JSON lines or parquet."""
    if path.suffix == ".parquet":
        yield from _parquet_rows(path)
        return
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        number = path.read_bytes()[: error.start].count(b"\n") + 1
        raise TatarLLMError(f"{path}, line {number}: not UTF-8") from error
    if text.lstrip().startswith("["):
        try:
            rows = json.loads(text)
        except ValueError as error:
            raise TatarLLMError(f"{path}: not valid JSON ({error})") from error
        yield from ((f"{path}, number {number}", row) for number, row in enumerate(rows, 1))
        return
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            try:
                row = json.loads(line)
            except (ValueError, RecursionError) as error:
                raise TatarLLMError(f"{path}, line {number}: not valid JSON ({error})") from error
            yield f"{path}, line {number}", row


def _parquet_rows(path: Path) -> Iterator[tuple[str, Any]]:
    try:
        from pyarrow import ArrowException, parquet
    except ImportError as error:
        raise TatarLLMError(f"{path.name} needs another library: pip install pyarrow") from error
    try:
        file = parquet.ParquetFile(path)
        number = 0
        for batch in file.iter_batches():
            for row in batch.to_pylist():
                number += 1
                yield f"{path}, row {number}", row
    except (ArrowException, OSError) as error:
        raise TatarLLMError(f"{path} is no readable parquet file") from error


def _from_hub(wanted: str) -> list[Path]:
    """The data files of a Hugging Face data set, downloaded into its cache."""
    parts = wanted.split("/")
    if len(parts) != HUB_ID or wanted.startswith((".", "~")) or Path(wanted).suffix in (".json", ".jsonl", ".parquet"):
        raise TatarLLMError(f"no file or folder {wanted}, and it is no data set of the Hugging Face Hub (USER/NAME) either")
    try:
        from huggingface_hub import snapshot_download
    except ImportError as error:
        raise TatarLLMError(f"{wanted} would come from the Hugging Face Hub: pip install huggingface_hub") from error
    try:
        folder = Path(snapshot_download(wanted, repo_type="dataset", allow_patterns=["*.jsonl", "*.json", "*.parquet"]))
    except Exception as error:  # the library raises whatever its many layers raise
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise TatarLLMError(f"no file {wanted} here, and the data set {wanted} cannot be had from the Hub ({reason[:160]})") from error
    files = sorted(file for suffix in ("jsonl", "json", "parquet") for file in folder.rglob(f"*.{suffix}"))
    if not files:
        raise TatarLLMError(f"the data set {wanted} holds no .jsonl, .json or .parquet")
    return files
