"""`tatar-llm chat`: a conversation in the terminal."""

from __future__ import annotations

import contextlib
import json
import sys
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from tatar_llm.chat.speaker import Speaker
from tatar_llm.chat.template import Turn
from tatar_llm.errors import TatarLLMError, explain_os_error
from tatar_llm.generation import Settings
from tatar_llm.workspace import write_text

HELP = "/reset begins anew · /retry answers again · /save FILE keeps the conversation · /system TEXT says how to behave · /exit or Ctrl-D ends"


class Terminal:
    """Reads questions, prints answers as they come, and remembers the conversation."""

    def __init__(self, speaker: Speaker, settings: Settings, system: str = "") -> None:
        self.speaker, self.settings = speaker, settings
        self.console = Console(highlight=False, soft_wrap=True)
        self.turns: list[Turn] = [Turn("system", system)] if system else []

    def run(self) -> None:
        """Talk until the user leaves."""
        self._remember_lines()
        interactive = sys.stdin.isatty()
        if interactive:
            self.console.print(f"[dim]{HELP}[/dim]")
        while True:
            try:
                text = (self.console.input("[bold green]> [/bold green]") if interactive else sys.stdin.readline())
            except (EOFError, KeyboardInterrupt):
                self.console.print()
                return
            if not interactive and not text:
                return
            text = text.strip()
            if text in ("/exit", "/quit"):
                return
            if text.startswith("/"):
                self._command(*text[1:].split(maxsplit=1))
            elif text:
                self.turns.append(Turn("user", text))
                self._answer()

    def _answer(self) -> None:
        """Stream the answer to the last turn; Ctrl-C ends it and keeps what was said."""
        said = ""
        with contextlib.suppress(KeyboardInterrupt):
            for piece in self.speaker.stream(self.turns, self.settings):
                piece = piece if said else piece.lstrip()
                said += piece
                self.console.print(escape(piece), end="")
                self.console.file.flush()
        self.console.print()
        if said.strip():
            self.turns.append(Turn("assistant", said.strip()))
        else:
            self.console.print("[dim](no answer)[/dim]")
            self.turns.pop()

    def _command(self, name: str = "", rest: str = "") -> None:
        if name == "reset":
            self.turns = [turn for turn in self.turns if turn.role == "system"]
            self.console.print("[dim]a new conversation[/dim]")
        elif name == "retry" and any(turn.role == "user" for turn in self.turns):
            while self.turns[-1].role != "user":
                self.turns.pop()
            self._answer()
        elif name == "save" and rest:
            self._save(Path(rest))
        elif name == "system" and rest:
            self.turns = [Turn("system", rest), *(turn for turn in self.turns if turn.role != "system")]
        else:
            self.console.print(f"[dim]{HELP}[/dim]")

    def _save(self, path: Path) -> None:
        """The conversation as a line of JSON that `finetune --data` reads."""
        row = {"messages": [{"role": turn.role, "content": turn.text} for turn in self.turns]}
        try:
            if path.exists():
                raise TatarLLMError(f"{path} is there already: take another name")
            write_text(path, json.dumps(row, ensure_ascii=False) + "\n")
            self.console.print(f"[dim]saved to {escape(str(path))}[/dim]")
        except OSError as error:
            self.console.print(f"[dim]not saved: {escape(explain_os_error(error))}[/dim]")
        except TatarLLMError as error:
            self.console.print(f"[dim]not saved: {escape(str(error))}[/dim]")

    @staticmethod
    def _remember_lines() -> None:
        """Arrow keys and former lines, where the system has readline."""
        with contextlib.suppress(ImportError):
            import readline  # noqa: F401
