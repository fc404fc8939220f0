"""What the cleaning does to one line, step by step: `tatar-llm prepare --explain "some line"`."""

from __future__ import annotations

import mmap
from pathlib import Path
from typing import Any

from tatar_llm.config import CorpusConfig
from tatar_llm.corpus.clean import ROUNDS, Cleaner
from tatar_llm.corpus.language import cld2
from tatar_llm.corpus.mend import split_long
from tatar_llm.corpus.overlap import Overlap
from tatar_llm.languages import load_language
from tatar_llm.workspace import Workspace


def explain(line: str, config: CorpusConfig, workspace: Workspace, overlap: Overlap | None = None) -> dict[str, Any]:
    """The fate of a line of a list of sentences: {"line", "steps": [{"step", "does", "line"}], "kept", "result", "where"}.

    "does" says "nothing", "changed" or why the line is dropped; the steps end there. "where" names the finished file that
    holds the result: "train.txt", "val.txt" or None, since repeats are judged over a whole corpus.
    """
    cleaner = Cleaner(load_language(config.language), config, cld2())
    steps: list[dict[str, str]] = []
    given = line
    parts = split_long(line, config.max_chars)
    if len(parts) > 1:
        steps.append({"step": "long line", "does": f"cut into {len(parts)} lines; the first goes on", "line": parts[0]})
        line = parts[0]
    for turn in range(ROUNDS):
        before = line
        for name, step in cleaner.steps:
            mended = step(line)
            if mended != line or not turn:
                steps.append({"step": name, "does": "changed" if mended != line else "nothing", "line": mended})
            line = mended
        if line == before:
            break
    kept = True
    for name, rule in cleaner.rules:
        found = rule(line, True)
        does = "nothing" if found is None else f"dropped: {found.rule}" + (f" ({found.detail})" if found.detail else "")
        steps.append({"step": name, "does": does, "line": line})
        if found:
            kept = False
            break
    if kept and overlap and (text := overlap.find(line)):
        steps.append({"step": "evaluation text", "does": f"dropped: shares words in a row with {text}", "line": line})
        kept = False
    where = next((path.name for path in (workspace.train_text, workspace.val_text) if kept and _holds(path, line)), None)
    return {"line": given, "steps": steps, "kept": kept, "result": line if kept else None, "where": where}


def render(told: dict[str, Any]) -> str:
    """The same for people."""
    out = [f"line: {told['line']!r}"]
    for step in told["steps"]:
        out.append(f"  {step['step']:<24} {step['does']}" + (f": {step['line']}" if step["does"].startswith(("changed", "cut")) else ""))
    if not told["kept"]:
        out.append("result: dropped")
    else:
        out.append(f"result: kept as {told['result']!r}")
        out.append(f"It stands in the finished {told['where']}." if told["where"] else
                   "Repeats and page furniture are judged over a whole corpus; the finished corpus here does not hold this line.")
    return "\n".join(out)


def _holds(path: Path, line: str) -> bool:
    """Whether a text file has this line."""
    if not path.is_file() or not path.stat().st_size or not line:
        return False
    wanted = b"\n" + line.encode() + b"\n"
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as text:
        return text.find(wanted) >= 0 or text[: len(wanted) - 1] == wanted[1:]
