"""The exchanges written by hand: exchanges/*.txt.

A block is a conversation: ``?`` the user's turn with its wordings (`` | `` between them), ``!`` the answer. ``[topic]`` opens a topic.
"""

from __future__ import annotations

import functools
import random
from dataclasses import dataclass
from hashlib import sha256
from importlib import resources

from tatar_llm.chat.template import Turn
from tatar_llm.errors import TatarLLMError

KEPT_BACK = 12
"""One block in so many is never trained on, and its questions are asked in the evaluation."""
RESERVED = 6
"""Of the others, one in so many keeps its last wording for the held-out answers, by which the training is told when to stop."""


@dataclass(frozen=True)
class Exchange:
    """A conversation whose questions have several wordings."""

    file: str
    """Name of its file, without the ending."""
    topic: str
    turns: tuple[tuple[tuple[str, ...], str], ...]
    """Of each question its wordings, and the answer."""

    @property
    def social(self) -> bool:
        """Whether it is a greeting and the like, which stands alone and is not about anything."""
        return self.file == "talk"

    @property
    def held_out(self) -> bool:
        """Whether it is kept back for the evaluation: by its first question, so that the others stay where they are."""
        return sha256(self.turns[0][0][0].encode()).digest()[0] % KEPT_BACK == 0

    @property
    def reserved(self) -> str:
        """The first question's wording that is not trained on; empty where all are."""
        wordings = self.turns[0][0]
        chosen = sha256(self.turns[0][0][0].encode()).digest()[1] % RESERVED == 0
        return wordings[-1] if chosen and len(wordings) > 2 and not self.held_out else ""

    def spoken(self, rng: random.Random) -> list[Turn]:
        """One way in which it may go, without the reserved wording."""
        turns = []
        for wordings, answer in self.turns:
            turns += [Turn("user", rng.choice([one for one in wordings if one != self.reserved])), Turn("assistant", answer)]
        return turns


@functools.cache
def exchanges() -> tuple[Exchange, ...]:
    """All of them, by file and place."""
    folder = resources.files("tatar_llm.chat").joinpath("exchanges")
    files = sorted((file for file in folder.iterdir() if file.name.endswith(".txt")), key=lambda file: file.name)
    return tuple(one for file in files for one in read_exchanges(file.read_text(encoding="utf-8"), file.name))


def read_exchanges(text: str, name: str) -> list[Exchange]:
    """The blocks of a file; raises TatarLLMError naming the line that does not belong there."""
    made: list[Exchange] = []
    turns: list[tuple[tuple[str, ...], str]] = []
    asked: tuple[str, ...] = ()
    topic = ""
    for number, line in enumerate([*text.splitlines(), ""], 1):
        mark, rest = line[:1], line[1:].strip()
        if mark == "?" and not asked and rest:
            asked = tuple(wording.strip() for wording in rest.split(" | "))
        elif mark == "!" and asked and rest:
            turns.append((asked, rest))
            asked = ()
        elif mark in ("#", "") or (mark == "[" and rest.endswith("]")):
            if asked:
                raise TatarLLMError(f"{name}, line {number}: the question before it has no answer")
            if turns and mark != "#":
                made.append(Exchange(name.removesuffix(".txt"), topic, tuple(turns)))
                turns = []
            topic = rest[:-1] if mark == "[" else topic
        else:
            raise TatarLLMError(f"{name}, line {number}: questions (?) and answers (!) must take turns: {line[:40]}")
    return made
