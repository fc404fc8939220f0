"""A running average of the weights (exponential moving average; Polyak & Juditsky 1992)."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch
from torch import Tensor

from tatar_llm.model import GPT


class Average:
    """Averages a model's weights while it trains; nothing at all with a decay of 0.

    The decay rises with the steps, (1 + n) / (10 + n) up to its full value, so that the random start is forgotten.
    """

    def __init__(self, model: GPT, decay: float) -> None:
        self.parameters: list[Tensor] = list(model.parameters())
        self.decay, self.steps = decay, 0
        self.weights = [parameter.detach().clone() for parameter in self.parameters] if decay else []

    @torch.no_grad()
    def update(self) -> None:
        """Take in the weights of another step."""
        if not self.decay:
            return
        decay = min(self.decay, (1 + self.steps) / (10 + self.steps))
        torch._foreach_lerp_(self.weights, self.parameters, 1 - decay)
        self.steps += 1

    @contextlib.contextmanager
    def inside_model(self) -> Iterator[None]:
        """The model holds the average within, and its own weights again afterwards."""
        if not self.decay:
            yield
            return
        own = [parameter.detach().clone() for parameter in self.parameters]
        self._fill(self.weights)
        try:
            yield
        finally:
            self._fill(own)

    @torch.no_grad()
    def _fill(self, weights: list[Tensor]) -> None:
        torch._foreach_copy_(self.parameters, weights)

    def settle(self) -> None:
        """Leave the average in the model for good: training is over."""
        if self.decay:
            self._fill(self.weights)

    def state(self) -> dict:
        """For a checkpoint."""
        return {"steps": self.steps, "weights": self.weights}

    def restore(self, state: dict) -> None:
        """Continue from `state`."""
        self.steps = state["steps"]
        for mine, kept in zip(self.weights, state["weights"], strict=True):
            mine.copy_(kept)
