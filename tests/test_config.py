"""Settings: recipe below command line, and errors that name what was meant."""

from __future__ import annotations

from pathlib import Path

import pytest

from tatar_llm.config import (
    ChatConfig,
    CorpusConfig,
    GPTConfig,
    TokenizerConfig,
    TrainConfig,
    as_dict,
    field_help,
    field_names,
    from_values,
    load_recipe,
    recipe_names,
)
from tatar_llm.errors import TatarLLMError, nearest

KINDS = (CorpusConfig, TokenizerConfig, GPTConfig, TrainConfig, ChatConfig)


def recipe_file(folder: Path, text: str) -> str:
    path = folder / "mine.toml"
    path.write_text(text, encoding="utf-8")
    return str(path)


def test_command_line_over_recipe_over_default(tmp_path: Path) -> None:
    path = recipe_file(tmp_path, "[model]\nn_layer = 3\nn_head = 4\n[train]\nmax_iters = 7\nlearning_rate = 1\n")
    recipe = load_recipe(path, {"n_layer": 5, "max_iters": None, "seed": 9})
    assert recipe.name == "mine"
    assert (recipe.model.n_layer, recipe.model.n_head, recipe.model.n_embd) == (5, 4, GPTConfig().n_embd)
    assert (recipe.train.max_iters, recipe.train.seed) == (7, 9)
    assert recipe.train.learning_rate == 1.0 and type(recipe.train.learning_rate) is float  # TOML's 1 is welcome


def test_vocab_size_reaches_tokenizer_and_network() -> None:
    recipe = load_recipe("tiny", {"vocab_size": 1234})
    assert recipe.tokenizer.vocab_size == recipe.model.vocab_size == 1234


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[model]\nn_layers = 3\n", r"unknown setting 'n_layers' \(did you mean n_layer\?\)"),
        ("[train]\nlearning_rat = 0.1\n", r"did you mean learning_rate\?"),
        ("[modle]\nn_layer = 3\n", r"unknown section \[modle\] \(did you mean model\?\)"),
        ("[model]\nn_layer = '3'\n", r"n_layer is '3', expected int"),
        ("[model]\nn_layer = 3.5\n", r"n_layer is 3.5, expected int"),
        ("[model]\nn_layer = true\n", r"n_layer is True, expected int"),
        ("[model]\ntie_weights = 1\n", r"tie_weights is 1, expected bool"),
        ("[train]\ndevice = 3\n", r"device is 3, expected str"),
        ("[model\n", "is not valid TOML"),
    ],
)
def test_a_bad_recipe_is_named(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(TatarLLMError, match=said):
        load_recipe(recipe_file(tmp_path, text))


def test_a_recipe_that_is_not_utf8(tmp_path: Path) -> None:
    path = tmp_path / "old.toml"
    path.write_bytes("description = \"татарча\"".encode("cp1251"))
    with pytest.raises(TatarLLMError, match="not valid TOML"):
        load_recipe(str(path))


def test_an_unknown_recipe_names_the_nearest() -> None:
    with pytest.raises(TatarLLMError, match=r"no recipe 'smal' \(did you mean small\?\): there are base,"):
        load_recipe("smal")
    with pytest.raises(TatarLLMError, match=r"no recipe 'absent\.toml'"):
        load_recipe("absent.toml")


def test_nearest_is_silent_when_nothing_is_near() -> None:
    assert nearest("zzzzzz", recipe_names()) == ""


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"n_layer": 0}, "n_layer is 0: it must be at least 1"),
        ({"n_embd": 100, "n_head": 8}, "n_embd 100 is not divisible by n_head 8: take --n_embd 96 or"),
        ({"n_embd": 4, "n_head": 8}, "take --n_embd 8 or"),
        ({"n_embd": 24, "n_head": 8}, "n_embd / n_head is 3, an odd number"),
        ({"n_head": 8, "n_kv_head": 3}, "n_head 8 is not divisible by n_kv_head 3"),
        ({"vocab_size": 65536}, "over 65535"),
        ({"dropout": 1.0}, "outside"),
        ({"dropout": -0.1}, "outside"),
        ({"block_size": -1}, "block_size is -1"),
        ({"rope_theta": 0.0}, "rope_theta is 0.0: it must be a number greater than 0"),
        ({"norm_eps": float("nan")}, "norm_eps is nan"),
    ],
)
def test_a_network_that_cannot_be(values: dict, said: str) -> None:
    with pytest.raises(TatarLLMError, match=said):
        GPTConfig(**values)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"batch_size": 0}, "batch_size is 0: it must be at least 1"),
        ({"max_iters": 0}, "max_iters"),
        ({"keep_checkpoints": 0}, "keep_checkpoints"),
        ({"warmup_iters": -1}, "warmup_iters"),
        ({"optimizer": "sgd"}, "it must be one of adamw, muon"),
        ({"schedule": "step"}, "it must be one of cosine, linear"),
        ({"precision": "int8"}, "it must be one of auto, bf16, fp16, fp32"),
        ({"compile": "yes"}, "it must be one of auto, on, off"),
        ({"learning_rate": 0.0}, "greater than 0"),
        ({"learning_rate": float("nan")}, "learning_rate is nan"),
        ({"learning_rate": float("inf")}, "learning_rate is inf"),
        ({"weight_decay": -0.1}, "weight_decay is -0.1"),
        ({"grad_clip": float("nan")}, "grad_clip is nan"),
        ({"beta2": 1.0}, "beta2 is 1.0: it must be at least 0 and below 1"),
    ],
)
def test_a_training_that_cannot_be(values: dict, said: str) -> None:
    with pytest.raises(TatarLLMError, match=said):
        TrainConfig(**values)


