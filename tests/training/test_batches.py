"""The order of the data: every token once an epoch, a pure function of seed and epoch, two integers of state."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tatar_llm.errors import TatarLLMError
from tatar_llm.tokenizer import TokenFile, read_tokens
from tatar_llm.training.batches import Batches

lengths_of_documents = st.lists(st.integers(2, 60), min_size=1, max_size=30)


def token_file(lengths: list[int], ids: np.ndarray | None = None, bytes_a_token: int = 3) -> TokenFile:
    """A token file in memory; without `ids`, the token at place n is n, so that each one is known again."""
    if ids is None:
        ids = np.arange(sum(lengths))
    sizes = np.array(lengths, dtype=np.int64)
    return TokenFile(ids.astype(np.uint16), sizes, sizes * bytes_a_token, {})


def write_token_file(path: Path, tokens: TokenFile) -> None:
    """The two files on disk that `read_tokens` opens."""
    path.write_bytes(tokens.ids.tobytes())
    lists = {"document_tokens": tokens.document_tokens.tolist(), "document_bytes": tokens.document_bytes.tolist()}
    path.with_suffix(".json").write_text(json.dumps(lists), encoding="utf-8")


def one_epoch(batches: Batches) -> tuple[np.ndarray, np.ndarray]:
    inputs, targets = batches.next(batches.windows)
    return inputs.numpy(), targets.numpy()


@settings(max_examples=60, deadline=None)
@given(lengths=lengths_of_documents, block=st.integers(1, 24), seed=st.integers(0, 99), epoch=st.integers(0, 5))
def test_every_token_is_predicted_once_an_epoch(lengths: list[int], block: int, seed: int, epoch: int) -> None:
    total = sum(lengths)
    if total < block + 1:
        lengths, total = [*lengths, block + 1], total + block + 1
    batches = Batches(token_file(lengths), block, seed)
    batches.restore({"epoch": epoch, "position": 0})
    _, targets = one_epoch(batches)
    assert batches.state() == {"epoch": epoch, "position": batches.windows}
    seen = np.bincount(targets.ravel(), minlength=total)
    again = batches.windows * block - total  # where the last window wraps round to the ring's start
    assert 0 <= again < block
    assert seen.min() == 1 and seen.sum() == total + again and (seen == 2).sum() == again


@settings(max_examples=60, deadline=None)
@given(lengths=lengths_of_documents, block=st.integers(1, 24), seed=st.integers(0, 99))
def test_windows_are_those_of_the_ring(lengths: list[int], block: int, seed: int) -> None:
    if sum(lengths) < block + 1:
        lengths = [*lengths, block + 1]
    batches = Batches(token_file(lengths), block, seed)
    starts = np.concatenate(([0], np.cumsum(lengths)))
    ring = np.concatenate([np.arange(starts[d], starts[d] + lengths[d]) for d in batches.documents])
    ring = np.roll(ring, -batches.phase)
    endless = np.concatenate((ring, ring, ring))
    naive = np.stack([endless[w * block : w * block + block + 1] for w in batches.order])
    inputs, targets = one_epoch(batches)
    assert sorted(batches.order) == list(range(batches.windows))
    assert np.array_equal(inputs, naive[:, :-1])
    assert np.array_equal(targets, naive[:, 1:])


def test_order_belongs_to_seed_and_epoch() -> None:
    tokens = token_file([7, 30, 12, 55, 20, 9])

    def order(seed: int, epoch: int) -> list[int]:
        batches = Batches(tokens, 8, seed)
        batches.restore({"epoch": epoch, "position": 0})
        return one_epoch(batches)[0].ravel().tolist()

    assert order(1, 0) == order(1, 0)
    assert order(1, 0) != order(1, 1)
    assert order(1, 0) != order(2, 0)
    phases = {Batches(tokens, 8, seed).phase for seed in range(20)}
    assert len(phases) > 5


@pytest.mark.parametrize("drawn", [0, 1, 5, 13, 17])
def test_restore_gives_the_same_batches_across_an_epochs_border(drawn: int) -> None:
    tokens = token_file([7, 30, 12, 55])
    there = Batches(tokens, 8, seed=3)
    assert there.windows == 13
    for _ in range(drawn):
        there.next(1)
    state = json.loads(json.dumps(there.state()))  # two plain integers
    here = Batches(tokens, 8, seed=3)
    here.restore(state)
    for count in (3, 4, 6, 9, 2):
        for mine, its in zip(here.next(count), there.next(count), strict=True):
            assert mine.equal(its)
    assert here.state() == there.state() and here.epoch >= 1


def test_a_batch_may_span_two_epochs() -> None:
    tokens = token_file([40, 24])
    whole, parts = Batches(tokens, 8, 0), Batches(tokens, 8, 0)
    assert whole.windows == 8
    inputs, _ = whole.next(12)
    singles = [parts.next(1)[0][0] for _ in range(12)]
    assert all(row.equal(single) for row, single in zip(inputs, singles, strict=True))
    assert whole.state() == {"epoch": 1, "position": 4}


def test_batches_from_a_memory_map(tmp_path: Path) -> None:
    tokens = token_file([20, 30])
    write_token_file(tmp_path / "train.bin", tokens)
    mapped = read_tokens(tmp_path / "train.bin")
    for mine, its in zip(Batches(mapped, 8, 1).next(7), Batches(tokens, 8, 1).next(7), strict=True):
        assert mine.equal(its) and mine.is_contiguous()


def test_too_little_text() -> None:
    Batches(token_file([5, 4]), 8, 0)
    with pytest.raises(TatarLLMError, match=r"8 tokens, fewer than one window of 8 \+ 1: .*smaller --block_size"):
        Batches(token_file([5, 3]), 8, 0)
