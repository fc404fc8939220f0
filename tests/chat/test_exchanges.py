"""The exchanges that ship, and the reader of their files."""

from __future__ import annotations

import random
import re

import pytest

from tatar_llm.chat.exchanges import exchanges, read_exchanges
from tatar_llm.chat.template import Turn, check_turns
from tatar_llm.errors import TatarLLMError


def test_what_ships() -> None:
    found = exchanges()
    answers = [answer for one in found for _, answer in one.turns]
    assert len(answers) >= 1000
    firsts = [one.turns[0][0] for one in found]
    assert sum(len(wordings) >= 2 for wordings in firsts) >= 0.95 * len(found)
    asked = [wording.lower() for wordings in firsts for wording in wordings]
    assert len(set(asked)) >= 0.995 * len(asked), sorted({one for one in asked if asked.count(one) > 1})
    assert 0.05 * len(found) <= sum(one.held_out for one in found) <= 0.12 * len(found)
    assert sum(len(one.turns) > 1 for one in found) >= 100
    for answer in answers:
        assert 8 <= len(answer) <= 300 and not re.search(r"[A-Za-z|]", answer) and answer[-1] in ".!?»…", answer


def test_every_one_is_a_conversation() -> None:
    rng = random.Random(0)
    assert all(not check_turns(one.spoken(rng)) for one in exchanges())


def test_reading() -> None:
    [first, second] = read_exchanges("# сүз\n[a]\n? Бер? | Ике?\n! Өч.\n? Дүрт?\n! Биш.\n\n\n[b]\n? Алты?\n! Җиде.\n", "x.txt")
    assert (first.file, first.topic, second.topic) == ("x", "a", "b")
    assert first.turns == ((("Бер?", "Ике?"), "Өч."), (("Дүрт?",), "Биш."))
    assert second.spoken(random.Random(0)) == [Turn("user", "Алты?"), Turn("assistant", "Җиде.")]


@pytest.mark.parametrize(
    ("text", "line"), [("? Бер?\n? Ике?\n", 2), ("! Бер.\n", 1), ("? Бер?\n\n! Ике.\n", 2), ("Бер\n", 1), ("? Бер?", 2), ("? \n! Ике.\n", 1)]
)
def test_what_is_no_exchange(text: str, line: int) -> None:
    with pytest.raises(TatarLLMError, match=f"x.txt, line {line}"):
        read_exchanges(text, "x.txt")
