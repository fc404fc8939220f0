"""Which steps are fit to be taken, decided without leaving the device."""

from __future__ import annotations

import torch
from torch import Tensor

OUTLIER = 20.0  # times the usual gradient norm; clipping deals with everything below
KNOWN_AFTER = 50  # good steps until it is known what is usual
MOST_IN_A_ROW = 10  # skipped steps, then the run has diverged
MOST_SHARE = 0.1  # of the steps of a whole run


class Watchdog:
    """Judges each step by its loss and gradient norm; counts what it had skipped.

    All of its memory is one tensor on the device: good steps, mean of the logarithm of their norms, skipped steps,
    skipped steps in a row.
    """

    def __init__(self, device: torch.device) -> None:
        self.memory = torch.zeros(4, device=device)

    def judge(self, loss: Tensor, norm: Tensor) -> Tensor:
        """True (a scalar on the device) where the step must be skipped: not a number, or far above the usual norm."""
        good, usual, skipped, in_a_row = self.memory
        log_norm = norm.float().clamp(min=1e-30).log()
        outlier = (good >= KNOWN_AFTER) & (log_norm > usual + torch.log(torch.full_like(usual, OUTLIER)))
        skip = ~torch.isfinite(loss) | ~torch.isfinite(norm) | outlier
        weight = 1 / (good + 1).clamp(max=100)  # a plain mean first, then one that forgets
        self.memory = torch.stack((
            good + ~skip,
            torch.where(skip, usual, usual + weight * (log_norm - usual)),
            skipped + skip,
            torch.where(skip, in_a_row + 1, torch.zeros_like(in_a_row)),
        ))  # fmt: skip
        return skip

    def counts(self) -> tuple[int, int]:
        """Steps skipped so far, and how many of them just now in a row. Waits for the device."""
        _, _, skipped, in_a_row = self.memory.tolist()
        return int(skipped), int(in_a_row)

    def gives_up(self, step: int, total_steps: int) -> bool:
        """Whether so many steps were skipped up to `step` that going on makes no sense. Waits for the device."""
        skipped, in_a_row = self.counts()
        return in_a_row >= min(MOST_IN_A_ROW, total_steps) or skipped > max(2 * MOST_IN_A_ROW, MOST_SHARE * step)

    def state(self) -> Tensor:
        """For a checkpoint."""
        return self.memory.cpu()

    def restore(self, state: Tensor) -> None:
        """Continue from `state`."""
        self.memory = state.to(self.memory.device)