def test_derived_widths() -> None:
    even = GPTConfig(n_head=8, n_embd=512)
    assert (even.n_kv_head, even.ffn_hidden, even.head_dim) == (4, 1536, 64)
    assert GPTConfig(n_head=5, n_embd=320).n_kv_head == 5  # an odd number of heads has no half
    assert GPTConfig(n_head=1, n_embd=64).n_kv_head == 1
    assert GPTConfig(n_head=8, n_kv_head=1, ffn_hidden=100).ffn_hidden == 100


@pytest.mark.parametrize("values", [{}, {"tie_weights": False}, {"n_kv_head": 8}, {"ffn_hidden": 600, "n_layer": 2}])
def test_parameters_are_those_of_the_network(values: dict) -> None:
    from tatar_llm.model import GPT

    config = GPTConfig(**{"n_layer": 3, "n_embd": 64, "vocab_size": 300, **values})
    assert config.parameters() == GPT(config).parameter_count()


def test_flops_grow_with_size_and_context() -> None:
    small = GPTConfig(n_layer=2, n_embd=128, n_head=2)
    assert small.flops_per_token() > 6 * small.parameters()
    longer = GPTConfig(n_layer=2, n_embd=128, n_head=2, block_size=1024)
    assert longer.flops_per_token() - small.flops_per_token() == 6 * 2 * 128 * (1024 - 256)
    untied = GPTConfig(n_layer=2, n_embd=128, n_head=2, tie_weights=False)
    assert untied.flops_per_token() == small.flops_per_token()  # looking up a row costs nothing


@pytest.mark.parametrize("kind", KINDS)
def test_every_field_has_its_help(kind: type) -> None:
    assert set(field_help(kind)) == set(field_names(kind))
    assert all(text.strip() for text in field_help(kind).values())


def test_base_and_seed_are_the_network_of_23_million() -> None:
    for name in ("base", "seed"):
        assert abs(load_recipe(name).model.parameters() / 23e6 - 1) < 0.01


def test_seed_has_the_numbers_of_the_brief() -> None:
    recipe = load_recipe("seed")
    model, train = recipe.model, recipe.train
    assert (model.n_layer, model.n_head, model.n_embd, model.block_size) == (6, 8, 512, 256)
    assert (train.batch_size, train.gradient_accumulation_steps, train.max_iters) == (32, 4, 10000)
    assert (train.learning_rate, train.warmup_iters) == (3e-4, 100)
    assert (train.weight_decay, train.grad_clip) == (0.1, 1.0)
    assert recipe.tokenizer.vocab_size == 8192


def test_lists_become_tuples_and_back() -> None:
    config = from_values(CorpusConfig, {"source": ["a", "b"]}, "command line")
    assert config.source == ("a", "b")
    assert as_dict(config)["source"] == ["a", "b"]
