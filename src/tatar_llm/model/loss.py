"""Cross-entropy over the vocabulary without ever holding all logits.

Logits of a whole batch are its largest tensor by far (2,048 tokens x 8,192 ids are 64 MB in fp32); on a CPU, writing
them, their logarithms and their gradients costs a third of a training step. Here a chunk of tokens is projected,
scored and turned into gradients while it still lies in the cache.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

CHUNK = 512  # tokens, 16 MiB of logits at 8,192 ids; 128 to 1,024 were alike, docs/experiments.md 2026-11-23


class ChunkedCrossEntropy(torch.autograd.Function):
    """Mean over the scored targets of log Z - logit[target] + z_loss (log Z)^2 with Z = sum exp(x W^T); the gradients
    are made in the forward pass."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, targets: Tensor, chunk: int, z_loss: float) -> Tensor:
        scored = (targets >= 0).sum().clamp(min=1)
        total = torch.zeros((), dtype=torch.float32, device=x.device)
        wants_grad = ctx.needs_input_grad[0] or ctx.needs_input_grad[1]
        x_grad = torch.empty_like(x) if wants_grad else None
        weight_grad = torch.zeros(weight.shape, dtype=torch.float32, device=x.device) if wants_grad else None
        for start in range(0, x.size(0), chunk):
            rows = slice(start, start + chunk)
            keep = (targets[rows] >= 0)[:, None]
            right = targets[rows].clamp(min=0)[:, None]
            logits = (x[rows] @ weight.t()).float()  # (chunk, V)
            highest = logits.amax(dim=-1, keepdim=True)
            logits -= highest
            right_logit = logits.gather(1, right)
            logits.exp_()
            sums = logits.sum(dim=-1, keepdim=True)
            losses = sums.log() - right_logit
            share = keep / sums
            if z_loss:
                log_z = sums.log() + highest
                losses = losses + z_loss * log_z.square()
                share = share * (1 + 2 * z_loss * log_z)
            total += (losses * keep).sum()
            if x_grad is not None and weight_grad is not None:
                logits *= share
                logits.scatter_add_(1, right, -keep.to(logits.dtype))
                grad = logits.to(x.dtype)
                x_grad[rows] = grad @ weight
                weight_grad += grad.t() @ x[rows]
        if wants_grad:
            ctx.save_for_backward(x_grad, weight_grad, scored)
            ctx.dtype = weight.dtype
        return total / scored

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, Tensor, None, None, None]:
        # divided by the count only here: in fp16 the gradients of single tokens would vanish before they are scaled up
        x_grad, weight_grad, scored = ctx.saved_tensors
        share = upstream / scored
        return (x_grad * share).to(x_grad.dtype), (weight_grad * share).to(ctx.dtype), None, None, None


def chunked_cross_entropy(
    x: Tensor, weight: Tensor, targets: Tensor, chunk: int = CHUNK, z_loss: float = 0.0
) -> Tensor:
    """Mean cross-entropy in nats of predicting `targets` from hidden states.

    Args:
        x: hidden states (N, C).
        weight: output layer (V, C).
        targets: token ids (N,); negative ones are not scored.
        chunk: tokens scored at a time.
        z_loss: weight of the squared log-normaliser, which keeps logits from drifting (Chowdhery et al. 2022, arXiv
            2204.02311, section 5).
    """
    return ChunkedCrossEntropy.apply(x, weight, targets, chunk, z_loss)
