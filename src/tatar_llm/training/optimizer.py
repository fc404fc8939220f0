"""Optimizers: AdamW for everything, or Muon for the blocks' matrices with AdamW for the rest."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from tatar_llm.config import TrainConfig
from tatar_llm.device import cpu_has_bf16
from tatar_llm.model import GPT
from tatar_llm.training.muon import Muon


class Optimizer:
    """One or two torch optimizers behind one step; learning rates move together as a share of their peaks."""

    def __init__(self, model: GPT, config: TrainConfig) -> None:
        kind, betas = model.device.type, (config.beta1, config.beta2)
        if config.optimizer == "adamw":
            self.parts: list[torch.optim.Optimizer] = [
                model.configure_optimizers(config.weight_decay, config.learning_rate, betas, kind)
            ]
        else:
            self.parts = _muon(model, config, betas, kind)
        self.peaks = [[group["lr"] for group in part.param_groups] for part in self.parts]

    def set_rate(self, share: float) -> None:
        """Set every learning rate to this share of its peak."""
        for part, peaks in zip(self.parts, self.peaks, strict=True):
            for group, peak in zip(part.param_groups, peaks, strict=True):
                group["lr"] = peak * share

    def step(self, skip: Tensor) -> None:
        """One step, or none at all where `skip` (a boolean scalar on the device) says so.

        The decision stays on the device: torch's fused AdamW and our Muon mask the update, its momentum and its step
        count themselves. AdamW on an Apple GPU has no such mask; there the host asks.
        """
        for part in self.parts:
            if isinstance(part, Muon) or part.defaults["fused"]:
                part.found_inf = skip.float()  # type: ignore[attr-defined]
                part.step()
            elif not skip:
                part.step()

    def zero_grad(self) -> None:
        for part in self.parts:
            part.zero_grad(set_to_none=True)

    def state_dict(self) -> list[dict[str, Any]]:
        return [part.state_dict() for part in self.parts]

    def load_state_dict(self, states: list[dict[str, Any]]) -> None:
        for part, state in zip(self.parts, states, strict=True):
            part.load_state_dict(state)


def _muon(model: GPT, config: TrainConfig, betas: tuple[float, float], kind: str) -> list[torch.optim.Optimizer]:
    """Muon (Jordan et al. 2024) orthogonalises the update of each matrix inside the blocks.

    In bf16 where the device has it, in fp32 with `--precision fp32` (sums in another order then change no more than their last digits).
    Embedding, output layer and routers, whose rows stand for tokens or experts one by one, and the norms' gains stay with AdamW.
    """
    matrices = [p for name, p in model.blocks.named_parameters() if p.dim() >= 2 and "router" not in name]
    gains = [p for p in model.parameters() if p.dim() < 2]
    tables = [p for p in model.parameters() if p.dim() >= 2 and all(p is not m for m in matrices)]
    without_bf16 = kind == "mps" or (kind == "cpu" and not cpu_has_bf16())
    dtype = torch.float32 if without_bf16 or config.precision == "fp32" else torch.bfloat16
    muon = Muon(matrices, lr=config.muon_rate, weight_decay=config.weight_decay, dtype=dtype)
    adamw = torch.optim.AdamW(
        tables + gains, lr=config.learning_rate, betas=betas, weight_decay=0.0, fused=kind in ("cpu", "cuda")
    )
    return [adamw, muon]
