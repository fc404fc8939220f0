"""How much of generated text is the training text's own: known words, and runs copied word for word."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path

WORD = re.compile(r"[^\W\d_]+(?:-[^\W\d_]+)*")
RUN = 8


def words(text: str) -> list[str]:
    """The words of a text in lower case, without punctuation and numbers."""
    return WORD.findall(text.lower())


def whole_words(text: str) -> str:
    """`text` without the word at its end, which the limit on new tokens may have cut in two."""
    return text[: text.rfind(" ") + 1] if text[-1:].isalpha() else text


def known_word_share(samples: Iterable[str], train_text: Path) -> float:
    """Share of the samples' words that occur somewhere in the training text."""
    made = [word for sample in samples for word in words(sample)]
    missing = set(made)
    for line in _lines(train_text):
        missing.difference_update(words(line))
        if not missing:
            break
    return sum(word not in missing for word in made) / len(made) if made else 0.0


def copied_share(samples: Iterable[str], train_text: Path) -> float:
    """Share of the samples' words that lie inside a run of 8 words standing in the training text as well."""
    texts = [words(sample) for sample in samples]
    wanted = {run for text in texts for run in _runs(text)}
    found: set[tuple[str, ...]] = set()
    tail: list[str] = []
    for line in _lines(train_text) if wanted else ():
        block = tail + words(line)
        found.update(run for run in _runs(block) if run in wanted)
        tail = block[-(RUN - 1) :]
    copied = total = 0
    for text in texts:
        inside = [False] * len(text)
        for start, run in enumerate(_runs(text)):
            if run in found:
                inside[start : start + RUN] = [True] * RUN
        copied, total = copied + sum(inside), total + len(text)
    return copied / total if total else 0.0


def _runs(text: list[str]) -> Iterator[tuple[str, ...]]:
    return (tuple(text[start : start + RUN]) for start in range(len(text) - RUN + 1))


def _lines(path: Path) -> Iterator[str]:
    with open(path, encoding="utf-8", newline="\n") as file:
        yield from file
