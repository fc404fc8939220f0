"""The network under the brief's names: GPT, GPTConfig, and the optimizer helper."""

from __future__ import annotations

import torch

from tatar_llm import GPT, GPTConfig

__all__ = ["GPT", "GPTConfig", "configure_optimizers"]


def configure_optimizers(
    model: GPT, weight_decay: float, learning_rate: float, betas: tuple[float, float], device_type: str
) -> torch.optim.Optimizer:
    """AdamW with weight decay on matrices only; the same as ``model.configure_optimizers(...)``."""
    return model.configure_optimizers(weight_decay, learning_rate, betas, device_type)
