"""Sliding-window attention: each query sees the newest keys alone, and time and cache grow with the window, not the context.

Beltagy et al. 2020 (Longformer, arXiv 2004.05150, section 3.1); causal, as in Mistral 7B (Jiang et al. 2023, arXiv 2310.06825).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

CHUNK = 128  # queries that share a stretch of keys


def windowed_attention(q: Tensor, k: Tensor, v: Tensor, window: int) -> Tensor:
    """Causal attention in which a query sees `window` keys, its own the last of them.

    Args:
        q: queries (B, H, T, D).
        k, v: keys and values (B, H, P + T, D) of P tokens before (what is older than the window may be missing) and of the T.
        window: keys that a query sees.

    Returns:
        (B, H, T, D).
    """
    T, P = q.size(2), k.size(2) - q.size(2)
    if window >= P + T and not P:
        return F.scaled_dot_product_attention(q, k, v, is_causal=T > 1)
    if q.is_cuda and torch.compiler.is_compiling() and not P:
        return flex_window(q, k, v, window)
    return chunked_window(q, k, v, window)


def chunked_window(q: Tensor, k: Tensor, v: Tensor, window: int) -> Tensor:
    """Queries in chunks, each against the `window` keys before it and its own: a mask of CHUNK x (window + CHUNK)."""
    B, H, T, D = q.shape
    P = k.size(2) - T
    if window < P:
        k, v, P = k[:, :, P - window :], v[:, :, P - window :], window
    size = min(CHUNK, T)
    spare = -T % size  # fills the last chunk
    q = F.pad(q, (0, 0, 0, spare)).reshape(B * H, -1, size, D)  # (BH, chunks, size, D)
    chunks, reach = q.size(1), window + size
    k, v = (  # (BH, chunks, reach, D): neighbours share all but `size` keys
        F.pad(x, (0, 0, window - P, spare)).reshape(B * H, -1, D).unfold(1, reach, size).transpose(2, 3) for x in (k, v)
    )
    query, key = torch.arange(size, device=q.device)[:, None], torch.arange(reach, device=q.device)
    seen = (key > query) & (key <= query + window)  # (size, reach), the same in every chunk
    real = torch.arange(chunks, device=q.device)[:, None] * size + key >= window - P  # (chunks, reach): no padding on the left
    y = F.scaled_dot_product_attention(q, k, v, attn_mask=(seen & real[:, None])[None])
    return y.reshape(B, H, -1, D)[:, :, :T]


def flex_window(q: Tensor, k: Tensor, v: Tensor, window: int) -> Tensor:
    """The same by torch's flex_attention, which skips the blocks that nobody sees; fast only where it is compiled."""
    from torch.nn.attention.flex_attention import create_block_mask, flex_attention

    def sees(_batch: Tensor, _head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        return (key <= query) & (query - key < window)

    mask = create_block_mask(sees, None, None, q.size(2), k.size(2), device=q.device.type)
    return flex_attention(q, k, v, block_mask=mask)
