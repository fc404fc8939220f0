"""The network's pass for one new token a sequence, in fewer and cheaper operations than `GPT.forward`.

With a single token the arithmetic is small and the calls are many, and the calls are what takes the time. So q, k and v are one
product, and gate and up; q's and k's heads are normalised and turned together; the norms' gains are inside the matrices and the tables
of angles, and a norm is a length and a division, a third of the time of torch's. The numbers are the network's up to rounding, which a test
holds.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor

from tatar_llm.model.cache import Cache
from tatar_llm.model.experts import MixtureOfExperts
from tatar_llm.model.network import GPT, Block


class Step:
    """Made from a network as it is now; weights that change later are not seen."""

    def __init__(self, model: GPT) -> None:
        config = self.config = model.config
        self.model = model
        self.heads, self.both = config.n_head, config.n_head + config.n_kv_head
        C, D = math.sqrt(config.n_embd), math.sqrt(config.head_dim)
        self.least = {width: torch.tensor(width * math.sqrt(config.norm_eps), device=model.device) for width in (C, D)}
        self.windows, self.layers = config.windows, []
        half, tables = config.head_dim // 2, []
        signed = torch.cat((-model.sin[:, :half], model.sin[:, half:]), dim=-1)  # (block, D)
        for block in cast("Iterable[Block]", model.blocks):
            attention = block.attention
            qkv = torch.cat((attention.q.weight, attention.k.weight, attention.v.weight)) * block.attention_norm.weight * C
            self.layers.append((_turned(qkv), attention.out.weight.detach(), self._feed_forward(block, C)))
            gains = torch.stack((attention.q_norm.weight,) * self.heads + (attention.k_norm.weight,) * config.n_kv_head) * D  # (H + K, D)
            tables.append(torch.stack((model.cos[:, None] * gains, signed[:, None] * gains.roll(half, -1)), dim=1))
        self.table = torch.stack(tables, dim=1).detach()  # (block, L, 2, H + K, D)
        self.head = _turned(model.head.weight)

    def _feed_forward(self, block: Block, width: float) -> Callable[[Tensor], Tensor]:
        """The block's second half as a function of x (B, C)."""
        if isinstance(block.ffn, MixtureOfExperts):
            return lambda x: block.ffn(block.ffn_norm(x))[0]
        gate_up = _turned(torch.cat((block.ffn.gate.weight, block.ffn.up.weight)) * block.ffn_norm.weight * width)
        down = block.ffn.down.weight.detach()

        def dense(x: Tensor) -> Tensor:
            gate, up = torch.mm(self._unit(x, width), gate_up).chunk(2, dim=-1)
            return F.linear(F.silu(gate) * up, down)

        return dense

    def _unit(self, x: Tensor, width: float) -> Tensor:
        """RMSNorm without its gain and without the square root of the width, which the matrices hold."""
        return x / torch.hypot(torch.linalg.vector_norm(x, dim=-1, keepdim=True), self.least[width])

    @torch.inference_mode()
    def __call__(self, ids: Tensor, cache: Cache) -> Tensor:
        """Logits (B, V) after the new tokens `ids` (B,), whose keys and values go into the cache."""
        config, B = self.config, ids.size(0)
        D, H, K = config.head_dim, config.n_head, config.n_kv_head
        wide, narrow = math.sqrt(config.n_embd), math.sqrt(D)
        cosine, sine = cache.angles(self.table, 1).view(-1, config.n_layer, 2, self.both, D).unbind(2)  # one for all, or one each
        cosines, sines, masks = cosine.unbind(1), sine.unbind(1), cache.masks(1)
        x = F.embedding(ids, self.model.embedding.weight)  # (B, C)
        for layer, (qkv, out, feed_forward) in enumerate(self.layers):
            qk, v = torch.mm(self._unit(x, wide), qkv).view(B, -1, D).split((self.both, K), dim=1)  # (B, H + K, D), (B, K, D)
            qk = self._unit(qk, narrow)
            qk = torch.addcmul(qk * cosines[layer], qk.roll(D // 2, -1), sines[layer])
            q, k = qk.split((H, K), dim=1)
            k, v = cache.extend(layer, k[:, :, None], v[:, :, None])  # (B, K, T, D)
            scores = torch.matmul(q.reshape(B, K, H // K, D) * D**-0.5, k.transpose(-1, -2))  # (B, K, H / K, T)
            mask = masks[self.windows[layer] > 0]
            if mask is not None:
                scores = scores.masked_fill(~mask, -torch.inf)
            x = x + F.linear(torch.matmul(scores.softmax(dim=-1), v).view(B, -1), out)
            x = x + feed_forward(x)
        cache.advance(1)
        return torch.mm(self._unit(x, wide) * (self.model.norm.weight * wide), self.head)


def _turned(weight: Tensor) -> Tensor:
    """(in, out) in memory: for a few rows and a wide output a third to a half faster on a CPU than (out, in)."""
    return weight.detach().t().contiguous()
