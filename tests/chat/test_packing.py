"""Packing and masking."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from tatar_llm.chat.batches import UNSCORED, ChatBatches, Encoded, as_window, held_out_answers, pack


@given(st.lists(st.integers(1, 33), min_size=1, max_size=300))
def test_packing_keeps_all_and_overfills_nothing(lengths: list[int]) -> None:
    windows = pack(lengths, range(len(lengths)), 33)
    assert sorted(number for window in windows for number in window) == list(range(len(lengths)))
    assert all(sum(lengths[number] for number in window) <= 33 for window in windows)


def test_packing_wastes_little() -> None:
    lengths = [5 + number * 7 % 60 for number in range(1000)]
    assert sum(lengths) > 0.95 * 257 * len(pack(lengths, range(1000), 257))


def test_only_answers_are_scored() -> None:
    one = Encoded([2, 5, 9, 7, 6, 11, 12, 7], [False] * 5 + [True] * 3)
    inputs, targets = as_window([one, one], 20, 3)
    assert inputs.tolist() == [*one.ids, *one.ids, 3, 3, 3, 3]
    first = [UNSCORED] * 4 + [11, 12, 7]
    assert targets.tolist() == [*first, UNSCORED, *first, *[UNSCORED] * 5]
    held = held_out_answers([one], 10, 20, 3)
    assert held.tokens == 3 and held.bytes == 10


class Plain:
    """Windows of nines."""

    def __init__(self) -> None:
        self.given = 0

    def next(self, count: int) -> tuple[torch.Tensor, torch.Tensor]:
        self.given += count
        return torch.full((count, 20), 9), torch.full((count, 20), 9)

    def state(self) -> dict[str, int]:
        return {"epoch": 0, "position": self.given}

    def restore(self, state: dict[str, int]) -> None:
        self.given = state["position"]


def some(epoch: int) -> list[Encoded]:
    return [Encoded([2, 5, number % 100 + 20, 6, epoch + 10, 7], [False] * 4 + [True] * 2) for number in range(50)]


def test_plain_text_has_its_share_and_a_state_goes_on_exactly() -> None:
    batches = ChatBatches(some, 20, 0, 3, Plain(), 0.25)
    inputs, _ = batches.next(40)
    assert int((inputs[:, 0] == 9).sum()) == 10
    state = batches.state()
    wanted = [batches.next(8) for _ in range(6)]
    assert batches.epoch > state["epoch"]
    again = ChatBatches(some, 20, 0, 3, Plain(), 0.25)
    again.restore(state)
    for (inputs, targets), (their_inputs, their_targets) in zip(wanted, (again.next(8) for _ in range(6)), strict=True):
        assert inputs.equal(their_inputs) and targets.equal(their_targets)
