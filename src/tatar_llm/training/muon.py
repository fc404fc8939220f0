"""Muon: momentum whose update is orthogonalised, matrix by matrix (Jordan et al. 2024, "Muon: an optimizer for hidden
layers in neural networks").

torch.optim.Muon does the same in bf16, one matrix after the other; on a CPU without bf16 instructions that is several
times slower than the whole training step. Here matrices of one shape go through together, in the format that is native.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)  # the quintic's coefficients from the source above: steep at zero
ITERATIONS = 5
WIDE = 2  # from this ratio of sides on, iterating on the smaller square is the cheaper way


class Muon(torch.optim.Optimizer):
    """Orthogonalised Nesterov momentum with decoupled weight decay, for matrices: 2-D parameters, and stacks of them (experts).

    Like torch's fused optimizers it leaves everything as it was where `found_inf` (a scalar on the device, 0 or 1) is
    set to 1 before a step: a bad step is skipped without asking the device.
    """

    found_inf: Tensor | None = None

    def __init__(
        self,
        params: Iterable[Tensor],
        lr: float = 0.02,
        momentum: float = 0.95,
        weight_decay: float = 0.0,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})
        self.dtype = dtype

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One step; returns what `closure`, which computes the loss and its gradients anew, gives."""
        with torch.enable_grad():
            loss = closure() if closure else None
        skip = None if self.found_inf is None else self.found_inf.bool()
        for group in self.param_groups:
            by_shape: dict[torch.Size, list[Tensor]] = defaultdict(list)
            for parameter in group["params"]:
                if parameter.grad is not None:
                    by_shape[parameter.shape].append(parameter)
            for shape, parameters in by_shape.items():
                updates = []
                for parameter in parameters:
                    state = self.state[parameter]
                    if "momentum" not in state:
                        state["momentum"] = torch.zeros_like(parameter)
                    grad = parameter.grad
                    assert grad is not None  # only such were gathered
                    if skip is not None:
                        grad = torch.where(skip, state["momentum"], grad)
                    state["momentum"].lerp_(grad, 1 - group["momentum"])  # skipped: towards itself, so it stays
                    updates.append(grad.lerp(state["momentum"], group["momentum"]))
                scale = max(1.0, shape[-2] / shape[-1]) ** 0.5  # tall matrices move as far as wide ones
                whole = torch.stack(updates)  # (N, rows, columns), with experts (N, E, rows, columns)
                for parameter, update in zip(parameters, orthogonal(whole.flatten(0, -3), self.dtype).view(whole.shape), strict=True):
                    new = parameter * (1 - group["lr"] * group["weight_decay"])
                    new.add_(update.to(parameter.dtype), alpha=-group["lr"] * scale)
                    parameter.copy_(new if skip is None else torch.where(skip, parameter, new))
        return loss


def orthogonal(matrices: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    """Nearly orthogonal matrices with the singular vectors of `matrices` (N, rows, columns), by Newton-Schulz.

    Every iterate is a polynomial of the Gram matrix times the start, so for wide matrices the iterations run on the
    square of the smaller side and the wide one is multiplied twice in all instead of ten times; in fp32 only, because
    the Gram matrix squares the condition number.
    """
    a, b, c = NEWTON_SCHULZ
    x = matrices.to(dtype)
    tall = x.size(-2) > x.size(-1)
    if tall:
        x = x.mT
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    if x.size(-1) >= WIDE * x.size(-2) and dtype == torch.float32:
        x = _polynomial_of_gram(x @ x.mT) @ x
    else:
        for _ in range(ITERATIONS):
            square = x @ x.mT
            x = a * x + torch.baddbmm(b * square, square, square, alpha=c) @ x
    return x.mT if tall else x


def _polynomial_of_gram(gram: Tensor) -> Tensor:
    """What the iterations multiply a matrix with, from its Gram matrix X X^T (N, rows, rows)."""
    a, b, c = NEWTON_SCHULZ
    product: Tensor | None = None
    for remaining in reversed(range(ITERATIONS)):
        inner = torch.baddbmm(b * gram, gram, gram, alpha=c)  # without its a I, which is added where it is used
        if product is None:
            product = inner.clone()
            product.diagonal(dim1=-2, dim2=-1).add_(a)
        else:
            product = torch.baddbmm(a * product, inner, product)
        if remaining:
            half = torch.baddbmm(a * gram, inner, gram)
            gram = torch.baddbmm(a * half, half, inner)
    assert product is not None
    return product
