"""The network: transformers' Qwen3 is the reference; the cache, the loss and checkpointing change nothing."""

from __future__ import annotations

import dataclasses
import itertools
import math
import tempfile
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from tatar_llm.config import GPTConfig
from tatar_llm.device import can_compile
from tatar_llm.errors import TatarLLMError
from tatar_llm.model import GPT, KVCache, compiled
from tatar_llm.model.loss import chunked_cross_entropy
from tatar_llm.model.stock import stock_weights
from tatar_llm.workspace import write_json

SMALL = GPTConfig(n_layer=2, n_head=4, n_embd=32, block_size=24, vocab_size=50)


def ids_like(config: GPTConfig, batch: int, length: int, seed: int = 0) -> torch.Tensor:
    return torch.randint(config.vocab_size, (batch, length), generator=torch.Generator().manual_seed(seed))


def lively(config: GPTConfig) -> GPT:
    """Random weights large enough that every part of the graph shows in the logits."""
    torch.manual_seed(0)
    model = GPT(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(parameter * 5 if parameter.dim() >= 2 else parameter + 0.2 * torch.randn_like(parameter))
    return model


def qwen3(model: GPT):
    """The same network as transformers builds it, reloaded from a folder: experts have other names in memory than in the file."""
    transformers = pytest.importorskip("transformers")
    from tatar_llm.export.hf import hf_config, hf_weights

    special = {"bos_token_id": 2, "eos_token_id": 3, "pad_token_id": None}  # with one, its row gets no gradient
    with tempfile.TemporaryDirectory() as folder:
        write_json(Path(folder) / "config.json", hf_config(model.config, special))
        save_file(hf_weights(model), Path(folder) / "model.safetensors", metadata={"format": "pt"})
        reference, told = transformers.AutoModelForCausalLM.from_pretrained(folder, output_loading_info=True, dtype=torch.float32)
    assert not any(told[name] for name in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    assert type(reference).__name__ == ("Qwen3MoeForCausalLM" if model.config.n_expert else "Qwen3ForCausalLM")
    return reference


def their_gradients(reference) -> dict[str, torch.Tensor]:
    """Gradients under the names of the file: transformers holds the experts' gate and up as one tensor."""
    found: dict[str, torch.Tensor] = {}
    for name, parameter in reference.named_parameters():
        if name.endswith("experts.gate_up_proj"):
            parts = dict(zip(("gate_proj", "up_proj"), parameter.grad.chunk(2, dim=1), strict=True))
        elif name.endswith("experts.down_proj"):
            parts = {"down_proj": parameter.grad}
        else:
            found[name] = parameter.grad
            continue
        for part, stacked in parts.items():
            found |= {f"{name.rpartition('.')[0]}.{number}.{part}.weight": matrix for number, matrix in enumerate(stacked)}
    return found


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"tie_weights": False},
        {"n_kv_head": 4},
        {"n_kv_head": 1, "rope_theta": 500.0},
        {"ffn_hidden": 40, "norm_eps": 1e-3},
        {"sliding_window": 7},
        {"sliding_window": 1, "n_kv_head": 1, "window_pattern": "FS"},
        {"sliding_window": 5, "window_pattern": "S", "tie_weights": False},
        {"n_expert": 4},
        {"n_expert": 3, "experts_per_token": 3, "expert_hidden": 20, "tie_weights": False},
        {"n_expert": 5, "experts_per_token": 1, "n_kv_head": 1},
    ],
    ids=str,
)
def test_same_as_transformers_in_training(values: dict) -> None:
    model = lively(dataclasses.replace(SMALL, **values)).train()
    reference = qwen3(model).train()
    ids, targets = ids_like(SMALL, 3, 24), ids_like(SMALL, 3, 24, seed=1)
    ours, loss = model(ids, targets)
    theirs = reference(input_ids=ids).logits
    assert (ours - theirs).abs().max() < 1e-5
    loss.backward()
    F.cross_entropy(theirs.flatten(0, 1), targets.flatten()).backward()
    gradients = their_gradients(reference)
    ours = stock_weights({name: parameter.grad for name, parameter in model.named_parameters()})
    assert ours.keys() == gradients.keys()
    for name, gradient in ours.items():
        assert (gradient - gradients[name]).abs().max() < 1e-5 * max(1.0, float(gradients[name].abs().max())), name


VARIANTS = [{}, {"sliding_window": 5}, {"sliding_window": 1, "window_pattern": "S"}, {"sliding_window": 20, "window_pattern": "FS"}, {"n_expert": 4}]


