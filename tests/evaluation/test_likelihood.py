"""Log-likelihoods: batched, windowed and shared ones against one token at a time."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tatar_llm.errors import TatarLLMError
from tatar_llm.evaluation import tree as tree_module
from tatar_llm.evaluation.likelihood import log_likelihoods, split_tokens, token_nats


def one_by_one(model, ids: list[int], block: int) -> list[float]:
    """Nats of each token but the first, each from a forward pass of its own over the context that the windows give it."""
    found = []
    step = block // 2
    for place in range(1, len(ids)):
        if place <= block:
            start = 0
        else:  # the windows after the first end at block + 1 + k * step
            end = block + 1 + -(-(place - block) // step) * step
            start = max(0, min(end, len(ids)) - block - 1)
        logits, _ = model(torch.tensor([ids[start:place]]))
        found.append(float(-logits[0, -1].float().log_softmax(-1)[ids[place]]))
    return found


@pytest.mark.parametrize("length", [2, 5, 32, 33, 34, 49, 50, 90])
def test_every_token_counts_once_with_half_a_context_or_more(any_model, length: int) -> None:
    ids = np.random.default_rng(length).integers(16, any_model.config.vocab_size, length).tolist()
    with torch.inference_mode():
        expected = one_by_one(any_model, ids, any_model.config.block_size)
    found = token_nats(any_model, [[2, 17, 18], ids, [2]])
    assert found[1] == pytest.approx(expected, abs=2e-4)
    assert len(found[0]) == 2 and len(found[2]) == 0


def test_batches_do_not_change_the_numbers(tiny_model) -> None:
    rng = np.random.default_rng(0)
    rows = [rng.integers(16, tiny_model.config.vocab_size, rng.integers(2, 33)).tolist() for _ in range(40)]
    together = token_nats(tiny_model, rows)
    for row, nats in zip(rows, together, strict=True):
        assert nats == pytest.approx(token_nats(tiny_model, [row])[0], abs=1e-4)


def test_a_common_beginning_is_read_once_to_the_same_effect(any_model, tiny_tokenizer, monkeypatch) -> None:
    items = [("Бу бик озын башлангыч сүз.", ending) for ending in (" Әйе", " юк шул", " белмим әле", " Ә")]
    items += [("Башка.", " соң"), ("Бу бик озын башлангыч сүз.", " тагын")]
    alone = [float(log_likelihoods(any_model, *tiny_tokenizer, [item])[0]) for item in items]
    assert log_likelihoods(any_model, *tiny_tokenizer, items) == pytest.approx(alone, abs=1e-3)
    assert len({round(value, 4) for value in alone}) == len(items)


@settings(deadline=None, max_examples=40)
@given(rows=st.lists(st.lists(st.integers(16, 19), min_size=2, max_size=9), min_size=1, max_size=12), tail=st.integers(1, 8), most=st.integers(8, 20))
def test_trees_hold_every_text_once(rows: list[list[int]], tail: int, most: int) -> None:
    scored = [min(tail, len(row) - 1) for row in rows]
    trees = tree_module._trees(rows, scored, most)
    seen = []
    for tree in trees:
        assert len(tree.tokens) <= most
        paths = [[] for _ in tree.tokens]
        for node, (token, parent) in enumerate(zip(tree.tokens, tree.parents, strict=True)):
            assert parent < node
            paths[node] = [*(paths[parent] if parent >= 0 else []), token]
            assert tree.ancestors()[node].sum() == len(paths[node]) == tree.depths[node] + 1
        assert len({tuple(path) for path in paths}) == len(paths), "nothing is read twice"
        edges = {number: (node, token) for (node, token), number in tree.edges.items()}
        for number, mine in tree.members:
            row = rows[number]
            assert [[*paths[edges[edge][0]], edges[edge][1]] for edge in mine] == [row[:end] for end in range(len(row) - scored[number] + 1, len(row) + 1)]
            seen.append(number)
    assert sorted(seen) == list(range(len(rows)))


def test_a_context_that_is_too_long_loses_its_beginning(tiny_model, tiny_tokenizer) -> None:
    found = log_likelihoods(tiny_model, *tiny_tokenizer, [("сүз " * 300, "ахыр"), ("сүз " * 400, "ахыр")])
    assert found[0] == pytest.approx(found[1], abs=1e-4)


@settings(deadline=None, max_examples=60)
@given(context=st.text(st.sampled_from("абв әөү.«»—\n"), max_size=12), ending=st.text(st.sampled_from("абвәөү."), min_size=1, max_size=8))
def test_the_split_loses_no_token(tiny_tokenizer, context: str, ending: str) -> None:
    ids, split = split_tokens(tiny_tokenizer[0], context, ending)
    assert 0 <= split <= len(ids)
    assert tiny_tokenizer[0].decode(ids) == context + ending
    assert split == 0 or context.strip(" ")


def test_a_model_that_answers_nan_is_told(tiny_model) -> None:
    with torch.no_grad():
        tiny_model.norm.weight.fill_(float("nan"))
    with pytest.raises(TatarLLMError, match="NaN"):
        token_nats(tiny_model, [[2, 20, 21]])


def test_ids_beyond_the_vocabulary_are_told(tiny_model) -> None:
    with pytest.raises(TatarLLMError, match="does not belong"):
        token_nats(tiny_model, [[2, tiny_model.config.vocab_size]])


def test_an_item_without_a_continuation_is_told(tiny_model, tiny_tokenizer) -> None:
    with pytest.raises(TatarLLMError, match="without a continuation"):
        log_likelihoods(tiny_model, *tiny_tokenizer, [("Казан", "")])
