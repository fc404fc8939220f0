"""Bits per byte, held against a slow computation of our own."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tatar_llm.config import GPTConfig
from tatar_llm.model import GPT
from tatar_llm.tokenizer import TokenFile
from tatar_llm.training.validation import Score, bootstrap_interval, held_out, score

BOS = 2
TINY = GPTConfig(n_layer=1, n_head=2, n_embd=16, block_size=8, vocab_size=50)


def documents(lengths: list[int], seed: int = 0) -> TokenFile:
    """Documents <bos> ids <eos> with random ids, and sizes in bytes that are not in proportion to their tokens."""
    random = np.random.default_rng(seed)
    parts = [np.concatenate(([BOS], random.integers(4, 50, length - 2), [3])) for length in lengths]
    sizes = np.array([3 * length + 7 * (number % 3) for number, length in enumerate(lengths)])
    return TokenFile(np.concatenate(parts).astype(np.uint16), np.array(lengths), sizes, {})


@settings(max_examples=50, deadline=None)
@given(lengths=st.lists(st.integers(2, 40), min_size=1, max_size=12), block=st.integers(2, 16))
def test_every_token_once_and_no_document_start(lengths: list[int], block: int) -> None:
    tokens = documents(lengths)
    piece = held_out(tokens, GPTConfig(n_head=2, n_embd=16, block_size=block, vocab_size=50), BOS)
    scored = piece.targets[piece.targets >= 0].tolist()
    assert scored == [int(token) for token in tokens.ids if token != BOS]  # all, once, in order
    assert piece.tokens == len(scored) == sum(lengths) - len(lengths)
    assert piece.bytes == tokens.bytes and piece.share == 1
    assert piece.inputs.shape == piece.targets.shape == (len(piece.inputs), block)
    keep = piece.targets.ravel()[:-1] >= 0
    assert piece.targets.ravel()[:-1][keep].equal(piece.inputs.ravel()[1:][keep])  # what is read next was predicted


def test_bits_per_byte_from_a_slow_computation() -> None:
    torch.manual_seed(0)
    model = GPT(TINY).train()
    for parameter in model.parameters():
        parameter.data.mul_(4)  # an untrained network is near chance: make its losses differ
    tokens = documents([5, 19, 2, 11, 30])
    stream = tokens.ids.astype(np.int64).tolist()
    nats, counted = 0.0, 0
    with torch.no_grad():
        model.eval()
        for start in range(0, len(stream) - 1, TINY.block_size):
            window = stream[start : start + TINY.block_size]
            for place in range(len(window)):
                if start + place + 1 == len(stream) or stream[start + place + 1] == BOS:
                    continue
                logits, _ = model(torch.tensor([window[: place + 1]]))
                nats -= float(torch.log_softmax(logits[0, -1].double(), -1)[stream[start + place + 1]])
                counted += 1
        model.train()
    for batch_size in (1, 3, 100):
        result = score(model, held_out(tokens, TINY, BOS), batch_size)
        assert model.training  # left as it was
        assert result.tokens == counted == sum(count for _, count in result.parts)
        assert result.nats == pytest.approx(nats, rel=1e-5)
        assert result.bits_per_byte == pytest.approx(nats / math.log(2) / int(tokens.document_bytes.sum()), rel=1e-5)
        assert result.nats_per_token == pytest.approx(nats / counted, rel=1e-5)
        assert result.perplexity == pytest.approx(math.exp(nats / counted), rel=1e-4)


def test_dropout_does_not_reach_the_score() -> None:
    config = GPTConfig(n_layer=1, n_head=2, n_embd=16, block_size=8, vocab_size=50, dropout=0.5)
    model = GPT(config).train()
    piece = held_out(documents([30, 30]), config, BOS)
    assert score(model, piece).nats == score(model, piece).nats


def test_a_part_takes_whole_documents_from_everywhere() -> None:
    tokens = documents([10] * 400)
    piece = held_out(tokens, TINY, BOS, 400)
    assert piece.inputs.numel() >= 400 and abs(piece.tokens - 360) < 10
    assert piece.share == pytest.approx(0.1)
    assert piece.bytes == pytest.approx(tokens.bytes / 10, rel=0.1)
    again = held_out(tokens, TINY, BOS, 400)
    assert again.targets.equal(piece.targets) and again.bytes == piece.bytes  # a fixed part
    first = held_out(documents([10] * 40), TINY, BOS)
    assert not piece.targets[:5].equal(first.targets[:5])  # not just the beginning


def test_a_book_does_not_fill_the_part_and_is_counted_as_cut() -> None:
    tokens = documents([5000] + [20] * 300)
    piece = held_out(tokens, TINY, BOS, 800)
    assert piece.tokens < 820
    per_token = piece.bytes / piece.tokens
    assert per_token == pytest.approx(tokens.bytes / int(tokens.document_tokens.sum()), rel=0.3)
    book = held_out(documents([5000]), TINY, BOS, 800)
    assert book.tokens == pytest.approx(800, abs=2)  # a single document is cut at what is wanted
    assert book.bytes == pytest.approx(2400, abs=8)
    few = held_out(documents([5000, 10, 10, 10]), TINY, BOS, 800)
    assert few.share == pytest.approx(few.tokens / 5030, rel=0.1)  # what was scored, not what was wanted


def test_more_than_there_is_takes_all() -> None:
    tokens = documents([10, 20])
    piece = held_out(tokens, TINY, BOS, 10_000)
    assert piece.share == 1 and piece.tokens == 28 and piece.bytes == tokens.bytes


def test_the_interval_holds_the_value_and_narrows() -> None:
    random = np.random.default_rng(1)

    def result(stretches: int) -> Score:
        parts = tuple((float(nats), 100) for nats in random.normal(500, 40, stretches))
        return Score(sum(nats for nats, _ in parts), 100 * stretches, 300 * stretches, parts)

    few, many = result(10), result(1000)
    for measured in (few, many):
        low, high = bootstrap_interval(measured)
        assert low < measured.bits_per_byte < high
        assert bootstrap_interval(measured) == [low, high]
    assert np.diff(bootstrap_interval(many)) < np.diff(bootstrap_interval(few)) / 3
    assert bootstrap_interval(Score(5.0, 10, 30, ((5.0, 10),))) == []  # one stretch says nothing about spread


def test_a_hopeless_loss_is_still_a_number() -> None:
    assert math.isfinite(Score(1e6, 10, 30).perplexity)
