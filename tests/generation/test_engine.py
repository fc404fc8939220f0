"""Generating: the cache changes nothing, a seed repeats, no half letter is ever shown."""

from __future__ import annotations

import dataclasses
import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tatar_llm.config import GPTConfig
from tatar_llm.errors import TatarLLMError
from tatar_llm.evaluation.likelihood import token_nats
from tatar_llm.generation import Settings, generate, generate_batch, generate_text, stream
from tatar_llm.generation import engine as engine_module
from tatar_llm.generation.batch import Batch
from tatar_llm.generation.engine import Prompt, TextOut
from tatar_llm.generation.sampling import choose, random_source, repeated
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
def test_greedy_is_argmax_without_a_cache(any_model: GPT, length: int, count: int) -> None:
    prompt = [2, *(16 + number * 7 % 400 for number in range(length - 1))]
    found = list(generate(any_model, prompt, Settings(max_new_tokens=count, temperature=0)))
    assert found == without_cache(any_model, prompt, count)
    assert count < 20 or len(set(found)) > 1, "a model that says the same always proves nothing"


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


def drawn(logits: np.ndarray, count: int = 300, **values: float) -> set[int]:
    source, wanted = random_source(0), Settings(**({"temperature": 1.0, "top_k": 0} | values))
    return {choose(logits, wanted, source) for _ in range(count)}


def test_top_k_and_top_p_keep_the_likeliest() -> None:
    logits = np.log([0.1, 0.4, 0.2, 0.3])
    assert drawn(logits) == {0, 1, 2, 3}
    assert drawn(logits, top_k=2) == {1, 3}
    assert drawn(logits, top_k=4) == drawn(logits, top_k=99) == {0, 1, 2, 3}
    assert drawn(logits, top_p=0.39) == {1}
    assert drawn(logits, top_p=0.41) == {1, 3}
    assert drawn(logits, top_p=0.71) == {1, 3, 2}
    assert drawn(logits, top_p=0.71, top_k=2) == {1, 3}
    assert drawn(logits, min_p=0.51) == {1, 3} and drawn(logits, min_p=0.2) == {0, 1, 2, 3} and drawn(logits, min_p=1.0) == {1}


def test_sampling_leaves_the_logits_alone() -> None:
    logits = np.array([0.0, 1.0, 2.0])
    choose(logits, Settings(top_p=0.5, repetition_penalty=2.0, no_repeat_ngram=1), random_source(0), [0, 1])
    assert logits.tolist() == [0.0, 1.0, 2.0]


def test_frequencies_follow_the_temperature() -> None:
    source, logits = random_source(0), np.array([0.0, 1.0])
    for temperature in (0.5, 1.0, 2.0):
        ones = sum(choose(logits, Settings(temperature=temperature, top_k=0), source) for _ in range(3000)) / 3000
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
        ({"max_new_tokens": 10**9}, "max_new_tokens is 1000000000"),
        ({"min_p": -0.1}, "min_p is -0.1"),
        ({"repetition_penalty": 0}, "repetition_penalty is 0"),
        ({"no_repeat_ngram": -1}, "no_repeat_ngram is -1"),
        ({"stop": ("",)}, "a stop string is empty"),
        ({"logprobs": 21}, "logprobs is 21"),
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
        space = np.array([(tokenizer.id_to_token(i) or "").startswith("Ġ") for i in range(config["vocab_size"])])
        wanted = tokenizer.decode(list(generate(model, ids, settings, config["eos_token_id"], space)))
        assert wanted.startswith(" ") and spaced == wanted[1:]


# -- many at once ----------------------------------------------------------------------------------------------------


def test_a_batch_gives_what_each_text_alone_gives(any_model: GPT, tiny_tokenizer: tuple) -> None:
    """Prompts of different length, one beyond the context, one with a space at its end; greedy and sampled."""
    prompts = ["Әби", "Мин бүген урманга бардым, анда ", "", "Без " * 60, "Ул кичә"]
    each = [Settings(max_new_tokens=10 + 7 * number, temperature=0.9 * (number % 2), seed=number) for number in range(5)]
    found = generate_batch(any_model, *tiny_tokenizer, prompts, each)
    for prompt, wanted, [made] in zip(prompts, each, found, strict=True):
        assert made.text == "".join(stream(any_model, *tiny_tokenizer, prompt, wanted))
        assert made.reason == "length" if len(made.tokens) == wanted.max_new_tokens else "stop"


def test_more_texts_than_rows(tiny_model: GPT, tiny_tokenizer: tuple, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_module, "ROWS_AT_ONCE", 3)
    settings = Settings(max_new_tokens=8, temperature=0)
    found = generate_batch(tiny_model, *tiny_tokenizer, ["Әби", "Мин", "Ул", "Без"], settings, samples=2)
    assert [len(texts) for texts in found] == [2, 2, 2, 2]
    assert all(one.text == other.text for one, other in found), "greedy samples are one text"
    assert generate_batch(tiny_model, *tiny_tokenizer, [], settings) == []
    [[nothing]] = generate_batch(tiny_model, *tiny_tokenizer, ["Әби"], Settings(max_new_tokens=0))
    assert (nothing.text, nothing.reason) == ("", "length")


