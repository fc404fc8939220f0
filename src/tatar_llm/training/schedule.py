"""Learning-rate schedules: pure functions of progress in [0, 1]."""

from __future__ import annotations

import functools
import math

COOLDOWN = 0.3


def cosine(progress: float, floor: float) -> float:
    """Half a cosine from 1 down to `floor` (Loshchilov & Hutter 2017, arXiv 1608.03983, without restarts)."""
    return floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * min(max(progress, 0.0), 1.0)))


def linear(progress: float, floor: float) -> float:
    """A straight line from 1 down to `floor`."""
    return 1 - (1 - floor) * min(max(progress, 0.0), 1.0)


def stable_decay(progress: float, floor: float, cooldown: float = COOLDOWN) -> float:
    """1 until the last `cooldown` of the way, then a straight line down to `floor`.

    Warmup-stable-decay (Hu et al. 2024, arXiv 2404.06395) with the linear cooldown of Hägele et al. 2024
    (arXiv 2405.18392).
    """
    return linear((progress - (1 - cooldown)) / cooldown, floor) if cooldown > 0 else 1.0


SCHEDULES = {"cosine": cosine, "linear": linear, "wsd": stable_decay}


def multiplier(step: int, total: int, warmup: int, schedule: str, floor: float, cooldown: float = COOLDOWN) -> float:
    """Share of the peak learning rate at `step` of `total`: a rise over `warmup` steps, then the schedule.

    A warmup of more than a fifth of the steps is cut to that, so that short runs learn at all.
    """
    warmup = min(warmup, total // 5)
    if step < warmup:
        return (step + 1) / (warmup + 1)
    shape = functools.partial(stable_decay, cooldown=cooldown) if schedule == "wsd" else SCHEDULES[schedule]
    return shape((step - warmup) / max(1, total - warmup), floor)
