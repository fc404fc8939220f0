"""Talk goes to standard error, in UTF-8, and says sizes and times as people do."""

from __future__ import annotations

import io
import sys

import pytest

from tatar_llm import console


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 bytes"), (1023, "1023 bytes"), (1536, "1.5 KiB"), (200_822_852, "191.5 MiB"), (5 * 2**30, "5.0 GiB"),
     (5000 * 2**30, "5000.0 GiB")],
)  # fmt: skip
def test_human_bytes(count: int, text: str) -> None:
    assert console.human_bytes(count) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(-3, "0 s"), (0.4, "0 s"), (89, "89 s"), (90, "2 min"), (3570, "1 h 0 min"), (3725, "1 h 2 min"), (90000, "25 h 0 min")],
)
def test_human_time(seconds: float, text: str) -> None:
    assert console.human_time(seconds) == text


def test_say_leaves_standard_output_alone(capsys: pytest.CaptureFixture[str]) -> None:
    console.say("сәлам")
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "сәлам\n")


def test_utf8_on_a_russian_windows_pipe(monkeypatch: pytest.MonkeyPatch) -> None:
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stderr", io.TextIOWrapper(raw, encoding="cp1251"))
    with pytest.raises(UnicodeEncodeError):
        console.say("әни")
    monkeypatch.setattr(sys, "stderr", io.TextIOWrapper(raw, encoding="cp1251"))
    console.use_utf8()
    console.say("әни \udc80")
    assert raw.getvalue() == "әни ?\n".encode()


def test_utf8_with_streams_that_are_none_of_python(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", None)  # pythonw
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    console.use_utf8()
    console.say("x")
    assert sys.stderr.getvalue() == "x\n"


def test_progress_lines_without_a_terminal(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    now = [0.0]
    monkeypatch.setattr(console.time, "monotonic", lambda: now[0])
    with console.progress("training", 100, "steps") as advance:
        advance(1)
        now[0] = 12.0
        advance(25, "loss 3.1")
        now[0] = 15.0
        advance(30)
        now[0] = 30.0
        advance(50, total=200)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.splitlines() == [
        "training: 25 of 100 steps, 36 s left  loss 3.1",
        "training: 50 of 200 steps, 2 min left",
    ]


def test_progress_of_unknown_length_in_bytes(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    now = [0.0]
    monkeypatch.setattr(console.time, "monotonic", lambda: now[0])
    with console.progress("download", None, "bytes") as advance:
        now[0] = 11.0
        advance(1536)
    assert capsys.readouterr().err == "download: 1.5 KiB, 140 bytes/s\n"


def test_progress_bar_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    screen = Terminal()
    monkeypatch.setattr(sys, "stderr", screen)
    with console.progress("training", 10, "steps") as advance:
        advance(10, "loss 2.5", total=20)
    assert "training" in screen.getvalue() and "10/20" in screen.getvalue()