@settings(max_examples=40, deadline=None)
@given(
    cuts=st.lists(st.integers(1, 23), max_size=6), batch=st.integers(1, 3), values=st.sampled_from(VARIANTS), whole=st.booleans()
)
def test_the_cache_changes_nothing(cuts: list[int], batch: int, values: dict, whole: bool) -> None:
    config = dataclasses.replace(SMALL, **values)
    model = lively(config).eval()
    ids = ids_like(SMALL, batch, 24)
    cache = KVCache(config, batch, 24, torch.device("cpu"), torch.float32, whole=whole)
    edges = [0, *sorted(set(cuts)), 24]
    with torch.inference_mode():
        parts = [model(ids[:, a:b], cache=cache)[0] for a, b in itertools.pairwise(edges)]
        whole, _ = model(ids)
    assert cache.position == 24
    assert (torch.cat(parts, dim=1) - whole).abs().max() < 1e-5


def test_the_future_is_not_seen() -> None:
    model = lively(SMALL).eval()
    ids = ids_like(SMALL, 1, 24)
    other = ids.clone()
    other[0, 12:] = (other[0, 12:] + 1) % 50
    with torch.inference_mode():
        first, second = model(ids)[0], model(other)[0]
    assert torch.allclose(first[0, :12], second[0, :12], atol=1e-6)
    assert not torch.allclose(first[0, 12:], second[0, 12:], atol=1e-2)


@settings(max_examples=40, deadline=None)
@given(
    count=st.integers(1, 40), chunk=st.integers(1, 50), hidden=st.sampled_from([0.0, 0.3, 1.0]),
    seed=st.integers(0, 99), z_loss=st.sampled_from([0.0, 0.01]),
)  # fmt: skip
def test_chunked_loss_is_cross_entropy(count: int, chunk: int, hidden: float, seed: int, z_loss: float) -> None:
    source = torch.Generator().manual_seed(seed)
    x = (3 * torch.randn(count, 8, generator=source)).requires_grad_()
    weight = torch.randn(30, 8, generator=source).requires_grad_()
    targets = torch.randint(30, (count,), generator=source)
    targets[torch.rand(count, generator=source) < hidden] = -100
    loss = chunked_cross_entropy(x, weight, targets, chunk, z_loss)
    (2.5 * loss).backward()
    grads, x.grad, weight.grad = (x.grad, weight.grad), None, None
    if (targets == -100).all():  # cross_entropy says nan here; a batch without targets must not spoil a run
        assert loss == 0
        assert not grads[0].any() and not grads[1].any()
        return
    logits = x @ weight.t()
    expected = F.cross_entropy(logits, targets) + z_loss * logits.logsumexp(-1)[targets >= 0].square().mean()
    (2.5 * expected).backward()
    assert torch.allclose(loss, expected, atol=1e-5, rtol=1e-5)
    assert torch.allclose(grads[0], x.grad, atol=1e-5, rtol=1e-5)
    assert torch.allclose(grads[1], weight.grad, atol=1e-4)


def test_the_gradients_of_a_large_batch_survive_fp16() -> None:
    """As with a gradient scaler: the loss is scaled up before the backward pass, and nothing is lost in between."""
    source = torch.Generator().manual_seed(0)
    x, weight = 0.5 * torch.randn(4096, 16, generator=source), 0.5 * torch.randn(64, 16, generator=source)
    targets = torch.randint(64, (4096,), generator=source)
    grads = []
    for dtype, scale in ((torch.float32, 1.0), (torch.float16, 4096.0)):
        mine, its = x.detach().clone().requires_grad_(), weight.detach().clone().requires_grad_()
        (scale * chunked_cross_entropy(mine.to(dtype), its.to(dtype), targets)).backward()
        grads.append((mine.grad / scale, its.grad / scale))
    for one, other in zip(*grads, strict=True):
        assert (one - other).norm() < 0.01 * one.norm()


def test_chunked_loss_of_huge_logits_is_finite() -> None:
    x, weight = torch.full((2, 4), 1e3), torch.eye(4) * 1e3
    assert torch.isfinite(chunked_cross_entropy(x, weight, torch.tensor([0, 3]), 1))


