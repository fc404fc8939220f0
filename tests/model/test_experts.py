"""The mixture of experts: every token through its experts, whatever the others choose."""

from __future__ import annotations

import dataclasses

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from tatar_llm.config import GPTConfig
from tatar_llm.model import GPT
from tatar_llm.model.experts import MixtureOfExperts

CONFIG = GPTConfig(n_layer=2, n_head=2, n_embd=16, block_size=16, vocab_size=40, n_expert=5, experts_per_token=2, expert_hidden=8)


def mixture(config: GPTConfig = CONFIG) -> MixtureOfExperts:
    torch.manual_seed(0)
    made = MixtureOfExperts(config)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.normal_(std=0.5)
    return made


def one_by_one(made: MixtureOfExperts, x: torch.Tensor) -> torch.Tensor:
    rows = []
    for token in x:
        weight, chosen = made.router(token).softmax(-1).topk(made.each)
        parts = [F.linear(F.silu(F.linear(token, made.gate.weight[e])) * F.linear(token, made.up.weight[e]), made.down.weight[e]) for e in chosen]
        rows.append(sum(part * share for part, share in zip(parts, weight / weight.sum(), strict=True)))
    return torch.stack(rows)


@settings(max_examples=25, deadline=None)
@given(tokens=st.integers(1, 40), each=st.integers(1, 5), hidden=st.sampled_from([3, 8]), seed=st.integers(0, 50))
def test_as_one_token_after_the_other(tokens: int, each: int, hidden: int, seed: int) -> None:
    """A width of 3 goes expert by expert, one of 8 by the grouped product, where torch has it."""
    made = mixture(dataclasses.replace(CONFIG, experts_per_token=each, expert_hidden=hidden))
    x = torch.randn(tokens, 16, generator=torch.Generator().manual_seed(seed))
    torch.testing.assert_close(made(x)[0], one_by_one(made, x), atol=1e-4, rtol=1e-4)


def test_nothing_is_dropped_where_all_choose_the_same() -> None:
    made = mixture()
    x = torch.randn(1, 16).expand(300, 16)
    y, routing = made(x)
    torch.testing.assert_close(y, one_by_one(made, x[:1]).expand(300, 16), atol=1e-4, rtol=1e-4)
    assert sorted(routing.load.tolist()) == [0, 0, 0, 0.5, 0.5]
    assert routing.balance > 1


def test_an_even_router_has_balance_one() -> None:
    made = mixture()
    with torch.no_grad():
        made.router.weight.zero_()
    with torch.no_grad():
        routing = made(torch.randn(10, 16))[1]
    assert routing.balance == pytest.approx(1) and routing.load.sum() == pytest.approx(1)
    assert routing.z == pytest.approx(torch.tensor(5.0).log().item() ** 2)


def test_the_router_learns_balance_and_the_loss_stays_cross_entropy() -> None:
    ids, targets = torch.randint(40, (2, 16)), torch.randint(40, (2, 16))
    found = []
    for weight in (0.0, 1.0):
        torch.manual_seed(0)
        model = GPT(CONFIG).train()
        model.balance_loss = model.router_z_loss = weight
        _, loss = model(ids, targets, return_logits=False)
        loss.backward()
        found.append((loss.item(), model.blocks[0].ffn.router.weight.grad.clone()))
        torch.testing.assert_close(model.expert_load.sum(dim=1), torch.ones(2))
    assert found[0][0] == pytest.approx(found[1][0], abs=1e-6)
    assert not torch.allclose(found[0][1], found[1][1])


def test_counts_of_parameters() -> None:
    model = GPT(CONFIG)
    assert model.parameter_count() == CONFIG.parameters()
    assert CONFIG.parameters() - CONFIG.active_parameters() == 2 * 3 * 3 * 16 * 8
