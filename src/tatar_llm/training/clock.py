"""Seconds of work, as a training counts them."""

from __future__ import annotations

import statistics
import time


class Clock:
    """Seconds of work. A stretch of steps far longer than its like (the laptop slept) counts as an ordinary one."""

    def __init__(self, seconds: float = 0.0) -> None:
        self.seconds = seconds
        self.in_steps = 0.0
        self._per_step: list[float] = []
        self._last = time.perf_counter()

    def usual_step(self) -> float:
        """Seconds of one step of late, without the odd slow one and without the first, in which torch compiles."""
        return statistics.median((self._per_step[1:] or self._per_step)[-9:])

    def mark(self, steps: int = 0) -> float:
        """Count the time since the last mark, in which `steps` training steps were done (0: something else)."""
        now = time.perf_counter()
        stretch, self._last = now - self._last, now
        if steps:
            if len(self._per_step) >= 4:
                usual = statistics.median(self._per_step[1:][-50:]) * steps
                stretch = usual if stretch > 60 + 10 * usual else stretch
            self._per_step.append(stretch / steps)
            self.in_steps += stretch
        self.seconds += stretch
        return stretch
