"""The pieces of HTML that are the page's own. All text in them comes from outside and is escaped.

They hold no word of the page's languages where they are written while the model speaks: the switch would not reach them.
"""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from tatar_llm.generation import Suggestion
from tatar_llm.serving.web.words import Words, amount
from tatar_llm.serving.worker import Piece

LEVELS = (0.5, 0.2, 0.05, 0.01)
"""Probabilities at which the colour of a token changes."""
LEVEL_NAMES = ("≥ 50 %", "20–50 %", "5–20 %", "1–5 %", "< 1 %")
SAMPLE = "sample"
"""Name of the corpus that comes with the program, which tells people nothing."""
GIVEN = 160
"""Characters of the prompt that are shown before its continuation."""
BUTTONS = 3
SILENT = "…"
"""Stands for an answer without a word."""


def escaped(text: str) -> str:
    """Text that may stand anywhere in HTML, and that Gradio takes for no template."""
    return html.escape(text).replace("{", "&#123;").replace("}", "&#125;").replace("$", "&#36;")


@dataclass
class Written:
    """A text as it grows."""

    spans: list[tuple[str, float]] = field(default_factory=list)
    """(text, probability): a token, or several that have a character in common."""
    waiting: float = 0.0
    """Log-probability of tokens that no text has come of yet."""

    def add(self, piece: Piece) -> None:
        """What the worker has told of it."""
        self.waiting += sum(score.logprob for score in piece.scores)
        if piece.text:
            self.spans.append((piece.text, math.exp(min(0.0, self.waiting))))
            self.waiting = 0.0

    @property
    def text(self) -> str:
        """Without the probabilities."""
        return "".join(text for text, _ in self.spans)


def samples_html(prompt: str, samples: Sequence[Written], language: str) -> str:
    """Continuations side by side, each token with its level; whether the levels are coloured is for the style sheet."""
    given = prompt if len(prompt) <= GIVEN else f"…{prompt[-GIVEN:]}"
    cards = []
    for sample in samples:
        button = '<button type="button" data-take></button>' if sample.text.strip() else ""
        cards.append(f'<div class="sample" lang="{escaped(language)}"><span class="given">{escaped(given)}</span>'
                     f'<span class="new">{spans_html(sample.spans)}</span>{button}</div>')  # fmt: skip
    return "".join(cards)


def talk_html(messages: Sequence[dict[str, str]], language: str) -> str:
    """A conversation."""
    return "".join(f'<div class="{escaped(one["role"])}" lang="{escaped(language)}">{escaped(one["content"] or SILENT)}</div>' for one in messages)


def spans_html(spans: Sequence[tuple[str, float]]) -> str:
    """Tokens that carry their level of probability, and the number itself for the mouse."""
    return "".join(f'<span class="p{level(probability)}" title="{percent(probability)}">{escaped(text)}</span>' for text, probability in spans)


def level(probability: float) -> int:
    """0 for the most probable tokens, 4 for the least."""
    return sum(probability < bound for bound in LEVELS)


def percent(probability: float) -> str:
    """0.123 -> '12 %'."""
    return f"{probability:.0%}".replace("%", " %") if probability >= 0.01 else "< 1 %"


def legend_html(words: Words) -> str:
    """What the colours mean."""
    keys = "".join(f'<span class="p{number}">{escaped(name)}</span>' for number, name in enumerate(LEVEL_NAMES))
    return f'<p class="legend">{escaped(words["legend"])} {keys}</p>'


def suggestions_html(text: str, found: Sequence[Suggestion], language: str) -> str:
    """Three buttons, the likeliest word first; each knows the text that it belongs to by its end."""
    typed = escaped(last_letters(text))
    buttons = []
    for place in range(BUTTONS):
        if place < len(found):
            one = found[place]
            buttons.append(f'<button type="button" data-word="{escaped(one.word)}" data-typed="{typed}" lang="{escaped(language)}">'
                           f"{escaped(one.word)} <small>{percent(one.probability)}</small></button>")  # fmt: skip
        else:
            buttons.append('<button type="button" disabled>–</button>')
    return f'<div class="suggestions" role="group">{"".join(buttons)}</div>'


def last_letters(text: str) -> str:
    """The letters of the word that a text ends in; empty where it ends in something else."""
    start = len(text)
    while start and text[start - 1].isalpha():
        start -= 1
    return text[start:]


def letters_html(letters: str, language: str, words: Words) -> str:
    """A row of letters that a common keyboard lacks; empty for a language that has none."""
    if not letters:
        return ""
    buttons = "".join(f'<button type="button" data-letter="{escaped(one)}" lang="{escaped(language)}">{escaped(one)}</button>' for one in letters)
    shift = escaped(words["shift"])
    return (f'<div class="letters" role="group" aria-label="{escaped(words["letters"])}">{buttons}'
            f'<button type="button" data-shift aria-pressed="false" aria-label="{shift}" title="{shift}">⇧</button></div>')  # fmt: skip


def examples_html(prompts: Sequence[str], language: str, words: Words) -> str:
    """Openings to press."""
    buttons = "".join(f'<button type="button" data-example="{escaped(one)}" lang="{escaped(language)}">{escaped(one)}</button>' for one in prompts)
    return f'<div class="examples" role="group"><span>{escaped(words["examples"])}:</span>{buttons}</div>' if prompts else ""


def hint_html(text: str) -> str:
    """A remark in small letters."""
    return f'<p class="hint">{escaped(text)}</p>'


def error_html(text: str) -> str:
    """A line that says what went wrong; empty for no text."""
    return f'<p class="error" role="alert">{escaped(text)}</p>' if text else ""


def head_html(about: dict[str, Any], words: Words) -> str:
    """The page's title, and what every visitor must read."""
    shipped = f'<p class="note">{escaped(words["shipped"])}</p>' if about["shipped"] else ""
    return (f'<h1 lang="{escaped(about["language"])}">{escaped(about["title"])}</h1><p class="lead">{escaped(words["lead"])}</p>'
            f'<p class="warning">{escaped(words["warning"])}</p>{shipped}')  # fmt: skip


def facts_html(about: dict[str, Any], words: Words, language: str) -> str:
    """Which model speaks, how large it is, what it has read and how good it is."""
    corpus = words["sample"] if about["corpus"] == SAMPLE else about["corpus"] or words["unknown"]
    if about["generated"]:
        corpus = words["generated"].replace("{n}", amount(about["generated"] / 1e6, 1, language)).replace("{corpus}", corpus)
    rows = [
        (words["model"], about["model"]),
        (words["parameters"], words["millions"].replace("{n}", amount(about["parameters"] / 1e6, 1, language))),
        (words["corpus"], corpus),
    ]
    if about["bits"]:
        rows.append((words["quality"], words["bits"].replace("{n}", amount(about["bits"], 3, language))))
    table = "".join(f"<dt>{escaped(name)}</dt><dd>{escaped(value)}</dd>" for name, value in rows)
    fallback = f'<p class="note" lang="en">{escaped(about["fallback"])}</p>' if about["fallback"] else ""
    return f'<h2>{escaped(words["about"])}</h2><dl>{table}</dl>{fallback}'
