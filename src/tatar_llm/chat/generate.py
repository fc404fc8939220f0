"""Conversations made by rules, any amount, the same for the same seed: the facts, words and their forms, sums, and what nobody told it.

The facts are those of grammar/facts/, asked in the wordings of wordings.toml; other wordings are kept for the evaluation.
"""

from __future__ import annotations

import functools
import random
from collections.abc import Iterator
from hashlib import sha256
from typing import Any

from tatar_llm.chat.exchanges import exchanges
from tatar_llm.chat.strangers import not_known, stranger_turns, unknowable_turns
from tatar_llm.chat.template import Turn
from tatar_llm.chat.wordings import chat_wordings, disturbed, fill, proper
from tatar_llm.grammar.facts import Fact, facts
from tatar_llm.grammar.generate import blocks
from tatar_llm.grammar.lexicon import Lemma, by_class
from tatar_llm.grammar.nouns import CASES, noun, question
from tatar_llm.grammar.templates import Filler, Pick

WORD_SHARE, SUM_SHARE, STRANGER_SHARE, UNKNOWABLE_SHARE = 0.12, 0.08, 0.2, 0.12
"""Of each kind in proportion to the conversations about facts and by hand together."""
FRAME_SHARE, ASIDE_SHARE = 0.3, 0.12
"""Of all questions: with a few words before (after: half as many), with a sentence in front that is beside them."""
RESERVED_STRANGERS = 30
"""Questions without an answer among the held-out answers."""
QUESTION_WORDS = frozenset(["Нәрсә", "Кем", "Ничек", "Нинди", "Кайсы", "Кайда", "Кая", "Ничә", "Күпме", "Нигә", "Кайчан"])
FACT_TIMES = 8
"""Wordings of each fact in one pass."""
RESERVED = 4
"""One fact in so many keeps its last wording for the held-out answers."""
WORDS = ("animal", "bird", "tree", "flower", "vegetable", "profession", "clothing", "dish", "furniture", "food", "nature", "school", "tool")
FLIPPED = str.maketrans("аәыеуү", "әаеыүу")


def conversations(seed: int, epoch: int) -> Iterator[list[Turn]]:
    """The conversations of one pass: each exchange written by hand once, each fact in some of its wordings, and beside
    them new words, sums and questions without an answer."""
    rng = random.Random(f"{seed} {epoch}")
    by_hand = [one for one in exchanges() if not one.held_out]
    kept = [framed(one.spoken(rng), rng) if not one.social else one.spoken(rng) for one in by_hand]
    kept += [framed(fact_turns(fact, trained_wording(fact, rng)), rng) for fact in facts() for _ in range(FACT_TIMES)]
    yield from kept
    makers = ((WORD_SHARE, word_turns), (SUM_SHARE, sum_turns), (STRANGER_SHARE, stranger_turns), (UNKNOWABLE_SHARE, unknowable_turns))
    for share, make in makers:
        for _ in range(round(share * len(kept))):
            yield framed(make(rng), rng)


def framed(turns: list[Turn], rng: random.Random) -> list[Turn]:
    """The same, now and then with something before the question or after it ("Зинһар, җавап бирегез: ..."), and a
    sentence in front that has nothing to do with it."""
    frames, text = chat_wordings()["frames"], turns[0].text
    if rng.random() < FRAME_SHARE:
        before = rng.choice(frames["before"])
        if not before.endswith(", "):
            text = before + text
        elif text.split(" ")[0] in QUESTION_WORDS:  # others may be names
            text = before + text[0].lower() + text[1:]
    if rng.random() < FRAME_SHARE / 2:
        text += rng.choice(frames["after"])
    if rng.random() < ASIDE_SHARE:
        text = f"{Filler(rng).fill(rng.choice(_sentences()))} {text}"
    return [Turn("user", text), *turns[1:]]


@functools.cache
def _sentences() -> tuple[str, ...]:
    return tuple(line for block in blocks("sentences") for line in block)


