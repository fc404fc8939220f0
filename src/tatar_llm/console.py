"""Talk and progress, always on standard error, so that standard output holds results alone."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any


def use_utf8() -> None:
    """Tatar letters must reach any terminal or pipe, whatever code page Windows has set."""
    streams: tuple[Any, ...] = (sys.stdout, sys.stderr)
    for stream in streams:
        with contextlib.suppress(AttributeError, ValueError):
            stream.reconfigure(encoding="utf-8", errors="replace")


def say(text: str = "") -> None:
    """Print a line to standard error; of several processes that train together only the first one talks."""
    if first_process():
        print(text, file=sys.stderr, flush=True)


_said: dict[str, float] = {}


def say_seldom(text: str) -> None:
    """The same as `say`, the same line once a minute: what a server says must never be what holds it up."""
    now = time.monotonic()
    if text not in _said or now - _said[text] >= 60:
        if len(_said) >= 100:
            _said.clear()
        _said[text] = now
        say(text)


def say_error(text: str) -> None:
    """Print why a command failed, from any process: ``error: ...``."""
    who = "" if first_process() else f"process {os.environ['RANK']}: "
    print(f"{who}error: {text}", file=sys.stderr, flush=True)


def first_process() -> bool:
    """Whether this is the only process, or the first of those that torchrun has started."""
    return os.environ.get("RANK", "0") == "0"


def human_bytes(count: float) -> str:
    """1536 -> '1.5 KiB'."""
    for unit in ("bytes", "KiB", "MiB"):
        if count < 1024:
            return f"{count:.0f} {unit}" if unit == "bytes" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} GiB"


def human_time(seconds: float) -> str:
    """3725 -> '1 h 2 min'."""
    seconds = max(0, round(seconds))
    if seconds < 90:
        return f"{seconds} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


@contextlib.contextmanager
def progress(
    description: str, total: float | None, unit: str = "", start: int = 0
) -> Iterator[Callable[..., None]]:
    """A progress bar on a terminal, a line every ten seconds elsewhere.

    Yields a function ``advance(done, note="")`` that sets how much is done so far. `unit` is ``"bytes"`` to show
    sizes and rates, or the name of what is counted; `start` is what was done before, which says nothing about the rate.
    """
    if not first_process():
        yield lambda *_, **__: None
    elif sys.stderr.isatty():
        yield from _bar(description, total, unit, start)
    else:
        yield from _lines(description, total, unit, start)


def _bar(description: str, total: float | None, unit: str, start: int) -> Iterator[Callable[..., None]]:
    from rich import progress as rich_progress
    from rich.console import Console

    columns: list = [rich_progress.TextColumn("{task.description}"), rich_progress.BarColumn()]
    if unit == "bytes":
        columns += [rich_progress.DownloadColumn(), rich_progress.TransferSpeedColumn()]
    else:
        columns += [rich_progress.MofNCompleteColumn()]
    columns += [rich_progress.TimeRemainingColumn(), rich_progress.TextColumn("{task.fields[note]}")]
    with rich_progress.Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(description, total=total, completed=start, note="")

        def advance(done: float, note: str = "", total: float | None = None) -> None:
            bar.update(task, completed=done, total=total, note=note)

        yield advance


def _lines(description: str, total: float | None, unit: str, start: int) -> Iterator[Callable[..., None]]:
    started = last = time.monotonic()
    goal = total

    def amount(value: float) -> str:
        return human_bytes(value) if unit == "bytes" else f"{value:,.0f}"

    def advance(done: float, note: str = "", total: float | None = None) -> None:
        nonlocal last, goal
        goal = goal if total is None else total
        now = time.monotonic()
        if now - last < 10:
            return
        last = now
        rate = max(0.0, done - start) / (now - started)
        share = f" of {amount(goal)}" if goal else ""
        speed = f", {human_bytes(rate)}/s" if unit == "bytes" else ""
        left = f", {human_time((goal - done) / rate)} left" if goal and rate else ""
        kind = "" if unit in ("", "bytes") else f" {unit}"
        say(f"{description}: {amount(done)}{share}{kind}{speed}{left}{'  ' + note if note else ''}")

    yield advance
