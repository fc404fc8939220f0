"""Generating: the cache changes nothing, a seed repeats, no half letter is ever shown."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tatar_llm.config import GPTConfig
from tatar_llm.errors import TatarLLMError
from tatar_llm.generation import Settings, generate, generate_text, stream
from tatar_llm.generation import engine as engine_module
from tatar_llm.generation.sampling import choose
from tatar_llm.model import GPT
from tatar_llm.tokenizer import decode_stream, encode_text

GREEDY = Settings(max_new_tokens=20, temperature=0)
shared = settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def without_cache(model: GPT, prompt: list[int], count: int) -> list[int]:
    """Greedy, every token from a fresh pass over the window; a full window goes on with its newer half."""
    block = model.config.block_size
    window, new = prompt[-(block - 1) :], []
    with torch.inference_mode():
        for _ in range(count):
            if len(window) > block:
                window = window[-(block // 2) :]
            new.append(int(model(torch.tensor([window]))[0][0, -1].argmax()))
            window = [*window, new[-1]]
    return new


@pytest.mark.parametrize("length", [1, 5, 30, 31, 32, 33, 100])
@pytest.mark.parametrize("count", [1, 20, 100])
def test_greedy_is_argmax_without_a_cache(tiny_model: GPT, length: int, count: int) -> None:
    prompt = [2, *(16 + number * 7 % 400 for number in range(length - 1))]
    found = list(generate(tiny_model, prompt, Settings(max_new_tokens=count, temperature=0)))
    assert found == without_cache(tiny_model, prompt, count)
    assert count < 20 or len(set(found)) > 3, "a model that says the same always proves nothing"


@pytest.mark.parametrize("block", [1, 2, 3])
def test_the_shortest_contexts(block: int) -> None:
    torch.manual_seed(0)
    model = GPT(GPTConfig(n_layer=1, n_head=1, n_embd=8, block_size=block, vocab_size=20)).eval()
    assert len(list(generate(model, [2, 5, 6], Settings(max_new_tokens=7, seed=0)))) == 7


def test_a_seed_repeats_and_none_does_not(tiny_model: GPT) -> None:
    def run(seed: int | None) -> list[int]:
        return list(generate(tiny_model, [2], Settings(max_new_tokens=30, temperature=2.0, top_k=0, seed=seed)))

    assert run(7) == run(7)
    assert run(7) != run(8)
    assert run(None) != run(None)


def test_a_seed_leaves_the_programs_randomness_alone(tiny_model: GPT) -> None:
    before = torch.get_rng_state()
    list(generate(tiny_model, [2], Settings(max_new_tokens=3, seed=1)))
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize("narrow", [{"top_k": 1}, {"top_k": 0, "top_p": 1e-9}, {"temperature": 1e-4}], ids=str)
def test_narrow_sampling_is_greedy(tiny_model: GPT, narrow: dict) -> None:
    wanted = list(generate(tiny_model, [2, 40], GREEDY))
    values = {"max_new_tokens": 20, "temperature": 1.0, "seed": 3} | narrow
    assert list(generate(tiny_model, [2, 40], Settings(**values))) == wanted


def drawn(logits: torch.Tensor, count: int = 300, **values: float) -> set[int]:
    source = torch.Generator().manual_seed(0)
    choice = {"temperature": 1.0, "top_k": 0, "top_p": 1.0} | values
    return {choose(logits.clone(), generator=source, **choice) for _ in range(count)}


def test_top_k_and_top_p_keep_the_likeliest() -> None:
    logits = torch.tensor([0.1, 0.4, 0.2, 0.3]).log()
    assert drawn(logits) == {0, 1, 2, 3}
    assert drawn(logits, top_k=2) == {1, 3}
    assert drawn(logits, top_k=4) == drawn(logits, top_k=99) == {0, 1, 2, 3}
    assert drawn(logits, top_p=0.39) == {1}
    assert drawn(logits, top_p=0.41) == {1, 3}
    assert drawn(logits, top_p=0.71) == {1, 3, 2}
    assert drawn(logits, top_p=0.71, top_k=2) == {1, 3}


def test_sampling_leaves_the_logits_alone() -> None:
    logits = torch.tensor([0.0, 1.0, 2.0])
    choose(logits, 1.0, 1, 0.5)
    assert logits.tolist() == [0.0, 1.0, 2.0]


def test_frequencies_follow_the_temperature() -> None:
    source, logits = torch.Generator().manual_seed(0), torch.tensor([0.0, 1.0])
    for temperature in (0.5, 1.0, 2.0):
        ones = sum(choose(logits, temperature, 0, 1.0, source) for _ in range(3000)) / 3000
        assert abs(ones - 1 / (1 + math.exp(-1 / temperature))) < 0.04


def test_it_stops_at_the_end(tiny_model: GPT) -> None:
    found = list(generate(tiny_model, [2], GREEDY))
    stop = found[6]
    assert list(generate(tiny_model, [2], GREEDY, stop=stop)) == found[: found.index(stop)]


def test_nothing_asked_nothing_given(tiny_model: GPT) -> None:
    assert list(generate(tiny_model, [2], Settings(max_new_tokens=0))) == []


# -- text ------------------------------------------------------------------------------------------------------------


def test_an_empty_prompt_starts_a_document(tiny_model: GPT, tiny_tokenizer: tuple) -> None:
    tokenizer, config = tiny_tokenizer
    ids = itertools.takewhile(lambda token: token != 3, generate(tiny_model, [2], GREEDY))
    pieces = list(stream(tiny_model, tokenizer, config, "", GREEDY))
    assert "".join(pieces) == tokenizer.decode(list(ids))
    assert all(pieces)


def test_generate_text_is_prompt_and_continuation(tiny_model: GPT, tiny_tokenizer: tuple) -> None:
    tokenizer, config = tiny_tokenizer
    values = {"max_new_tokens": 15, "temperature": 0.9, "top_k": 30, "seed": 5}
    text = generate_text(tiny_model, tokenizer, config, "Әби бүген", **values)
    assert text == "Әби бүген" + "".join(stream(tiny_model, tokenizer, config, "Әби бүген", Settings(**values)))
    assert text == generate_text(tiny_model, tokenizer, config, "Әби бүген", 15, 0.9, 30, "cpu", seed=5)
    assert len(text) > len("Әби бүген")


@pytest.mark.parametrize("prompt", ["Әби " * 200, "<eos>", "\ud800", "\n", "😀"])
def test_odd_prompts(tiny_model: GPT, tiny_tokenizer: tuple, prompt: str) -> None:
    assert generate_text(tiny_model, *tiny_tokenizer, prompt, 5, seed=0).startswith(prompt)


@pytest.mark.parametrize("training", [True, False])
def test_the_mode_of_the_model_comes_back(tiny_model: GPT, tiny_tokenizer: tuple, training: bool) -> None:
    tiny_model.train(training)
    generate_text(tiny_model, *tiny_tokenizer, "Әти", 3)
    assert tiny_model.training == training
    pieces = stream(tiny_model, *tiny_tokenizer, "Әти", Settings(max_new_tokens=20, seed=0))
    next(pieces)
    pieces.close()  # a listener who goes away
    assert tiny_model.training == training


def test_another_tokenizer_is_refused(tiny_tokenizer: tuple) -> None:
    small = GPT(GPTConfig(n_layer=1, n_head=1, n_embd=8, block_size=8, vocab_size=20))
    with pytest.raises(TatarLLMError, match="does not belong to this model"):
        generate_text(small, *tiny_tokenizer, "Казан")


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"max_new_tokens": -1}, "max_new_tokens is -1"),
        ({"temperature": -0.1}, "temperature is -0.1"),
        ({"temperature": math.nan}, "temperature is nan"),
        ({"temperature": math.inf}, "temperature is inf"),
        ({"top_k": -1}, "top_k is -1"),
        ({"top_p": 0.0}, "top_p is 0.0"),
        ({"top_p": 1.1}, "top_p is 1.1"),
        ({"seed": 10**30}, "seed is 1000"),
    ],
)
def test_settings_out_of_range(values: dict, said: str) -> None:
    with pytest.raises(TatarLLMError, match=said):
        Settings(**values)


# -- whole characters ------------------------------------------------------------------------------------------------


def pieces_of(tokenizer, ids: list[int]) -> list[str]:
    step = decode_stream(tokenizer)
    return [step(token) for token in [*ids, None]]


@shared
@given(text=st.text(st.characters(exclude_categories=["Cs"]), max_size=40))
@example("\ufffd" * 5)
def test_text_comes_in_whole_characters(tiny_tokenizer: tuple, text: str) -> None:
    pieces = pieces_of(tiny_tokenizer[0], encode_text(tiny_tokenizer[0], text))
    assert "".join(pieces) == text
    assert "\ufffd" in text or not any("\ufffd" in piece for piece in pieces)


@shared
@given(ids=st.lists(st.integers(16, 271) | st.integers(0, 460), max_size=40))
@example([16 + 94 + 60] * 7)
def test_whatever_a_model_says_is_what_decoding_gives(tiny_tokenizer: tuple, ids: list[int]) -> None:
    tokenizer, _ = tiny_tokenizer
    ids = [*ids, *encode_text(tokenizer, "ң")]
    assert "".join(pieces_of(tokenizer, ids)) == tokenizer.decode(ids, skip_special_tokens=True)


def test_text_is_not_held_longer_than_needed(tiny_tokenizer: tuple) -> None:
    tokenizer, _ = tiny_tokenizer
    ids = encode_text(tokenizer, "Әби 😀 бүген ңҗ")
    step, shown = decode_stream(tokenizer), ""
    for number, token in enumerate(ids, start=1):
        shown += step(token)
        assert shown == tokenizer.decode(ids[:number]).rstrip("\ufffd")


def test_a_stream_speaks_with_any_model(
    tiny_model: GPT, tiny_tokenizer: tuple, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokenizer, config = tiny_tokenizer
    ids = encode_text(tokenizer, "җиде 😀 үрдәк")
    monkeypatch.setattr(engine_module, "generate", lambda *_: iter(ids))
    pieces = list(stream(tiny_model, tokenizer, config, "", GREEDY))
    assert "".join(pieces) == "җиде 😀 үрдәк" and "😀" in "".join(pieces) and "" not in pieces


def test_a_space_at_the_end_belongs_to_the_next_word(tiny_tokenizer: tuple) -> None:
    """After "Әни " comes a token that begins with a space, written once."""
    tokenizer, config = tiny_tokenizer
    torch.manual_seed(3)
    model = GPT(GPTConfig(n_layer=1, n_head=2, n_embd=16, block_size=32, vocab_size=config["vocab_size"])).eval()
    for seed in range(10):
        settings = Settings(max_new_tokens=6, temperature=2.0, top_k=0, seed=seed)
        spaced = "".join(stream(model, tokenizer, config, "Әни ", settings))
        ids = [config["bos_token_id"], *tokenizer.encode("Әни").ids]
        space = torch.tensor([(tokenizer.id_to_token(i) or "").startswith("Ġ") for i in range(config["vocab_size"])])
        wanted = tokenizer.decode(list(generate(model, ids, settings, config["eos_token_id"], space)))
        assert wanted.startswith(" ") and spaced == wanted[1:]
