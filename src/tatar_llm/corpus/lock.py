"""One process at a time: a lock file that a dead process cannot hold for ever. Portable, therefore without fcntl."""

from __future__ import annotations

import contextlib
import json
import os
import platform
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

from tatar_llm import console

HEARTBEAT = 10.0
"""Seconds between two signs of life, which are the lock file's time of change."""
STALE = 60.0
"""Seconds without one after which the holder counts as dead."""


@contextlib.contextmanager
def only_one(path: Path, purpose: str, poll: float = 0.5) -> Iterator[None]:
    """Hold the lock file `path` while the block runs; wait for another process that holds it, saying so once.

    A holder that was killed is noticed by its process number on the same machine, elsewhere when its signs of life
    stop. Two who take over a dead one's lock in the same millisecond may both go on: what they make must be checked.
    """
    mine = json.dumps({"pid": os.getpid(), "host": platform.node(), "token": uuid.uuid4().hex})
    told = False
    while not _taken(path, mine):
        if _abandoned(path):
            path.unlink(missing_ok=True)
            continue
        if not told:
            console.say(f"another process is at work on {purpose}: waiting for it")
            told = True
        time.sleep(poll)
    over = threading.Event()
    thread = threading.Thread(target=_beat, args=(path, over), daemon=True, name="tatar-llm-lock")
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
        with contextlib.suppress(OSError):
            if path.read_text(encoding="utf-8") == mine:
                path.unlink()


def _taken(path: Path, text: str) -> bool:
    try:
        file = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY)
    except FileExistsError:
        return False
    with os.fdopen(file, "w", encoding="utf-8") as stream:
        stream.write(text)
    return True


def _abandoned(path: Path) -> bool:
    try:
        silent = time.time() - path.stat().st_mtime
        text = path.read_text(encoding="utf-8")
    except OSError:
        return False  # given back this moment
    try:
        holder = json.loads(text)
        dead = holder["host"] == platform.node() and not process_lives(holder["pid"])
    except (ValueError, TypeError, KeyError):
        dead = False  # not yet written
    return dead or silent > STALE


def process_lives(pid: int) -> bool:
    """Whether a process of this number runs on this machine; on Windows, where asking is not harmless, always True."""
    if os.name == "nt":
        return True  # os.kill would end it there: the signs of life decide
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:  # it is somebody else's
        return True
    return True


def _beat(path: Path, over: threading.Event) -> None:
    while not over.wait(HEARTBEAT):
        with contextlib.suppress(OSError):
            os.utime(path)