def reserved_questions() -> list[list[Turn]]:
    """What is taught, in wordings that are not trained on: by these the training is told when to stop."""
    told = [fact_turns(fact, _of(fact)["ask"][-1]) for fact in facts() if _is_reserved(fact)]
    rng, frame = random.Random("reserved"), chat_wordings()["frames"]["reserved"]
    told += [not_known(f"{frame}{make(rng)[0].text}") for make in (stranger_turns, unknowable_turns) for _ in range(RESERVED_STRANGERS // 2)]
    return told + [[Turn("user", one.reserved), Turn("assistant", one.turns[0][1])] for one in exchanges() if one.reserved]


# -- facts -----------------------------------------------------------------------------------------------------------


def _of(fact: Fact) -> dict[str, Any]:
    return chat_wordings()[fact.relation]


def _is_reserved(fact: Fact) -> bool:
    return sha256(f"{fact.relation} {fact.subject}".encode()).digest()[0] % RESERVED == 0


def trained_wordings(fact: Fact) -> list[str]:
    """The wordings in which the training asks for a fact."""
    asked = _of(fact)["ask"]
    return asked[:-1] if _is_reserved(fact) else asked


def trained_wording(fact: Fact, rng: random.Random) -> str:
    """One of them, perhaps disturbed, but never to the one kept back."""
    chosen = rng.choice(trained_wordings(fact))
    made = disturbed(chosen, rng)
    return chosen if _is_reserved(fact) and made == _of(fact)["ask"][-1] else made


def fact_question(fact: Fact, wording: str) -> str:
    """A question about a fact."""
    return fill(wording, s=proper(fact.subject), a=proper(fact.answer), u=proper(fact.answer.split()[-1]))


def fact_turns(fact: Fact, wording: str) -> list[Turn]:
    """Question and answer."""
    answer = fill(_of(fact)["answer"], s=proper(fact.subject), a=proper(fact.answer))
    return [Turn("user", fact_question(fact, wording)), Turn("assistant", answer)]


def forms_of(answer: str) -> list[str]:
    """An answer's words in every case."""
    return list(dict.fromkeys(proper(answer).text((case,)) for case in CASES))


# -- words -----------------------------------------------------------------------------------------------------------


def word_turns(rng: random.Random) -> list[Turn]:
    """A question about a noun: its plural, a case, its spelling, what it is."""
    kind = rng.choice(("plural", "case", "spelling", "kind"))
    table = chat_wordings()["words"]
    if kind == "kind":
        return _kind_turns(rng, table)
    word = rng.choice(_declinable())
    if kind == "plural":
        form, case = str(noun(word, plural=True)), ""
    else:
        case = rng.choice(list(table["cases"]))
        form = str(noun(word, case, plural=kind == "spelling" and rng.random() < 0.5))
    if kind == "spelling":
        return _spelling_turns(rng, table, word.word, form)
    said = {"{w}": word.word, "{f}": form, "{c}": table["cases"].get(case, "")}
    return [Turn("user", _said(rng.choice(table[f"{kind}_ask"]), said)), Turn("assistant", _said(table[f"{kind}_answer"], said))]


@functools.cache
def _declinable() -> list[Lemma]:
    """Nouns that have a plural: not those that end in a possessor already."""
    return [lemma for lemma in by_class("noun", *WORDS) if "possessed" not in lemma.marks]


def _spelling_turns(rng: random.Random, table: dict[str, Any], word: str, form: str) -> list[Turn]:
    """A form as it is, or with the vowels of its endings turned against the harmony."""
    common = len(word) if form.startswith(word) else len(word) - 1
    wrong = form[:common] + form[common:].translate(FLIPPED)
    if wrong == form or rng.random() < 0.5:
        wrong, answer = form, table["spelling_right"]
    else:
        answer = table["spelling_wrong"]
    asked = _said(rng.choice(table["spelling_ask"]), {"{f}": wrong})
    return [Turn("user", asked), Turn("assistant", _said(answer, {"{f}": form, "{r}": form}))]


def _kind_turns(rng: random.Random, table: dict[str, Any]) -> list[Turn]:
    meaning = rng.choice(list(table["kinds"]))
    words = [lemma.word for lemma in by_class("noun", meaning) if lemma.word not in table["kind_without"]]
    word, kind = rng.choice(words), table["kinds"][meaning]
    asked = kind if rng.random() < 0.5 else rng.choice([other for other in table["kinds"].values() if other != kind])
    answer = table["kind_yes" if asked == kind else "kind_no"]
    said = {"{w}": word, "{k.q}": question(asked), "{k}": kind}
    return [Turn("user", _said(rng.choice(table["kind_ask"]), said)), Turn("assistant", _said(answer, said))]


# -- sums ------------------------------------------------------------------------------------------------------------


def sum_turns(rng: random.Random) -> list[Turn]:
    """A sum of small numbers, in words."""
    kind = rng.choice(("add", "subtract", "multiply"))
    if kind == "multiply":
        first, second = rng.randint(2, 10), rng.randint(2, 10)
        result = first * second
    else:
        first, second = rng.randint(1, 12), rng.randint(1, 9)
        result = first + second
        if kind == "subtract":
            first, result = result, first
    table, said = chat_wordings()["sums"], {"a": Pick(value=first), "b": Pick(value=second), "c": Pick(value=result)}
    return [Turn("user", fill(rng.choice(table[f"{kind}_ask"]), **said)), Turn("assistant", fill(table[f"{kind}_answer"], **said))]


def _said(wording: str, values: dict[str, str]) -> str:
    """The wording with its slots filled and a capital letter."""
    for slot, value in values.items():
        wording = wording.replace(slot, value)
    return wording[0].upper() + wording[1:] if wording[0] != "«" else wording


