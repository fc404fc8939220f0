"""Mixture of experts: a router sends each token through the few feed-forward blocks that suit it.

Shazeer et al. 2017 (arXiv 1701.06538); the graph is the one that transformers calls Qwen3-MoE: softmax over all experts, the
likeliest few, their weights made to sum to one. No token is ever dropped, however many choose the same expert.

Shapes: N tokens, C = n_embd, E experts, k of them for a token, W = expert_hidden.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tatar_llm.config import GPTConfig

ALIGNED = 8  # numbers: what grouped_mm's kernels ask of a row


class Routing(NamedTuple):
    """What training wants to know of the router."""

    balance: Tensor
    """1 where tokens spread evenly, E where one expert takes all (Fedus et al. 2022, arXiv 2101.03961, equations 4 to 6)."""
    z: Tensor
    """Mean squared logarithm of the router's normaliser (Zoph et al. 2022, arXiv 2202.08906, equation 5)."""
    load: Tensor
    """(E,) share of the token's choices that each expert got."""


class ExpertMatrices(nn.Module):
    """A matrix for each expert, (E, out, in)."""

    def __init__(self, experts: int, inside: int, outside: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(experts, outside, inside))

    def forward(self, rows: Tensor, ends: Tensor) -> Tensor:
        """Rows (n, in), sorted by expert, times their expert's matrix; expert e has those before `ends[e]` (E,)."""
        weight = self.weight.to(rows.dtype)
        if _has_kernel(rows) and not any(size % ALIGNED for size in weight.shape[1:]):
            return F.grouped_mm(rows, weight.transpose(1, 2), offs=ends)
        return one_after_the_other(rows, weight, ends)


def _has_kernel(rows: Tensor) -> bool:
    """Whether torch (2.10 or newer) multiplies such rows group by group: bf16 on GPUs and in compiled code, all on a CPU."""
    fit = rows.dtype == torch.bfloat16 or (rows.device.type == "cpu" and not torch.compiler.is_compiling())
    return hasattr(F, "grouped_mm") and rows.device.type in ("cpu", "cuda") and fit


def one_after_the_other(rows: Tensor, weight: Tensor, ends: Tensor) -> Tensor:
    """The same product as torch's grouped one, an expert at a time; its sizes are data, so `compiled` leaves it alone."""
    counts = ends.diff(prepend=ends.new_zeros(1)).tolist()
    return torch.cat([F.linear(part, matrix) for part, matrix in zip(rows.split(counts), weight, strict=True)])


class MixtureOfExperts(nn.Module):
    """SwiGLU experts behind a router."""

    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        self.experts, self.each = config.n_expert, config.experts_per_token
        self.router = nn.Linear(config.n_embd, config.n_expert, bias=False)
        self.gate = ExpertMatrices(config.n_expert, config.n_embd, config.expert_hidden)
        self.up = ExpertMatrices(config.n_expert, config.n_embd, config.expert_hidden)
        self.down = ExpertMatrices(config.n_expert, config.expert_hidden, config.n_embd)

    def forward(self, x: Tensor) -> tuple[Tensor, Routing]:
        """x (..., C) -> the same shape, and the routing."""
        logits = self.router(x).view(-1, self.experts)  # (N, E)
        probability = logits.float().softmax(dim=-1)
        weight, chosen = probability.topk(self.each, dim=-1)  # (N, k)
        weight = (weight / weight.sum(dim=-1, keepdim=True)).to(logits.dtype)
        counts = F.one_hot(chosen, self.experts).sum(dim=(0, 1))  # (E,)
        share = counts / chosen.numel()
        routing = Routing(self.experts * (share * probability.mean(dim=0)).sum(), logits.float().logsumexp(dim=-1).square().mean(), share)
        y = self._through_experts(x.reshape(-1, x.size(-1)).to(logits.dtype), chosen, weight, counts)
        return y.view(x.shape), routing

    def _through_experts(self, x: Tensor, chosen: Tensor, weight: Tensor, counts: Tensor) -> Tensor:
        """(N, C): each token through its experts, weighted; rows lie sorted by expert meanwhile."""
        order = chosen.flatten().argsort(stable=True)  # (N k)
        rows, ends = x[order // self.each], counts.cumsum(0).to(torch.int32)
        hidden = F.silu(self.gate(rows, ends)) * self.up(rows, ends)
        found = self.down(hidden, ends)[order.argsort()].view(*weight.shape, -1)  # (N, k, C)
        return (found * weight[..., None]).sum(dim=1)
