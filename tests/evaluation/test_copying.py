"""Known words and copied runs, on texts small enough to count by hand."""

from __future__ import annotations

from pathlib import Path

import pytest

from tatar_llm.evaluation.copying import copied_share, known_word_share, whole_words, words

TRAIN = "Кичә без урманга бардык һәм анда күп җиләк җыйдык.\nӘни чәй куйды.\n"


@pytest.fixture
def train(tmp_path: Path) -> Path:
    path = tmp_path / "train.txt"
    path.write_text(TRAIN, encoding="utf-8")
    return path


def test_words_are_lower_case_and_hold_no_numbers() -> None:
    assert words("Казан – 1906 елда, көн-төн «Сәлам»!") == ["казан", "елда", "көн-төн", "сәлам"]


def test_known_words(train: Path) -> None:
    assert known_word_share(["Әни урманга барды"], train) == pytest.approx(2 / 3)  # барды stands nowhere, бардык does
    assert known_word_share(["ӘНИ чәй"], train) == 1
    assert known_word_share(["12 34 !"], train) == 0


def test_the_cut_word_at_the_end_does_not_count() -> None:
    assert whole_words("Әни чәй куй") == "Әни чәй "
    assert whole_words("Әни чәй куйды.") == "Әни чәй куйды."


def test_copied_runs(train: Path) -> None:
    copied = "Кичә без урманга бардык һәм анда күп җиләк җыйдык"  # nine words, both runs of eight stand there
    assert copied_share([copied], train) == 1
    assert copied_share(["Бүген " + copied], train) == pytest.approx(9 / 10)
    assert copied_share(["без урманга бардык һәм анда күп җиләк"], train) == 0  # seven are no run
    assert copied_share(["Кичә без шәһәргә бардык һәм анда күп җиләк җыйдык"], train) == 0
    assert copied_share([], train) == 0


def test_a_run_may_reach_over_a_line_end(train: Path) -> None:
    assert copied_share(["анда күп җиләк җыйдык. Әни чәй куйды. Бардык"], train) == 0
    assert copied_share(["һәм анда күп җиләк җыйдык. Әни чәй куйды"], train) == 1
