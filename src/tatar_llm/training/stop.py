"""How a training is asked to stop: Ctrl-C, SIGTERM."""

from __future__ import annotations

import contextlib
import signal
import time
from collections.abc import Callable, Iterator
from typing import Any

ONE_REQUEST = 5.0  # seconds within which Ctrl-C and the SIGTERM that a launcher adds to it are one request


class Interrupted(Exception):
    """Training was asked to stop and has written its checkpoint."""

    def __init__(self, number: int) -> None:
        super().__init__(f"signal {number}")
        self.exit_code = 128 + number


class StopRequest:
    """Remembers the signal that asked for a stop; 0 as long as nobody did."""

    def __init__(self, several_senders: bool = False) -> None:
        self.signal = 0
        self.several_senders = several_senders
        self._asked = 0.0

    @contextlib.contextmanager
    def listen(self, on_first: Callable[[], None]) -> Iterator[None]:
        """Inside, the first Ctrl-C or SIGTERM is remembered (the step goes on); a second one ends at once."""

        def on_signal(number: int, _frame: Any) -> None:
            now = time.monotonic()
            if self.signal and self.several_senders and now - self._asked < ONE_REQUEST:
                return
            if self.signal:
                raise KeyboardInterrupt
            self.signal, self._asked = number, now
            on_first()

        previous = {}
        for number in (signal.SIGINT, signal.SIGTERM):
            with contextlib.suppress(ValueError):  # not the main thread
                previous[number] = signal.signal(number, on_signal)
        try:
            yield
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)
