"""Telling languages apart: own examples of each, with CLD2 and without."""

from __future__ import annotations

import pytest

from tatar_llm.corpus.language import LanguageJudge, cld2
from tatar_llm.languages import load_language

TATAR = load_language("tat")
JUDGES = [LanguageJudge(TATAR, cld2()), LanguageJudge(TATAR, None)]


@pytest.mark.parametrize("judge", JUDGES, ids=["cld2", "letters and words"])
@pytest.mark.parametrize(
    ("line", "language"),
    [
        ("Бүген урамда салкын, кар ява, балалар чана шуа.", None),
        ("Барды да кайтты, ашады да ятты.", None),
        ("«Братья Карамазовы» романын ул ике тапкыр укыган.", None),
        ("Иске имлада «қәләм» сүзе шулай языла иде.", None),
        ("Она сегодня не пришла, потому что очень устала.", "Russian"),
        ("Нурсөя апа сказала, что Рөстәм уже уехал в Чаллы.", "Russian"),
        ("Беҙҙең ауылда элек ҙур мәҙрәсә булған.", "Bashkir"),
        ("Менің атам ауылда тұрады, оның жылқысы көп.", "Kazakh"),
        ("Эпӗ Шупашкарта пурӑнатӑп, университетра вӗренетӗп.", "Chuvash"),
    ],
)
def test_lines(judge: LanguageJudge, line: str, language: str | None) -> None:
    assert judge.foreign(line) == language


@pytest.mark.parametrize("judge", JUDGES, ids=["cld2", "letters and words"])
def test_other_scripts(judge: LanguageJudge) -> None:
    assert judge.other_script("Min sine bik yaratam, belän kilmädeñ") == "Latin-script Tatar"
    assert judge.other_script("The weather in London is rainy today") is None


def test_a_document_goes_with_most_of_its_text() -> None:
    judge = JUDGES[1]
    russian = "Она сегодня не пришла, потому что очень устала."
    assert judge.document([(russian, "Russian"), (russian, "Russian"), ("Ага.", None)]) == "Russian"
    assert judge.document([(russian, "Russian"), ("Бүген урамда салкын, кар ява, балалар чана шуа.", None)]) is None
    assert judge.document([("Ага.", None)]) is None


def test_cld2_does_not_fail_on_strange_characters() -> None:
    judge = JUDGES[0]
    for line in ("а\x7fб" * 20, "что\ufffe не " * 10, "не \ud800 что " * 10):
        judge.foreign(line)
