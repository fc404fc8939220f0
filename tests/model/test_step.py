"""One token a sequence in fewer operations: the network's numbers."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from tatar_llm.config import GPTConfig
from tatar_llm.model import GPT, KVCache, RaggedCache, Step


@pytest.mark.parametrize("values", [{}, {"n_kv_head": 1}, {"n_kv_head": 2, "tie_weights": False}, {"n_head": 8, "rope_theta": 5e5, "norm_eps": 1e-3},
                                    {"sliding_window": 4}, {"sliding_window": 7, "window_pattern": "S"}, {"n_expert": 4}], ids=str)  # fmt: skip
def test_the_same_as_the_network(tiny_config: GPTConfig, values: dict) -> None:
    torch.manual_seed(0)
    model = GPT(dataclasses.replace(tiny_config, **values)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(4) if parameter.dim() >= 2 else parameter.add_(0.3 * torch.randn_like(parameter))
    config, step = model.config, Step(model)
    ids = torch.randint(16, config.vocab_size, (3, 12))
    lengths = [4, 9, 1]
    ragged = KVCache(config, 3, config.block_size, model.device, torch.float32)
    even = KVCache(config, 3, config.block_size, model.device, torch.float32)
    with torch.inference_mode():
        expected, _ = model(ids)
        for row, length in enumerate(lengths):
            model(ids[row : row + 1, :length], cache=ragged.rows(row, row + 1))
        for new in range(3):
            places = torch.tensor(lengths) + new
            newest = ids[torch.arange(3), places]
            found = step(newest, RaggedCache(ragged, places.tolist()))
            torch.testing.assert_close(found, expected[torch.arange(3), places], atol=2e-4, rtol=1e-4)
        for place in range(12):
            torch.testing.assert_close(step(ids[:, place], even), expected[:, place], atol=2e-4, rtol=1e-4)
    assert even.position == 12
