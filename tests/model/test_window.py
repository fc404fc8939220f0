"""Sliding-window attention: as a mask over everything would have it, without ever making that mask."""

from __future__ import annotations

import dataclasses

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from tatar_llm.config import GPTConfig
from tatar_llm.model import GPT, KVCache
from tatar_llm.model import window as window_module
from tatar_llm.model.window import chunked_window, flex_window, windowed_attention


def vectors(count: int, past: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    source = torch.Generator().manual_seed(seed)
    return tuple(torch.randn(2, 3, length, 8, generator=source) for length in (count, past + count, past + count))  # type: ignore[return-value]


def by_mask(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, window: int) -> torch.Tensor:
    past = k.size(2) - q.size(2)
    query, key = torch.arange(q.size(2))[:, None] + past, torch.arange(k.size(2))
    return F.scaled_dot_product_attention(q, k, v, attn_mask=(key <= query) & (query - key < window))


@settings(max_examples=60, deadline=None)
@given(count=st.integers(1, 50), past=st.integers(0, 30), window=st.integers(1, 60), chunk=st.integers(1, 20))
def test_as_with_a_mask(count: int, past: int, window: int, chunk: int) -> None:
    before, window_module.CHUNK = window_module.CHUNK, chunk
    try:
        for way in (chunked_window, windowed_attention):
            q, k, v = (x.requires_grad_() for x in vectors(count, past))
            y = way(q, k, v, window)
            expected = by_mask(q, k, v, window)
            torch.testing.assert_close(y, expected, atol=1e-5, rtol=1e-5)
            aim = torch.randn(y.shape, generator=torch.Generator().manual_seed(1))
            for mine, its in zip(*(torch.autograd.grad((z * aim).sum(), (q, k, v)) for z in (y, expected)), strict=True):
                torch.testing.assert_close(mine, its, atol=1e-4, rtol=1e-4)
    finally:
        window_module.CHUNK = before


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("window", [1, 17, 64])
def test_flex_attention_sees_the_same(window: int) -> None:
    """On CUDA in compiled code; here only its forward pass can be run, uncompiled."""
    q, k, v = vectors(150, 0)
    torch.testing.assert_close(flex_window(q, k, v, window), by_mask(q, k, v, window), atol=1e-5, rtol=1e-5)


def test_no_mask_over_the_whole_context(monkeypatch: pytest.MonkeyPatch) -> None:
    largest = 0
    real = F.scaled_dot_product_attention

    def watched(q, k, v, attn_mask=None, **more):
        nonlocal largest
        largest = max(largest, 0 if attn_mask is None else attn_mask.numel())
        return real(q, k, v, attn_mask=attn_mask, **more)

    monkeypatch.setattr(window_module.F, "scaled_dot_product_attention", watched)
    config = GPTConfig(n_layer=3, n_head=1, n_embd=8, block_size=4096, vocab_size=50, sliding_window=64)
    with torch.inference_mode():
        GPT(config)(torch.randint(50, (1, 4096)))
    assert 0 < largest <= 4096 * (64 + window_module.CHUNK)


def test_memory_of_the_cache_falls_with_the_window() -> None:
    full = GPTConfig(n_layer=6, n_head=2, n_embd=16, block_size=2048, vocab_size=50)
    narrow = dataclasses.replace(full, sliding_window=256)  # SSFSSF
    sizes = [KVCache(config, 1, 2048, torch.device("cpu"), torch.float32).bytes for config in (full, narrow)]
    assert sizes[1] == sizes[0] * (2 * 2048 + 4 * 256) // (6 * 2048)
