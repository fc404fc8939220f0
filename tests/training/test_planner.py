"""From minutes to a plan."""

from __future__ import annotations

import dataclasses
import json

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tatar_llm.config import GPTConfig, TrainConfig
from tatar_llm.device import Execution
from tatar_llm.training import start
from tatar_llm.training.planner import (
    MOST_PASSES,
    REPEATS_WORTH,
    SIZES,
    TOKENS_A_PARAMETER,
    Plan,
    autocast_dtype,
    choose_size,
    compile_pays,
    dropout_for,
    expected_bits,
    measure_flops,
    measure_peak,
    most_passes,
    split_micro_batch,
    timed_settings,
    useful_tokens,
)

PLAN = Plan(
    device="cpu", precision="fp32", compile=False, threads=1, micro_batch=4, accumulation=2, total_steps=100,
    eval_interval=10, checkpoint_interval=20, seconds=60.0,
)  # fmt: skip


@given(
    flops=st.floats(1e9, 1e14),
    seconds=st.floats(5, 1e5),
    factor=st.floats(1, 100),
    unique=st.integers(10_000, 300_000_000),
    vocab=st.sampled_from([300, 8192, 32768]),
)
def test_more_time_never_gives_a_smaller_network(
    flops: float, seconds: float, factor: float, unique: int, vocab: int
) -> None:
    base = GPTConfig(vocab_size=vocab)
    short, short_tokens = choose_size(flops, seconds, unique, base)
    long, long_tokens = choose_size(flops, seconds * factor, unique, base)
    assert long.parameters() >= short.parameters()
    for config, tokens, time in ((short, short_tokens, seconds), (long, long_tokens, seconds * factor)):
        assert (config.n_layer, config.n_embd, config.n_head) in SIZES
        assert (config.vocab_size, config.block_size) == (vocab, base.block_size)
        assert tokens <= MOST_PASSES * unique
        assert tokens * config.flops_per_token() <= flops * time * 1.001  # it fits the time


def test_sizes_grow() -> None:
    counts = [GPTConfig(n_layer=layers, n_embd=width, n_head=heads).parameters() for layers, width, heads in SIZES]
    assert counts == sorted(counts)
    small, _ = choose_size(1e10, 60, 5_000_000, GPTConfig())
    large, _ = choose_size(1e14, 36_000, 100_000_000, GPTConfig())
    assert small.n_embd < 256 and large.n_embd > 512


def test_dropout_follows_the_passes() -> None:
    few, _ = choose_size(1e10, 60, 100_000_000, GPTConfig())
    many, tokens = choose_size(1e12, 36_000, 1_000_000, GPTConfig())
    assert few.dropout == 0 and many.dropout == dropout_for(tokens / 1_000_000) > 0
    assert [dropout_for(passes) for passes in (0.5, 4, 10, 40)] == [0, 0, 0.1, 0.2]
    assert tokens == int(most_passes(1_000_000, many.parameters()) * 1_000_000)
    assert most_passes(42_000, 1.2e6) == 8 and 50 < most_passes(18e6, 1.4e6) <= MOST_PASSES


@given(tokens=st.floats(1, 1e10), unique=st.integers(1000, 10**9), factor=st.floats(1, 50))
def test_repeats_are_worth_less_and_less(tokens: float, unique: int, factor: float) -> None:
    useful = useful_tokens(tokens, unique)
    assert useful <= tokens + 1e-6 and useful <= unique * (1 + REPEATS_WORTH)
    assert useful_tokens(tokens * factor, unique) >= useful - 1e-6
    assert useful_tokens(tokens, int(unique * factor)) >= useful * (1 - 1e-9)
    if tokens <= unique:
        assert useful == tokens


def test_the_network_can_be_filled_by_what_it_sees() -> None:
    for seconds in (60, 600, 6000, 60_000):
        for unique in (100_000, 5_000_000, 100_000_000):
            config, tokens = choose_size(1e11, seconds, unique, GPTConfig())
            smallest = (config.n_layer, config.n_embd, config.n_head) == SIZES[0]
            assert smallest or useful_tokens(tokens, unique) >= TOKENS_A_PARAMETER * config.parameters()


@given(
    parameters=st.floats(1e5, 1e9), tokens=st.floats(1e4, 1e10), unique=st.floats(1e4, 1e9), factor=st.floats(1, 20)
)  # fmt: skip
def test_more_of_anything_is_expected_to_be_better(
    parameters: float, tokens: float, unique: float, factor: float
) -> None:
    here = expected_bits(parameters, tokens, unique)
    assert expected_bits(parameters * factor, tokens, unique) <= here + 1e-9
    assert expected_bits(parameters, tokens * factor, unique) <= here + 1e-9
    assert expected_bits(parameters, tokens, unique * factor) <= here + 1e-9
    assert expected_bits(parameters, tokens, unique, bigram=2 * 1.115) == pytest.approx(2 * here)


