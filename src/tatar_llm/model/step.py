"""The network's pass for one new token a sequence, in fewer and larger operations than `GPT.forward`.

With a single token the arithmetic is small and the calls are many, and the calls are what takes the time. So q, k and v are one
product, and gate and up; q's and k's heads are normalised and turned together, the norms' gains inside the tables of angles. The
numbers are the network's up to rounding, which a test holds.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from tatar_llm.model.cache import Cache
from tatar_llm.model.network import GPT


class Step:
    """Made from a network as it is now; weights that change later are not seen."""

    def __init__(self, model: GPT) -> None:
        config = self.config = model.config
        self.model = model
        self.heads, self.both = config.n_head, config.n_head + config.n_kv_head
        self.layers = []
        half, tables = config.head_dim // 2, []
        signed = torch.cat((-model.sin[:, :half], model.sin[:, half:]), dim=-1)  # (block, D)
        for block in model.blocks:
            attention = block.attention
            qkv = torch.cat((attention.q.weight, attention.k.weight, attention.v.weight))
            gate_up = torch.cat((block.ffn.gate.weight, block.ffn.up.weight))
            self.layers.append((block.attention_norm.weight, qkv, attention.out.weight, block.ffn_norm.weight, gate_up, block.ffn.down.weight))
            gains = torch.stack([attention.q_norm.weight] * self.heads + [attention.k_norm.weight] * config.n_kv_head)  # (H + K, D)
            tables.append(torch.stack((model.cos[:, None] * gains, signed[:, None] * gains.roll(half, -1)), dim=1))
        self.table = torch.stack(tables, dim=1)  # (block, L, 2, H + K, D)

    @torch.inference_mode()
    def __call__(self, ids: Tensor, cache: Cache) -> Tensor:
        """Logits (B, V) after the new tokens `ids` (B,), whose keys and values go into the cache."""
        config, B, eps = self.config, ids.size(0), self.config.norm_eps
        C, D, H, K = config.n_embd, config.head_dim, config.n_head, config.n_kv_head
        angles = cache.angles(self.table, 1).view(-1, config.n_layer, 2, self.both, D)  # one for all, or one each
        mask = cache.mask(1)
        x = F.embedding(ids, self.model.embedding.weight)  # (B, C)
        for layer, (before_attention, qkv, out, before_ffn, gate_up, down) in enumerate(self.layers):
            projected = F.linear(F.rms_norm(x, (C,), before_attention, eps), qkv).view(B, -1, D)  # (B, H + 2 K, D)
            qk = F.rms_norm(projected[:, : self.both], (D,), None, eps)
            qk = torch.addcmul(qk * angles[:, layer, 0], qk.roll(D // 2, -1), angles[:, layer, 1])
            k, v = cache.extend(layer, qk[:, H:, None], projected[:, self.both :, None])  # (B, K, T, D)
            scores = torch.matmul(qk[:, :H].view(B, K, H // K, D), k.transpose(-1, -2)).mul_(D**-0.5)  # (B, K, H / K, T)
            if mask is not None:
                scores.masked_fill_(~mask, -torch.inf)
            y = torch.matmul(scores.softmax(dim=-1), v).view(B, -1)
            x = x + F.linear(y, out)
            gate, up = F.linear(F.rms_norm(x, (C,), before_ffn, eps), gate_up).chunk(2, dim=-1)
            x = x + F.linear(F.silu(gate).mul_(up), down)
        cache.advance(1)
        return F.linear(F.rms_norm(x, (C,), self.model.norm.weight, eps), self.model.head.weight)
