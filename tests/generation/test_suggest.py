"""Suggestions begin as typed, say true probabilities, and do not depend on what was asked before."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tatar_llm.config import GPTConfig
from tatar_llm.errors import TatarLLMError
from tatar_llm.evaluation.likelihood import token_nats
from tatar_llm.evaluation.suggestions import WordTrigram, sentences, suggestions, typed
from tatar_llm.generation import Suggester, suggest
from tatar_llm.model import GPT
from tatar_llm.tokenizer import encode_text


@pytest.fixture
def suggester(tiny_model: GPT, tiny_tokenizer: tuple) -> Suggester:
    return Suggester(tiny_model, *tiny_tokenizer)


def test_words_begin_as_typed_and_are_sorted(suggester: Suggester) -> None:
    found = suggester.suggest("Без бүген ки", 5)
    assert found and all(one.word.startswith("ки") and one.word.isalpha() for one in found)
    assert [one.probability for one in found] == sorted((one.probability for one in found), reverse=True)
    assert sum(one.probability for one in found) <= 1 + 1e-6
    assert all(one.word.isalpha() for one in suggester.suggest("Без бүген ", 5)), "after a space: the next word"
    assert suggester.suggest("Без", 0) == []


def test_the_probability_is_that_of_the_word_and_its_end(tiny_model: GPT, tiny_tokenizer: tuple) -> None:
    """Beside the model's own likelihood of the word's usual tokens, whatever follows it."""
    tokenizer, config = tiny_tokenizer
    text = "Мин "
    wide = Suggester(tiny_model, tokenizer, config, width=400)
    best = wide.suggest(text, 3)
    before = [config["bos_token_id"], *encode_text(tokenizer, "Мин")]
    with torch.inference_mode():
        first = tiny_model(torch.tensor([before]))[0][0, -1].log_softmax(0)
    space = [token for token, letters in enumerate(wide.bytes) if letters.startswith(b" ")]
    mass = math.exp(first[space].logsumexp(0).item())
    for one in best:
        ids = [*before, *encode_text(tokenizer, " " + one.word)]
        nats = token_nats(tiny_model, [ids])[0][len(before) - 1 :].sum()
        with torch.inference_mode():
            after = tiny_model(torch.tensor([ids]))[0][0, -1].log_softmax(0)
        usual = math.exp(-nats) * math.exp(after[wide.end_ids].logsumexp(0).item()) / mass
        assert usual <= one.probability * (1 + 1e-4), "other ways to cut the word can only add"
        assert one.probability < usual * 3


def test_what_was_asked_before_changes_nothing(any_model: GPT, tiny_tokenizer: tuple) -> None:
    suggester = Suggester(any_model, *tiny_tokenizer)
    long = "Без бүген урманга бардык, анда җиләк күп иде. " * 12
    for text in ("Без бүген ур", "Без бүген урм", "Без", long + "Ул ки", long + "Ул кит", "Ул кит", "", long):
        fresh = Suggester(any_model, *tiny_tokenizer).suggest(text)
        used = suggester.suggest(text)
        assert [one.word for one in used] == [one.word for one in fresh]
        assert [one.probability for one in used] == pytest.approx([one.probability for one in fresh], rel=1e-3)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text(max_size=60))
def test_any_text_is_answered(suggester: Suggester, text: str) -> None:
    typed_part = text[len(text.rstrip("".join(c for c in text if c.isalpha()))) :]
    for one in suggester.suggest(text):
        assert one.word.isalpha() and one.word.startswith(typed_part) and 0 <= one.probability <= 1


@pytest.mark.parametrize("text", ["\ud800", "\x00", "а" * 10_000, "сүз " * 50_000, "😀"])
def test_strange_texts(suggester: Suggester, text: str) -> None:
    suggester.suggest(text)


def test_a_tokenizer_of_another_model_is_refused(tiny_config: GPTConfig, tiny_tokenizer: tuple) -> None:
    small = GPT(dataclasses.replace(tiny_config, vocab_size=50))
    with pytest.raises(TatarLLMError, match="does not belong"):
        suggest(small, *tiny_tokenizer, "Без")


class TestMeasure:
    def test_typing_counts_presses(self) -> None:
        done = typed(lambda text: ["урман"] if text.endswith("ур") else [], ["Бар урман"])
        assert done.keys == [(4, 4, 4), (6, 3, 3)], "two letters and one press instead of five letters and a space"
        assert done.right[2].tolist() == [0, 1] and done.right[3].tolist() == [0], "only words with more letters count"

    def test_a_table_of_triples(self) -> None:
        table = WordTrigram(["мин урманга барам", "мин урманга барам", "мин өйгә кайтам", "ул өйгә керә"])
        assert table.suggest("мин урманга ")[0] == "барам"
        assert table.suggest("мин өйгә к")[:2] == ["кайтам", "керә"]
        assert table.suggest("")[0] == "мин", "a line begins most often so"
        assert table.suggest("юк мондый ө")[0] == "өйгә" and table.suggest("яя") == []

    def test_the_measure(self, tiny_model: GPT, tiny_tokenizer: tuple) -> None:
        lines = sentences("Мин бүген урманга барам. Ул кайтты. Без көз көне бакчага чыктык!\n", 10)
        assert lines == ["Мин бүген урманга барам.", "Без көз көне бакчага чыктык!"], "3 to 12 words"
        found = {one.name: one for one in suggestions(tiny_model, *tiny_tokenizer, lines, WordTrigram(["Мин бүген өйдә"]))}
        assert set(found) == {"suggest_0", "suggest_1", "suggest_2", "suggest_3", "saved_1", "saved_3"}
        assert found["suggest_0"].n == 9 and found["suggest_0"].details["p95_ms"] > 0
        assert 0 <= found["saved_1"].value <= found["saved_3"].value < 1
        assert found["suggest_1"].details["trigram"] >= 1 / 9