@pytest.mark.parametrize(
    ("parameters", "millions", "measured"),
    [(1.4e6, 8.6, 1.034), (1.4e6, 0.6, 1.302), (2.9e6, 1.2, 1.233), (5.2e6, 0.6, 1.338), (10.2e6, 4.3, 1.017), (23.1e6, 2.58, 1.106)],
)
def test_the_fit_meets_what_was_measured(parameters: float, millions: float, measured: float) -> None:
    assert expected_bits(parameters, millions * 1e6, 18e6) == pytest.approx(measured, rel=0.05)


def test_the_peak_is_that_of_matrix_products(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TATAR_LLM_DEVICE", "cpu")
    before = torch.get_rng_state()
    assert 1e9 < measure_peak(Execution("cpu", "fp32", False, 1, ()), seconds=0.01) < 1e15
    assert torch.get_rng_state().equal(before)


@pytest.mark.parametrize("tokens", [1000, 3_000_000, 60_000_000, 500_000_000])
def test_timed_settings_spend_the_tokens(tokens: int) -> None:
    config = GPTConfig(n_layer=2, n_head=2, n_embd=128)
    settings = timed_settings(TrainConfig(seed=5, weight_decay=0.3), config, tokens)
    spent = settings.max_iters * settings.batch_size * settings.gradient_accumulation_steps * config.block_size
    assert settings.max_iters >= 10 and (settings.seed, settings.weight_decay) == (5, 0.3)
    assert settings.max_iters == 10 or tokens * 0.9 < spent <= tokens


@given(batch=st.integers(1, 200), accumulation=st.integers(1, 16), block=st.sampled_from([16, 256, 1000, 8192]))
def test_split_keeps_the_effective_batch(batch: int, accumulation: int, block: int) -> None:
    train = TrainConfig(batch_size=batch, gradient_accumulation_steps=accumulation)
    config = GPTConfig(block_size=block)
    micro, parts = split_micro_batch(train, config, "cpu")
    assert micro * parts == batch * accumulation
    assert micro <= batch and (micro == 1 or micro * block <= 2048)
    assert split_micro_batch(train, config, "cuda") == (batch, accumulation)


def test_the_seed_recipe_is_cut_into_pieces_of_the_cache() -> None:
    train = TrainConfig(batch_size=32, gradient_accumulation_steps=4)
    assert split_micro_batch(train, GPTConfig(block_size=256), "cpu") == (8, 16)


def test_a_plan_and_its_revisions_survive_a_file() -> None:
    plan = PLAN.revised(10, 200).revised(60, 180)
    assert (plan.total_steps, plan.revisions) == (180, ((10, 200), (60, 180)))
    assert PLAN.total_steps == 100
    assert Plan.from_dict(json.loads(json.dumps(dataclasses.asdict(plan)))) == plan
    assert Plan.from_dict(dataclasses.asdict(PLAN)) == PLAN


@pytest.mark.parametrize(
    ("device", "precision", "available", "seconds", "pays"),
    [
        ("cpu", "fp32", True, 600, False),
        ("cpu", "fp32", True, 7200, True),
        ("cpu", "bf16", True, 600, True),
        ("cuda", "bf16", True, 60, False),
        ("cuda", "bf16", True, 600, True),
        ("cuda", "bf16", False, 1e6, False),
    ],
)
def test_compile_pays_in_long_runs(device: str, precision: str, available: bool, seconds: float, pays: bool) -> None:
    answer, why = compile_pays(Execution(device, precision, available, 2, ()), seconds)
    assert answer is pays and why


def test_measured_speed_is_that_of_real_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TATAR_LLM_DEVICE", "cpu")
    before = torch.get_rng_state()
    flops = measure_flops(Execution("cpu", "fp32", False, 1, ()), 300, 16, seconds=0.05)
    assert 1e6 < flops < 1e15
    assert torch.get_rng_state().equal(before)  # measuring must not change the training that follows


def test_autocast() -> None:
    assert [autocast_dtype(kind) for kind in ("bf16", "fp16", "fp32")] == [torch.bfloat16, torch.float16, None]


def test_a_resume_stays_on_the_device_of_its_plan(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("TATAR_LLM_DEVICE", raising=False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    plan = dataclasses.replace(PLAN, threads=torch.get_num_threads())
    assert start._fit_plan_to_machine(plan) == plan
    assert capsys.readouterr().err == ""


def test_a_resume_on_a_machine_without_the_device_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TATAR_LLM_DEVICE", "cpu")
    there = dataclasses.replace(PLAN, device="cuda", precision="fp16", compile=True)
    here = start._fit_plan_to_machine(there)
    assert here.device == "cpu" and here.precision in ("fp32", "bf16")
    assert (here.total_steps, here.micro_batch) == (there.total_steps, there.micro_batch)
    assert "began on cuda; going on with cpu: not bit-equal" in capsys.readouterr().err
