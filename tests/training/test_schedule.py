"""The learning rate as a pure function of progress."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tatar_llm.training.schedule import SCHEDULES, cosine, linear, multiplier


@pytest.mark.parametrize("name", SCHEDULES)
@given(floor=st.floats(0, 1), first=st.floats(-0.5, 1.5), second=st.floats(-0.5, 1.5))
def test_from_one_down_to_the_floor(name: str, floor: float, first: float, second: float) -> None:
    shape = SCHEDULES[name]
    assert shape(0.0, floor) == pytest.approx(1)
    assert shape(1.0, floor) == pytest.approx(floor)
    assert shape(min(first, second), floor) >= shape(max(first, second), floor) - 1e-12
    assert floor - 1e-12 <= shape(first, floor) <= 1 + 1e-12


def test_known_values() -> None:
    assert cosine(0.5, 0.1) == pytest.approx(0.55)
    assert cosine(0.25, 0.0) == pytest.approx(0.853553, abs=1e-6)
    assert linear(0.25, 0.2) == pytest.approx(0.8)


def test_warmup_then_the_schedule() -> None:
    rates = [multiplier(step, 1000, 100, "linear", 0.0) for step in range(1000)]
    assert rates[0] == pytest.approx(1 / 101)
    assert rates[99] == pytest.approx(100 / 101)
    assert rates[100] == max(rates) == 1
    assert rates[550] == pytest.approx(0.5)
    assert rates[999] == pytest.approx(1 / 900)
    assert all(later > earlier for earlier, later in itertools.pairwise(rates[:101]))
    assert all(later < earlier for earlier, later in itertools.pairwise(rates[100:]))


def test_a_short_run_is_not_all_warmup() -> None:
    rates = [multiplier(step, 50, 100, "cosine", 0.1) for step in range(50)]
    assert rates.index(max(rates)) == 10 and max(rates) == 1
    assert multiplier(0, 1, 100, "cosine", 0.1) == 1  # one step alone is done at full rate


@given(step=st.integers(0, 5000), total=st.integers(1, 5000), warmup=st.integers(0, 500), floor=st.floats(0, 1))
def test_never_zero_before_the_end_nor_above_the_peak(step: int, total: int, warmup: int, floor: float) -> None:
    rate = multiplier(step, total, warmup, "linear", floor)
    assert 0 <= rate <= 1
    if step < total:
        assert rate > 0
    else:
        assert rate == pytest.approx(floor)
