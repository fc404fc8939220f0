"""Word suggestions on held-out text: right words, saved keystrokes, time; beside a table of word triples."""

from __future__ import annotations

import re
import time
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tokenizers import Tokenizer

from tatar_llm.evaluation.statistics import Measure, bootstrap, share
from tatar_llm.generation.suggest import Suggester
from tatar_llm.model import GPT

WORD = re.compile(r"[^\W\d_]+")
LETTERS = (0, 1, 2, 3)
BUTTONS = 3
SHORTEST, LONGEST = 3, 12
"""Words of a sentence: those of the keyboard's published test."""

Suggest = Callable[[str], Sequence[str]]
"""From a text to the words suggested for it, best first."""


def sentences(text: str, words: int) -> list[str]:
    """Sentences of 3 to 12 words from a text, evenly spread over it, together `words` words or a little more."""
    found = []
    for line in text.split("\n"):
        for sentence in re.split(r"(?<=[.!?…])\s+", line):
            if SHORTEST <= len(WORD.findall(sentence)) <= LONGEST:
                found.append(sentence)
    if not found:
        return []
    count = min(len(found), max(1, words // ((SHORTEST + LONGEST) // 2) + 1))
    return [found[place] for place in np.unique(np.linspace(0, len(found) - 1, count).astype(int))]


def suggestions(
    model: GPT, tokenizer: Tokenizer, tok_config: dict[str, Any], lines: Sequence[str], trigram: WordTrigram | None = None
) -> list[Measure]:
    """How often the right word is among three suggestions after 0 to 3 letters, and the keystrokes that they save.

    Every word of every line is typed letter by letter, with what stands before it in its line as context. A suggestion
    taken costs one press and brings the space; a word typed to its end costs its letters and the space. ``seconds`` are
    those of a key press on one core: `p50_ms`, `p95_ms`. With `trigram`, its numbers on the same words stand beside.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        suggester = Suggester(model, tokenizer, tok_config)
        suggester.suggest(lines[0] if lines else "")  # the first call is slower
        mine = typed(lambda text: [one.word for one in suggester.suggest(text, BUTTONS)], lines)
    finally:
        torch.set_num_threads(threads)
    other = typed(trigram.suggest, lines) if trigram else None
    latency = {"p50_ms": float(np.quantile(mine.seconds, 0.5) * 1000), "p95_ms": float(np.quantile(mine.seconds, 0.95) * 1000)}
    measures = []
    for letters in LETTERS:
        right = mine.right[letters]
        if not len(right):
            continue
        beside = {"trigram": float(other.right[letters].mean())} if other else {}
        title = f"right word among three after {letters} letters"
        measures.append(share(f"suggest_{letters}", title, right, clusters=mine.sentence[letters], details=beside | (latency if letters == 0 else {})))
    for buttons in (1, BUTTONS):
        saved = _saved(mine, buttons)
        beside = {"trigram": float(_saved(other, buttons).mean())} if other else {}
        title = f"keystrokes saved with {buttons} suggestion{'s' if buttons > 1 else ''}"
        measures.append(Measure(f"saved_{buttons}", title, float(saved.mean()), len(saved), bootstrap(saved), details=beside, outcomes=tuple(saved.tolist())))
    return measures


class Typing:
    """What became of words typed letter by letter."""

    def __init__(self) -> None:
        self.right: dict[int, np.ndarray] = {}
        """After so many letters: 1 where the right word was among three. Only words that have more letters count."""
        self.sentence: dict[int, list[int]] = {letters: [] for letters in LETTERS}
        self.keys: list[tuple[int, int, int]] = []
        """Of each word: its letters and the space; presses with one suggestion; presses with three."""
        self.seconds: list[float] = []


def typed(suggest: Suggest, lines: Sequence[str]) -> Typing:
    """Type all words of the lines with the help of `suggest`."""
    done = Typing()
    right: dict[int, list[float]] = {letters: [] for letters in LETTERS}
    for number, line in enumerate(lines):
        for match in WORD.finditer(line):
            word = match[0]
            whole = len(word) + 1
            with_one = with_three = whole
            for letters in range(len(word)):
                needed = letters in LETTERS
                if not needed and with_one < whole:
                    break
                began = time.perf_counter()
                offered = list(suggest(line[: match.start()] + word[:letters]))[:BUTTONS]
                done.seconds.append(time.perf_counter() - began)
                if needed:
                    right[letters].append(float(word in offered))
                    done.sentence[letters].append(number)
                if word in offered[:1]:
                    with_one = min(with_one, letters + 1)
                if word in offered:
                    with_three = min(with_three, letters + 1)
            done.keys.append((whole, with_one, with_three))
    done.right = {letters: np.array(found) for letters, found in right.items()}
    return done


def _saved(done: Typing, buttons: int) -> np.ndarray:
    """Keystrokes that each word saved, as a share of those of an average word: their mean is the share of all keystrokes."""
    keys = np.array(done.keys, dtype=float).reshape(-1, 3)
    return (keys[:, 0] - keys[:, 1 if buttons == 1 else 2]) / keys[:, 0].mean()


class WordTrigram:
    """What a keyboard without a network does: counted triples of words, backing off to pairs and to single words.

    The score of a word is its share after the two words before; where a shorter context has to do, times 0.4 for each
    word dropped ("stupid back-off", Brants et al. 2007).
    """

    BACK_OFF = 0.4
    MOST_WORDS = 200_000

    def __init__(self, texts: Iterable[str]) -> None:
        lines = [WORD.findall(line) for line in texts]
        counts = Counter(word for line in lines for word in line)
        self.words = sorted(word for word, _ in counts.most_common(self.MOST_WORDS))
        number = {word: place + 2 for place, word in enumerate(self.words)}  # 0: beginning of a line, 1: another word
        size = self.size = len(self.words) + 2
        self.number = number
        stream = np.array([token for line in lines for token in (0, 0, *(number.get(word, 1) for word in line))], dtype=np.int64)
        targets = np.flatnonzero(stream > 1)
        self.levels: list[tuple[np.ndarray, np.ndarray]] = []  # keys (context, word), sorted; their counts
        context = np.zeros(len(targets), np.int64)
        for order in range(3):
            if order:
                context = context + stream[targets - order] * size ** (order - 1)
            keys, found = np.unique(context * size + stream[targets], return_counts=True)
            self.levels.append((keys, found))

    def suggest(self, text: str, n: int = BUTTONS) -> list[str]:
        """The `n` best words for a text that may end inside one."""
        line = text.rsplit("\n", 1)[-1]
        found = WORD.findall(line)
        prefix = found.pop() if line[-1:].isalpha() else ""
        low = bisect_left(self.words, prefix) + 2
        high = bisect_left(self.words, prefix + chr(0x10FFFF)) + 2 if prefix else self.size
        before = [self.number.get(word, 1) for word in found[:-3:-1]]  # the nearest first
        before += [0] * (2 - len(before))
        scores: dict[int, float] = {}
        for order in (2, 1, 0):
            context = sum(before[place] * self.size**place for place in range(order))
            keys, counts = self.levels[order]
            start, end = np.searchsorted(keys, [context * self.size + low, context * self.size + high])
            if start == end:
                continue
            first, last = np.searchsorted(keys, [context * self.size, (context + 1) * self.size])
            total = counts[first:last].sum()
            part = counts[start:end]
            for place in np.argsort(-part, kind="stable")[: n * 3]:
                word = int(keys[start + place] % self.size)
                scores.setdefault(word, self.BACK_OFF ** (2 - order) * part[place] / total)
        best = sorted(scores, key=lambda word: (-scores[word], word))[:n]
        return [self.words[word - 2] for word in best]

    @classmethod
    def of_file(cls, path: Path) -> WordTrigram:
        """Counted over a text file, a line at a time."""
        with open(path, encoding="utf-8", newline="\n") as file:
            return cls(file)
