"""What a training leaves behind while it runs: metrics.jsonl, status.json, model files, TensorBoard's events."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator
from typing import Any

from tatar_llm.console import say
from tatar_llm.errors import TatarLLMError, explain_os_error
from tatar_llm.training.runs import Run
from tatar_llm.workspace import write_text


@contextlib.contextmanager
def keep_going(what: str) -> Iterator[None]:
    """A full disk must not end the training: warn, keep what was there before, go on."""
    try:
        yield
    except (OSError, RuntimeError) as error:
        reason = explain_os_error(error) if isinstance(error, OSError) else str(error).splitlines()[0]
        say(f"WARNING: {what} could not be written, training goes on: {reason}")


class Recorder:
    """Writes a run's metrics and status; does nothing in any but the first of several processes."""

    def __init__(self, run: Run, writes: bool = True, tensorboard: bool = False) -> None:
        self.run, self.writes = run, writes
        self.board: Any = _summary_writer(run) if tensorboard and writes else None

    def row(self, row: dict[str, Any]) -> None:
        """Append a line to metrics.jsonl, and to TensorBoard where it is wanted."""
        if not self.writes:
            return
        with keep_going("metrics.jsonl"), open(self.run.metrics, "a", encoding="utf-8", newline="\n") as log:
            log.write(json.dumps(row) + "\n")
        if self.board:
            with keep_going("TensorBoard's log"):
                for name, value in row.items():
                    if name not in ("step", "tokens") and isinstance(value, int | float):
                        self.board.add_scalar(name, value, row["tokens"])
                self.board.flush()

    def forget_after(self, step: int) -> None:
        """Drop the lines written after `step`: they will come again."""
        if self.writes:
            rows = [row for row in self.run.read_metrics() if row["step"] <= step]
            write_text(self.run.metrics, "".join(json.dumps(row) + "\n" for row in rows))

    def status(self, **facts: Any) -> None:
        """Tell `tatar-llm runs` where the run stands."""
        if self.writes:
            with keep_going("status.json"):
                self.run.write_status(**facts)

    def file(self, what: str, write: Callable[[], Any]) -> None:
        """Write something else, a warning being all that a full disk can do."""
        if self.writes:
            with keep_going(what):
                write()


def _summary_writer(run: Run) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise TatarLLMError("--tensorboard needs: pip install tensorboard") from error
    return SummaryWriter(str(run.folder / "tensorboard"))