def test_samples_take_seeds_that_follow(tiny_model: GPT, tiny_tokenizer: tuple) -> None:
    [texts] = generate_batch(tiny_model, *tiny_tokenizer, ["Әби"], Settings(max_new_tokens=12, temperature=1.5, seed=4), 3)
    for number, made in enumerate(texts):
        assert made.text == "".join(stream(tiny_model, *tiny_tokenizer, "Әби", Settings(12, 1.5, seed=4 + number)))
    assert len({made.text for made in texts}) == 3


def test_rows_leave_and_the_others_go_on(any_model: GPT) -> None:
    batch = Batch(any_model)
    prompts = [[2, 40], [2, 50, 60, 70], [2, 80, 90]]
    rows = [batch.add(prompt, [GREEDY])[0] for prompt in prompts]
    batch.step()
    batch.remove(rows[0])
    batch.remove(rows[0])
    while not rows[2].finished:
        batch.step()
    for row, prompt in zip(rows[1:], prompts[1:], strict=True):
        assert row.new == list(generate(any_model, prompt, GREEDY))
    assert len(rows[0].new) == 1 and not batch.rows and batch.step() == []


# -- stop, repetition, log-probabilities -------------------------------------------------------------------------------


@shared
@given(st.text("абв ", min_size=1, max_size=12), st.lists(st.text("абв ", min_size=1, max_size=3), max_size=3), st.data())
def test_a_stop_string_ends_the_text_before_itself(tiny_tokenizer: tuple, text: str, stops: list[str], data: st.DataObject) -> None:
    """However the text is cut into tokens, what is shown is the text up to the first stop string."""
    tokenizer, _ = tiny_tokenizer
    settings = Settings(stop=tuple(stops))
    out, shown = TextOut(tokenizer, Prompt([], False), settings), ""
    for token in encode_text(tokenizer, text):
        shown += out.add(token)
        assert not any(stop in shown for stop in stops)
        if out.stopped:
            break
    else:
        shown += out.add(None)
    ends = [text.find(stop) for stop in stops if stop in text]
    assert text.startswith(shown) and out.stopped == bool(ends)
    if not ends:
        assert shown == text


def test_a_stop_string_in_a_real_text(tiny_model: GPT, tiny_tokenizer: tuple) -> None:
    whole = "".join(stream(tiny_model, *tiny_tokenizer, "Әби", GREEDY))
    stop = whole[3:6]
    [[made]] = generate_batch(tiny_model, *tiny_tokenizer, ["Әби"], dataclasses.replace(GREEDY, stop=(stop,)))
    assert made.text == whole[: whole.find(stop)] and made.reason == "stop"
    assert made.text == "".join(stream(tiny_model, *tiny_tokenizer, "Әби", dataclasses.replace(GREEDY, stop=(stop,))))


def test_no_run_of_tokens_comes_twice(tiny_model: GPT) -> None:
    prompt = [2, 40, 41, 42, 40, 41]
    found = prompt + list(generate(tiny_model, prompt, dataclasses.replace(GREEDY, max_new_tokens=20, no_repeat_ngram=2)))
    pairs = list(itertools.pairwise(found))[5:]
    assert len(pairs) == len(set(pairs)) and not set(pairs) & {(40, 41), (41, 42), (42, 40)}


def test_the_penalty_is_transformers() -> None:
    from transformers import NoRepeatNGramLogitsProcessor, RepetitionPenaltyLogitsProcessor

    logits, before = torch.randn(50, generator=torch.Generator().manual_seed(0)), [3, 7, 7, 9, 3]
    theirs = RepetitionPenaltyLogitsProcessor(1.7)(torch.tensor([before]), logits[None].clone())[0]
    assert np.allclose(repeated(logits.numpy(), Settings(repetition_penalty=1.7), before), theirs)
    theirs = NoRepeatNGramLogitsProcessor(2)(torch.tensor([before]), logits[None].clone())[0]
    assert np.allclose(repeated(logits.numpy(), Settings(no_repeat_ngram=2), before), theirs)


def test_log_probabilities_are_the_models(tiny_model: GPT, tiny_tokenizer: tuple) -> None:
    [[made]] = generate_batch(tiny_model, *tiny_tokenizer, ["Әби"], Settings(12, 1.0, seed=1, logprobs=5))
    ids = [2, *encode_text(tiny_tokenizer[0], "Әби"), *made.tokens]
    nats = token_nats(tiny_model, [ids])[0][-len(made.tokens) :]
    assert [score.token for score in made.scores] == made.tokens
    assert [score.logprob for score in made.scores] == pytest.approx((-nats).tolist(), abs=1e-4)
    for score in made.scores:
        assert len(score.alternatives) == 5
        assert [value for _, value in score.alternatives] == sorted((value for _, value in score.alternatives), reverse=True)
        assert score.alternatives[0][1] >= score.logprob
