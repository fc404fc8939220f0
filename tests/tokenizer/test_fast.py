"""Encoding by the fastest way: never other ids, whatever is installed and whoever wins."""

from __future__ import annotations

import json
import time

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from made_up import tatar_lines
from tokenizers import Tokenizer

from tatar_llm.tokenizer import encode_text
from tatar_llm.tokenizer import fast as fast_module
from tatar_llm.tokenizer.fast import Encoder, ranks_are_merges

shared = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture(autouse=True)
def race_on_little(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fast_module, "RACE_CHARACTERS", 100)


def own_ids(tokenizer: Tokenizer, texts: list[str]) -> list[list[int]]:
    return [encode_text(tokenizer, text) for text in texts]


@shared
@given(text=st.text(st.characters(exclude_categories=["Cs"])) | st.text("аәңҗ Bz\n\r\t .,!?-'«»12٣\u00a0\u0301_ſ<eos>", max_size=200))
def test_tiktoken_has_the_same_ids(tiny_tokenizer: tuple, text: str) -> None:
    pytest.importorskip("tiktoken")
    rival = fast_module.tiktoken_way(tiny_tokenizer[0])
    assert rival is not None
    assert rival([text, "ә"]) == own_ids(tiny_tokenizer[0], [text, "ә"])
    assert rival([]) == []



@pytest.mark.parametrize("wins", [True, False])
def test_the_faster_one_goes_on(tiny_tokenizer: tuple, monkeypatch: pytest.MonkeyPatch, wins: bool) -> None:
    texts = tatar_lines(50)
    expected = own_ids(tiny_tokenizer[0], texts)
    known = dict(zip(texts, expected, strict=True))

    def rival(texts: list[str]) -> list[list[int]]:
        time.sleep(0 if wins else 0.5)
        return [known[text] for text in texts]

    monkeypatch.setattr(fast_module, "tiktoken_way", lambda _: rival)
    encoder = Encoder(tiny_tokenizer[0])
    monkeypatch.setattr(encoder, "_usual", lambda texts: (time.sleep(0.1), [known[text] for text in texts])[1])
    encoder.way = encoder._usual
    assert encoder(texts) == expected
    assert (encoder.way is rival) == wins and encoder.rival is None
    assert encoder(texts[:3]) == expected[:3]


def test_other_ids_never_win(tiny_tokenizer: tuple, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fast_module, "tiktoken_way", lambda _: lambda texts: [[1] for _ in texts])
    texts = tatar_lines(50)
    encoder = Encoder(tiny_tokenizer[0])
    assert encoder(texts) == encoder(texts) == own_ids(tiny_tokenizer[0], texts)


def test_without_tiktoken(tiny_tokenizer: tuple, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "tiktoken", None)
    texts = tatar_lines(50)
    encoder = Encoder(tiny_tokenizer[0])
    assert encoder.rival is None and encoder(texts) == own_ids(tiny_tokenizer[0], texts)


# -- when the two agree ----------------------------------------------------------------------------------------------

LETTERS = {"a": 16, "b": 17, "c": 18}


def bpe(*merges: str) -> dict:
    return {"type": "BPE", "merges": [merge.split() for merge in merges]}


def test_ours_agrees(tiny_tokenizer: tuple) -> None:
    model = json.loads(tiny_tokenizer[0].to_str())["model"]
    assert ranks_are_merges(model, {piece: number for piece, number in model["vocab"].items() if number >= 16})


@pytest.mark.parametrize(
    ("model", "more"),
    [
        (bpe("a b", "b c"), {"bc": 19, "ab": 20}),  # ids in another order than the merges
        (bpe("a b"), {"ab": 19, "abc": 20}),  # a token that no merge makes
        (bpe("b c", "a b", "ab c"), {"bc": 19, "ab": 20, "abc": 21}),  # abc merges to a + bc, which no merge joins
        ({"type": "Unigram"}, {}),
        (bpe("a b") | {"dropout": 0.1}, {"ab": 19}),
    ],
)
def test_others_do_not(model: dict, more: dict[str, int]) -> None:
    assert not ranks_are_merges(model, LETTERS | more)
    assert ranks_are_merges(bpe("a b", "ab c"), LETTERS | {"ab": 19, "abc": 20})
