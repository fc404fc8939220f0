"""Waiting for work that cannot be told to stop: a name being looked up, a library's own loop."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any, TypeVar

LISTEN = 0.2
"""Seconds after which the waiting thread looks up, so that Ctrl-C is heard on Windows too."""
Found = TypeVar("Found")


class NoAnswer(Exception):
    """Nothing came in the time given."""


def within(seconds: float, work: Callable[[], Found]) -> Found:
    """What `work` returns or raises, or NoAnswer after so many seconds; with `math.inf` it may take as long as it likes.

    It runs in a thread of its own. Looking up a name cannot be given a time limit, and a host with several addresses would wait the limit
    for each; a library that computes outside Python hears neither Ctrl-C nor SIGTERM until it is done. The thread that waits hears them.
    What comes late is closed where it can be.
    """
    result: list[Any] = []
    lock = threading.Lock()
    late = False

    def run() -> None:
        try:
            found: Any = (True, work())
        except Exception as error:  # carried over to the waiting thread
            found = (False, error)
        with lock:
            if late and hasattr(found[1], "close"):
                found[1].close()
            result.append(found)

    thread = threading.Thread(target=run, daemon=True, name="tatar-llm-waiting")
    thread.start()
    until = time.monotonic() + seconds
    while thread.is_alive() and (left := until - time.monotonic()) > 0:
        thread.join(min(left, LISTEN))
    with lock:
        late = not result
    if late:
        raise NoAnswer(f"no answer within {seconds:g} s")
    good, found = result[0]
    if not good:
        raise found
    return found
