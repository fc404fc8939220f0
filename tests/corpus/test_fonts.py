"""Broken fonts: documents where a letter is lost or stands under another's name."""

from __future__ import annotations

from tatar_llm.corpus.fonts import broken_font
from tatar_llm.corpus.sources import Sample
from tatar_llm.languages import load_language

TATAR = load_language("tat")
TEXT = "\n".join(file.read_text(encoding="utf-8") for file in Sample().files()[:12])


def fault(text: str) -> dict[str, str] | None:
    found = broken_font(text, TATAR.frequencies, TATAR.keyboard)
    return found.mapping if found else None


def test_a_whole_text_has_no_fault() -> None:
    assert len(TEXT) > 20_000
    assert fault(TEXT) is None and fault(TEXT.upper()) is None
    assert fault(TEXT[:500].translate(str.maketrans("әү", "яи"))) is None, "too short to judge"


def test_letters_under_other_names_are_found() -> None:
    found = fault(TEXT.translate(str.maketrans("әүӘҮ", "€¥€¥")))
    assert found == {"ә": "€", "ү": "¥"}
    assert fault(TEXT.translate(str.maketrans("әүӘҮ", "єўЄЎ"))) == {"ә": "є", "ү": "ў"}


def test_lost_letters_are_found() -> None:
    lost = TEXT.translate({ord(letter): None for letter in TATAR.keyboard + TATAR.keyboard.upper()})
    found = fault(lost)
    assert found is not None and set(found) >= {"ә", "ү"}


def test_a_language_without_frequencies_is_not_judged() -> None:
    assert broken_font(TEXT, {}, "әө") is None