@pytest.mark.parametrize("tied", [True, False])
def test_loss_with_and_without_logits(tied: bool) -> None:
    ids, targets = ids_like(SMALL, 2, 24), ids_like(SMALL, 2, 24, seed=1)
    targets[0, :7] = -100
    results = []
    for wanted in (True, False):
        model = lively(dataclasses.replace(SMALL, tie_weights=tied)).train()
        logits, loss = model(ids, targets, return_logits=wanted)
        assert (logits is not None) == wanted
        loss.backward()
        results.append((loss, [parameter.grad for parameter in model.parameters()]))
    (loss, grads), (chunked, chunked_grads) = results
    assert torch.allclose(loss, chunked, atol=1e-5)
    for one, other in zip(grads, chunked_grads, strict=True):
        assert torch.allclose(one, other, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_gradient_checkpointing_changes_nothing(dropout: float) -> None:
    grads = []
    for checkpointing in (False, True):
        model = lively(dataclasses.replace(SMALL, dropout=dropout)).train()
        model.gradient_checkpointing = checkpointing
        torch.manual_seed(1)
        model(ids_like(SMALL, 2, 24), ids_like(SMALL, 2, 24, seed=1), return_logits=False)[1].backward()
        grads.append([parameter.grad for parameter in model.parameters()])
    for one, other in zip(*grads, strict=True):
        assert torch.allclose(one, other, atol=1e-6)


@pytest.mark.parametrize("values", [{}, {"tie_weights": False}, {"n_kv_head": 1}, {"ffn_hidden": 7, "n_layer": 3}], ids=str)
def test_the_formula_counts_the_parameters(values: dict) -> None:
    config = dataclasses.replace(SMALL, **values)
    assert config.parameters() == GPT(config).parameter_count()


def test_tied_weights_are_one_tensor() -> None:
    tied, free = GPT(SMALL), GPT(dataclasses.replace(SMALL, tie_weights=False))
    assert tied.head.weight is tied.embedding.weight
    assert free.head.weight is not free.embedding.weight


def test_a_fresh_network_knows_nothing() -> None:
    torch.manual_seed(0)
    _, loss = GPT(SMALL)(ids_like(SMALL, 4, 24), ids_like(SMALL, 4, 24, seed=1))
    assert abs(loss.item() - math.log(50)) < 0.1


def test_norms_do_not_decay() -> None:
    model = GPT(SMALL)
    optimizer = model.configure_optimizers(0.1, 1e-3, (0.9, 0.95), "cpu")
    decayed, free = optimizer.param_groups
    assert decayed["weight_decay"] == 0.1 and all(parameter.dim() == 2 for parameter in decayed["params"])
    assert free["weight_decay"] == 0 and all(parameter.dim() == 1 for parameter in free["params"])
    assert len(decayed["params"]) + len(free["params"]) == len(list(model.parameters()))


def test_too_long_is_one_line() -> None:
    model = GPT(SMALL)
    with pytest.raises(TatarLLMError, match="25 tokens do not fit into the context of 24"):
        model(ids_like(SMALL, 1, 25))
    cache = KVCache(SMALL, 1, 24, torch.device("cpu"), torch.float32)
    with torch.inference_mode():
        model(ids_like(SMALL, 1, 20), cache=cache)
        with pytest.raises(TatarLLMError, match="25 tokens"):
            model(ids_like(SMALL, 1, 5), cache=cache)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"n_embd": 30, "n_head": 4}, "not divisible by n_head 4: take --n_embd 28"),
        ({"n_embd": 12, "n_head": 4}, "odd number"),
        ({"n_head": 4, "n_kv_head": 3}, "n_kv_head 3"),
        ({"n_layer": 0}, "n_layer is 0"),
        ({"vocab_size": 70000}, "65535"),
        ({"dropout": 1.0}, "dropout"),
        ({"sliding_window": 256}, "sliding_window 256 does not fit a context of 256"),
        ({"sliding_window": -1}, "sliding_window -1"),
        ({"sliding_window": 8, "window_pattern": "SX"}, "made of S"),
        ({"n_expert": 4, "experts_per_token": 5}, "experts_per_token 5 does not fit n_expert 4"),
        ({"n_expert": 4, "experts_per_token": 0}, "experts_per_token 0"),
        ({"n_expert": 1}, "take 2 or more"),
        ({"n_expert": 4, "sliding_window": 8}, "do not go together"),
    ],
)
def test_networks_that_cannot_be(values: dict, said: str) -> None:
    with pytest.raises(TatarLLMError, match=said):
        GPTConfig(**values)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.skipif(not can_compile(torch.device("cpu"))[0], reason="no C++ compiler")
@pytest.mark.parametrize("bf16", [False, True], ids=["fp32", "bf16"])
@pytest.mark.parametrize("values", [{"n_expert": 4}, {"sliding_window": 5}], ids=str)
def test_compiled_code_computes_the_same(values: dict, bf16: bool) -> None:
    """torch's grouped product takes bf16 alone there; with fp32 the experts go one after the other."""
    model = lively(dataclasses.replace(SMALL, **values)).train()
    ids, targets = ids_like(SMALL, 2, 24), ids_like(SMALL, 2, 24, seed=1)
    found = []
    for network in (model, compiled(model)):
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=bf16):
            _, loss = network(ids, targets, return_logits=False)
        loss.backward()
        found.append((loss.detach(), torch.nn.utils.clip_grad_norm_(model.parameters(), math.inf)))
        model.zero_grad()
    torch.testing.assert_close(found[0], found[1], rtol=0.03 if bf16 else 1e-4, atol=1e-5)
