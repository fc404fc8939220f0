"""What the page says, in Tatar, Russian and English; a part of it stands on the page of `export web` too."""

from __future__ import annotations

import functools
import json
from pathlib import Path

from tatar_llm.errors import TatarLLMError
from tatar_llm.export.web.page import FOLDER
from tatar_llm.serving.worker import Busy, Closed

LANGUAGES = {"tt": "Татарча", "ru": "Русский", "en": "English"}
"""Code -> its name for itself, in the order of the switch; the first is what the page begins with."""

Words = dict[str, str]


@functools.cache
def all_words() -> dict[str, Words]:
    """Language -> key -> text."""
    shared, own = (
        json.loads((folder / "words.json").read_text(encoding="utf-8")) for folder in (FOLDER, Path(__file__).parent)
    )
    return {language: shared[language] | own[language] for language in LANGUAGES}


def words_of(language: str) -> Words:
    """The texts of a language of the page; those of the first one for any other."""
    return all_words()[language if language in LANGUAGES else next(iter(LANGUAGES))]


def amount(value: float, digits: int, language: str) -> str:
    """A number as the language writes it: 1.168 or 1,168."""
    text = f"{value:.{digits}f}"
    return text if language == "en" else text.replace(".", ",")


def line_of(error: Exception, words: Words) -> str:
    """One line for people about what went wrong."""
    if isinstance(error, Busy):
        return words["busy"]
    if isinstance(error, Closed):
        return words["closing"]
    return str(error) if isinstance(error, TatarLLMError) else words["error"]
