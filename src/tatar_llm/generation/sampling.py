"""Choosing the next token from its logits."""

from __future__ import annotations

import torch
from torch import Tensor


def choose(
    logits: Tensor, temperature: float, top_k: int, top_p: float, generator: torch.Generator | None = None
) -> int:
    """One token id from logits (V,).

    Args:
        temperature: divides the logits; 0 takes the likeliest token.
        top_k: keep only this many likeliest tokens; 0 keeps all.
        top_p: keep the fewest likeliest tokens whose probabilities add up to this (Holtzman et al. 2020); 1 keeps all.
        generator: source of randomness, on the CPU.
    """
    logits = logits.float().cpu()
    if temperature == 0:
        return int(logits.argmax())
    logits = logits / temperature
    if 0 < top_k < logits.numel():
        logits[logits < logits.topk(top_k).values[-1]] = -torch.inf
    probability = logits.softmax(dim=-1)
    if top_p < 1:
        ordered, ids = probability.sort(descending=True)
        before = ordered.cumsum(dim=0) - ordered  # mass of the likelier ones: the first is always kept
        probability[ids[before >= top_p]] = 0
    return int(torch.multinomial(probability, 1, generator=generator))
