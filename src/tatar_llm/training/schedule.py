"""Learning-rate schedules: pure functions of progress in [0, 1]."""

from __future__ import annotations

import math


def cosine(progress: float, floor: float) -> float:
    """Half a cosine from 1 down to `floor` (Loshchilov & Hutter 2017, arXiv 1608.03983, without restarts)."""
    return floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * min(max(progress, 0.0), 1.0)))


def linear(progress: float, floor: float) -> float:
    """A straight line from 1 down to `floor`."""
    return 1 - (1 - floor) * min(max(progress, 0.0), 1.0)


SCHEDULES = {"cosine": cosine, "linear": linear}


def multiplier(step: int, total: int, warmup: int, schedule: str, floor: float) -> float:
    """Share of the peak learning rate at `step` of `total`: a rise over `warmup` steps, then the schedule.

    A warmup of more than a fifth of the steps is cut to that, so that short runs learn at all.
    """
    warmup = min(warmup, total // 5)
    if step < warmup:
        return (step + 1) / (warmup + 1)
    return SCHEDULES[schedule]((step - warmup) / max(1, total - warmup), floor)
