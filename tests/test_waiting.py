"""Waiting for work that hears nothing: its result, its error, a limit, Ctrl-C."""

from __future__ import annotations

import _thread
import math
import threading

import pytest

from tatar_llm.waiting import NoAnswer, within


@pytest.mark.parametrize("seconds", [20, math.inf])
def test_what_the_work_gives_or_raises(seconds: float) -> None:
    assert within(seconds, lambda: threading.current_thread().daemon) is True
    with pytest.raises(ZeroDivisionError):
        within(seconds, lambda: 1 // 0)


def test_too_late_is_no_answer_and_what_comes_is_closed() -> None:
    go_on, closed = threading.Event(), threading.Event()

    class Late:
        def close(self) -> None:
            closed.set()

    def work() -> Late:
        go_on.wait(60)
        return Late()

    with pytest.raises(NoAnswer, match="no answer within"):
        within(0.01, work)
    go_on.set()
    assert closed.wait(60)


def test_ctrl_c_is_heard_while_the_work_goes_on() -> None:
    go_on = threading.Event()
    threading.Timer(0.05, _thread.interrupt_main).start()
    with pytest.raises(KeyboardInterrupt):
        within(math.inf, lambda: go_on.wait(60))
    assert not go_on.is_set()
    go_on.set()
