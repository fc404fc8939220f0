"""GPT: token embedding, blocks of attention and feed-forward, output layer. Everything on three screens.

Shapes in the comments: B sequences, T tokens, C = n_embd, H query heads, K key-value heads, D = head_dim, V ids.
Sources: RoPE (Su et al. 2021, arXiv 2104.09864), RMSNorm (Zhang & Sennrich 2019), SwiGLU (Shazeer 2020),
grouped queries (Ainslie et al. 2023), QK-norm (Henry et al. 2020; its place before RoPE as in Qwen3, 2025).
"""

from __future__ import annotations

import functools
import math
import warnings
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from tatar_llm.config import GPTConfig
from tatar_llm.errors import TatarLLMError
from tatar_llm.model import experts
from tatar_llm.model.cache import Cache
from tatar_llm.model.experts import MixtureOfExperts, Routing
from tatar_llm.model.loss import chunked_cross_entropy
from tatar_llm.model.window import windowed_attention

warnings.filterwarnings("ignore", message="Mismatch dtype between input and weight")  # QK-norm: bf16 in, fp32 gain, as meant

Masks = tuple[Tensor | None, Tensor | None]
"""What may be seen by layers with full attention, and by those with a window; None: the past."""


class Attention(nn.Module):
    """Causal self-attention with grouped queries, QK-norm and rotary positions; over a sliding window where the layer has one."""

    def __init__(self, config: GPTConfig, layer: int) -> None:
        super().__init__()
        self.window = config.windows[layer]
        self.layer, self.heads, self.kv_heads, self.head_dim = layer, config.n_head, config.n_kv_head, config.head_dim
        self.q = nn.Linear(config.n_embd, self.heads * self.head_dim, bias=False)
        self.k = nn.Linear(config.n_embd, self.kv_heads * self.head_dim, bias=False)
        self.v = nn.Linear(config.n_embd, self.kv_heads * self.head_dim, bias=False)
        self.out = nn.Linear(self.heads * self.head_dim, config.n_embd, bias=False)
        self.q_norm = nn.RMSNorm(self.head_dim, eps=config.norm_eps)
        self.k_norm = nn.RMSNorm(self.head_dim, eps=config.norm_eps)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor, cache: Cache | None = None, masks: Masks = (None, None)) -> Tensor:
        B, T, _ = x.shape
        mask = masks[self.window > 0]
        q = self.q_norm(self.q(x).view(B, T, self.heads, self.head_dim)).transpose(1, 2)  # (B, H, T, D)
        k = self.k_norm(self.k(x).view(B, T, self.kv_heads, self.head_dim)).transpose(1, 2)  # (B, K, T, D)
        v = self.v(x).view(B, T, self.kv_heads, self.head_dim).transpose(1, 2)  # (B, K, T, D)
        q, k = rotate(q, cos, sin), rotate(k, cos, sin)
        if cache is not None:
            k, v = cache.extend(self.layer, k, v)
        if self.kv_heads < self.heads:
            k = k.repeat_interleave(self.heads // self.kv_heads, dim=1)
            v = v.repeat_interleave(self.heads // self.kv_heads, dim=1)
        if self.window and mask is None and T > 1:
            y = windowed_attention(q, k, v, self.window)
        else:
            y = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=mask is None and T > 1)
        return self.out(y.transpose(1, 2).reshape(B, T, -1))


class FeedForward(nn.Module):
    """SwiGLU: down(silu(gate(x)) * up(x))."""

    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        self.gate = nn.Linear(config.n_embd, config.ffn_hidden, bias=False)
        self.up = nn.Linear(config.n_embd, config.ffn_hidden, bias=False)
        self.down = nn.Linear(config.ffn_hidden, config.n_embd, bias=False)

    def forward(self, x: Tensor) -> tuple[Tensor, None]:
        return self.down(F.silu(self.gate(x)) * self.up(x)), None


class Block(nn.Module):
    """Attention and feed-forward, each behind an RMSNorm and added to the residual stream."""

    def __init__(self, config: GPTConfig, layer: int) -> None:
        super().__init__()
        self.attention_norm = nn.RMSNorm(config.n_embd, eps=config.norm_eps)
        self.attention = Attention(config, layer)
        self.ffn_norm = nn.RMSNorm(config.n_embd, eps=config.norm_eps)
        self.ffn = MixtureOfExperts(config) if config.n_expert else FeedForward(config)
        self.dropout = nn.Dropout(config.dropout)

    def forward(
        self, x: Tensor, cos: Tensor, sin: Tensor, cache: Cache | None = None, masks: Masks = (None, None)
    ) -> tuple[Tensor, Routing | None]:
        x = x + self.dropout(self.attention(self.attention_norm(x), cos, sin, cache, masks))
        y, routing = self.ffn(self.ffn_norm(x))
        return x + self.dropout(y), routing


class GPT(nn.Module):
    """A decoder-only language model over token ids."""

    cos: Tensor
    sin: Tensor
    expert_load: Tensor

    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        self.config = config
        self.gradient_checkpointing = False
        self.z_loss = self.balance_loss = self.router_z_loss = 0.0  # in training only
        self.embedding = nn.Embedding(config.vocab_size, config.n_embd)
        self.dropout = nn.Dropout(config.dropout)
        self.blocks = nn.ModuleList(Block(config, layer) for layer in range(config.n_layer))
        self.norm = nn.RMSNorm(config.n_embd, eps=config.norm_eps)
        self.head = nn.Linear(config.n_embd, config.vocab_size, bias=False)
        if config.tie_weights:
            self.head.weight = self.embedding.weight
        cos, sin = rotary_table(config)
        self.register_buffer("cos", cos, persistent=False)
        self.register_buffer("sin", sin, persistent=False)
        self.register_buffer("expert_load", torch.zeros(config.n_layer, config.n_expert), persistent=False)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Normal weights of deviation 0.02; layers that write to the residual stream scaled by 1/sqrt(2 n_layer)."""
        for name, parameter in self.named_parameters():
            if parameter.dim() >= 2:
                into_stream = name.endswith(("attention.out.weight", "ffn.down.weight"))
                nn.init.normal_(parameter, std=0.02 / (math.sqrt(2 * self.config.n_layer) if into_stream else 1))

    def forward(
        self, idx: Tensor, targets: Tensor | None = None, cache: Cache | None = None, return_logits: bool = True,
        at: Tensor | None = None,
    ) -> tuple[Tensor | None, Tensor | None]:
        """Logits for the token after each position and, with `targets`, the mean cross-entropy in nats.

        Args:
            idx: token ids (B, T), T at most block_size (with a cache: the tokens that follow those inside it).
            targets: the ids that should come next (B, T); -100 is not scored.
            cache: keys and values of the tokens before; the T tokens are added to it.
            return_logits: False with `targets` scores chunk by chunk and never holds all logits (training does this).
            at: places (n,) of the B x T, counted through, whose logits are wanted; None: all.

        Returns:
            logits (B, T, V), with `at` (n, V), or None when not wanted; and a scalar loss, or None without targets.

        Raises:
            TatarLLMError: the sequence is longer than the context.
        """
        past = cache.longest if cache is not None else 0
        T = idx.size(1)
        if past + T > self.config.block_size:
            raise TatarLLMError(f"{past + T} tokens do not fit into the context of {self.config.block_size}")
        x = self.dropout(self.embedding(idx))  # (B, T, C)
        masks: Masks = (None, None)
        if cache is None:
            cos, sin = self.cos[:T], self.sin[:T]
        else:
            cos, sin, masks = cache.angles(self.cos, T), cache.angles(self.sin, T), cache.masks(T)
        routings: list[Routing] = []
        for block in self.blocks:
            if self.gradient_checkpointing and self.training:
                x, routing = checkpoint(block, x, cos, sin, use_reentrant=False)
            else:
                x, routing = block(x, cos, sin, cache, masks)
            if routing is not None:
                routings.append(routing)
        if cache is not None:
            cache.advance(T)
        x = self.norm(x)
        if targets is not None and not return_logits:
            loss = self._loss(x, targets)
            return None, self._with_routing(loss, routings) if routings and self.training else loss
        if at is not None:
            return self.head(x.view(-1, x.size(-1))[at]), None
        logits = self.head(x)  # (B, T, V)
        if targets is None:
            return logits, None
        return logits, F.cross_entropy(logits.float().view(-1, logits.size(-1)), targets.reshape(-1))

    def _loss(self, x: Tensor, targets: Tensor) -> Tensor:
        dtype = torch.get_autocast_dtype(x.device.type) if torch.is_autocast_enabled(x.device.type) else x.dtype
        with torch.autocast(x.device.type, enabled=False):
            return chunked_cross_entropy(
                x.to(dtype).view(-1, x.size(-1)), self.head.weight.to(dtype), targets.reshape(-1),
                z_loss=self.z_loss if self.training else 0.0,
            )  # fmt: skip

    def _with_routing(self, loss: Tensor, routings: list[Routing]) -> Tensor:
        """The same value, with the gradients of the router's losses (means over the layers) added; counts the experts' load."""
        self.expert_load += torch.stack([routing.load for routing in routings]).detach()
        balance, z = (torch.stack([routing[place] for routing in routings]).mean() for place in (0, 1))
        extra = self.balance_loss * balance + self.router_z_loss * z
        return loss + (extra - extra.detach())

    @property
    def device(self) -> torch.device:
        """Where the weights lie."""
        return self.embedding.weight.device

    def parameter_count(self) -> int:
        """Number of trainable parameters; tied weights count once."""
        return sum(parameter.numel() for parameter in self.parameters())

    def configure_optimizers(
        self, weight_decay: float, learning_rate: float, betas: tuple[float, float], device_type: str
    ) -> torch.optim.AdamW:
        """AdamW that decays matrices and leaves the norms' gains alone; fused where torch has the kernel.

        Decoupled weight decay: Loshchilov & Hutter 2019 (arXiv 1711.05101).
        """
        matrices = [p for p in self.parameters() if p.dim() >= 2]
        gains = [p for p in self.parameters() if p.dim() < 2]
        groups = [{"params": matrices, "weight_decay": weight_decay}, {"params": gains, "weight_decay": 0.0}]
        return torch.optim.AdamW(groups, lr=learning_rate, betas=betas, fused=device_type in ("cpu", "cuda"))


def rotary_table(config: GPTConfig) -> tuple[Tensor, Tensor]:
    """Cosines and sines of the rotary angles, (block_size, D) each; both halves of D share their angles."""
    frequency = config.rope_theta ** (-torch.arange(0, config.head_dim, 2, dtype=torch.float32) / config.head_dim)
    angle = torch.arange(config.block_size, dtype=torch.float32)[:, None] * frequency  # (block_size, D / 2)
    angle = torch.cat((angle, angle), dim=-1)
    return angle.cos(), angle.sin()


def compiled(network: nn.Module) -> Callable:
    """torch.compile of a GPT, bare or wrapped, without the parts that do not compile well: the loss in chunks, experts one by one.

    They are marked here and not where they stand, since the mark loads torch's compiler, which takes as long as torch itself
    and is no use to `generate`, `chat` or `runs`.
    """
    _keep_out_of_compiling()
    return torch.compile(network)


@functools.cache
def _keep_out_of_compiling() -> None:
    for owner, name in ((GPT, "_loss"), (experts, "one_after_the_other")):
        setattr(owner, name, torch.compiler.disable(getattr(owner, name)))


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turn each pair (x[i], x[i + D/2]) by its position's angle; x (B, H, T, D), tables (T, D) or (B, 1, T, D)."""
    first, second = x.chunk(2, dim=-1)
    return x * cos.to(x.dtype) + torch.cat((-second, first), dim=-1) * sin.to(x.dtype)
