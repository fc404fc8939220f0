"""n-gram baselines against the textbook, written out with dictionaries."""

from __future__ import annotations

import math
from collections import Counter, defaultdict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tatar_llm.tokenizer import read_tokens
from tatar_llm.tokenizer.baselines import KneserNey, ngram_baselines
from tatar_llm.workspace import Workspace, read_json

BOS, EOS, SIZE = 2, 3, 12
documents = st.lists(st.lists(st.integers(4, SIZE - 1), max_size=12), min_size=1, max_size=8)


def flat(texts: list[list[int]]) -> np.ndarray:
    return np.array([token for text in texts for token in (BOS, *text, EOS)], dtype=np.uint16)


def slow_unigram(train: list[list[int]], val: list[list[int]]) -> float:
    """Nats; every id counted once more than it was seen."""
    counts = Counter(token for text in train for token in (*text, EOS))
    total = sum(counts.values()) + SIZE
    return -sum(math.log((counts[token] + 1) / total) for text in val for token in (*text, EOS))


def slow_bigram(train: list[list[int]], val: list[list[int]]) -> float:
    """Nats under interpolated Kneser-Ney, document by document."""
    pairs = Counter(pair for text in train for pair in zip((BOS, *text), (*text, EOS), strict=True))
    once, twice = (sum(count == n for count in pairs.values()) for n in (1, 2))
    discount = once / (once + 2 * twice) if once else 0.5
    before, after = defaultdict(set), defaultdict(set)
    for first, second in pairs:
        before[second].add(first)
        after[first].add(second)
    kinds = sum(len(found) for found in before.values()) + 1e-3 * SIZE
    nats = 0.0
    for text in val:
        for first, second in zip((BOS, *text), (*text, EOS), strict=True):
            continuation = (len(before[second]) + 1e-3) / kinds
            total = sum(pairs[first, other] for other in after[first])
            if total:
                left = discount * len(after[first]) / total
                nats -= math.log(max(pairs[first, second] - discount, 0) / total + left * continuation)
            else:
                nats -= math.log(continuation)
    return nats


@settings(max_examples=150, deadline=None)
@given(train=documents, val=documents)
def test_same_as_the_textbook(train: list[list[int]], val: list[list[int]]) -> None:
    found = ngram_baselines(flat(train), flat(val), 100, SIZE, BOS)
    per_byte = 100 * math.log(2)
    assert found["unigram"] == pytest.approx(slow_unigram(train, val) / per_byte)
    assert found["bigram"] == pytest.approx(slow_bigram(train, val) / per_byte)


@settings(max_examples=60, deadline=None)
@given(train=documents, text=st.lists(st.integers(4, SIZE - 1), max_size=6), order=st.integers(2, 5))
def test_probabilities_add_up_to_one(train: list[list[int]], text: list[int], order: int) -> None:
    model = KneserNey(flat(train), order, SIZE, BOS)
    after = [token for token in range(SIZE) if token != BOS]  # <bos> is never predicted; it keeps almost nothing
    total = sum(math.exp(-model.nats(np.array([BOS, *text, token]))[-1]) for token in after)
    assert 1 - 2e-3 < total <= 1 + 1e-9


def slow_kneser_ney(train: list[list[int]], text: list[int], order: int) -> float:
    """Nats of one document, with dictionaries and recursion."""
    grams: Counter[tuple[int, ...]] = Counter()
    before = defaultdict(set)
    begins: Counter[tuple[int, ...]] = Counter()
    for document in train:
        tokens = (BOS, *document, EOS)
        for end in range(1, len(tokens)):
            for length in range(1, min(order, end + 1) + 1):
                gram = tokens[end - length + 1 : end + 1]
                grams[gram] += 1
                if length <= end:
                    before[gram].add(tokens[end - length])
                else:
                    begins[gram] += 1
    counts = {gram: grams[gram] if len(gram) == order else len(before[gram]) + begins[gram] for gram in grams}

    def probability(context: tuple[int, ...], token: int) -> float:
        if not context:
            total = sum(counts.get((other,), 0) + 1e-3 for other in range(SIZE))
            return (counts.get((token,), 0) + 1e-3) / total
        of_length = [count for gram, count in counts.items() if len(gram) == len(context) + 1]
        once, twice = of_length.count(1), of_length.count(2)
        discount = once / (once + 2 * twice) if once else 0.5
        followers = {gram: count for gram, count in counts.items() if len(gram) == len(context) + 1 and gram[:-1] == context}
        shorter = probability(context[1:], token)
        if not followers:
            return shorter
        total = sum(followers.values())
        return max(counts.get((*context, token), 0) - discount, 0) / total + discount * len(followers) / total * shorter

    tokens = (BOS, *text, EOS)
    return -sum(math.log(probability(tokens[max(0, end - order + 1) : end], tokens[end])) for end in range(1, len(tokens)))


@settings(max_examples=60, deadline=None)
@given(train=documents, text=st.lists(st.integers(4, SIZE - 1), max_size=8), order=st.integers(2, 5))
def test_longer_n_grams_are_the_recursion_of_the_paper(train: list[list[int]], text: list[int], order: int) -> None:
    found = KneserNey(flat(train), order, SIZE, BOS).nats(flat([text])).sum()
    assert found == pytest.approx(slow_kneser_ney(train, text, order))


def test_ids_near_the_largest_do_not_overflow() -> None:
    train = np.array([2, 65534, 65533, 65534, 3], dtype=np.uint16)
    assert 0 < ngram_baselines(train, train, 10, 65535, 2)["bigram"] < math.inf


def test_they_stand_in_the_manifest(tiny_workspace: Workspace) -> None:
    train, val = (read_tokens(tiny_workspace.tokens / f"{name}.bin") for name in ("train", "val"))
    facts = read_json(tiny_workspace.tokens_manifest)
    expected = ngram_baselines(train.ids, val.ids, val.bytes, facts["vocab_size"], 2)
    assert facts["baselines"] == pytest.approx(expected)
    assert 0 < expected["bigram"] < expected["unigram"]
