"""What a model answers: facts in questions that no training asked, questions that nobody can answer, and its manners.

Answers are greedy. The rules by which an answer counts are plain and stated here; they are the same for a model that has not been
taught to answer, which is asked as a printed dialogue.
"""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from typing import Any

from tatar_llm.chat.exchanges import exchanges
from tatar_llm.chat.generate import fact_question, forms_of
from tatar_llm.chat.speaker import Speaker
from tatar_llm.chat.strangers import stranger_turns
from tatar_llm.chat.template import Turn
from tatar_llm.chat.wordings import chat_wordings
from tatar_llm.corpus.language import LanguageJudge, cld2
from tatar_llm.evaluation.statistics import Measure, share
from tatar_llm.generation import Settings
from tatar_llm.grammar.facts import Fact, facts
from tatar_llm.languages import find_language

TOKENS = 64
"""New tokens of an answer."""
STRANGERS = 100
"""Questions about what nobody told it."""
STEM = 4
"""Letters at the beginning by which two words count as forms of one."""
DOES_NOT_KNOW = re.compile(r"\bбелм(им|ибез|әдем)\b|мәгълүматым юк|хәбәрем юк|әйтә алмыйм|әйтеп булмый", re.IGNORECASE)
ASKING = frozenset(["нәрсә", "нинди", "ничек", "кайда", "кайчан", "өчен", "ничә", "күпме", "әйтегез", "кирәк", "була", "буларак", "турында", "белән", "миңа", "сезнең", "сезгә"])
"""Words that stand in questions about anything."""
WORD = re.compile(r"[^\W\d_]+(?:-[^\W\d_]+)*")


def chat_measures(speaker: Speaker) -> tuple[list[Measure], list[dict[str, str]]]:
    """All measures, and every question of the kept-back exchanges with its answer, none selected."""
    found = fact_measures(speaker)
    found += stranger_measures(speaker)
    manners, made = manner_measures(speaker)
    return found + manners, made


def greedy(speaker: Speaker, asked: Sequence[Sequence[Turn]]) -> list[str]:
    """The likeliest answers."""
    return speaker.answers(asked, Settings(TOKENS, temperature=0))


def does_not_know(answer: str) -> bool:
    """Whether it says so: белмим and its like."""
    return DOES_NOT_KNOW.search(answer) is not None


# -- facts -----------------------------------------------------------------------------------------------------------


def fact_measures(speaker: Speaker) -> list[Measure]:
    """Each fact in three questions in other words than the training's.

    Right: of all answers of the relation the first that the text names, in any case, is the fact's. The same: two questions about
    a fact name the same answer (or both none). Wrongly unknown: it says that it does not know what it was taught.
    """
    questions = [(fact, fact_question(fact, wording)) for fact in facts() for wording in chat_wordings()[fact.relation]["unseen"]]
    answers = greedy(speaker, [[Turn("user", text)] for _, text in questions])
    named = [first_named(fact, answer) for (fact, _), answer in zip(questions, answers, strict=True)]
    right = [name == fact.answer for (fact, _), name in zip(questions, named, strict=True)]
    whose = [f"{fact.relation}: {fact.subject}" for fact, _ in questions]
    alike = []
    for one in dict.fromkeys(whose):
        mine = [name for name, owner in zip(named, whose, strict=True) if owner == one]
        pairs = [(first, second) for place, first in enumerate(mine) for second in mine[place + 1 :]]
        alike.append(sum(first == second for first, second in pairs) / len(pairs))
    kinds = [fact.relation for fact, _ in questions]
    return [
        share("chat_facts", "taught facts, questions never seen: right", right, kinds=kinds, clusters=whose, details={"facts": len(alike)}),
        share("chat_consistency", "the same answer however a fact is asked", alike),
        share("chat_wrongly_unknown", "taught facts of which it says that it does not know", [does_not_know(one) for one in answers],
              clusters=whose, higher_is_better=False),
    ]  # fmt: skip


def first_named(fact: Fact, answer: str) -> str | None:
    """The first answer of the fact's relation that a text names, but for the fact's own subject."""
    text = f" {' '.join(WORD.findall(answer.lower()))} "
    others = dict.fromkeys(one.answer for one in facts() if one.relation == fact.relation)
    places: dict[str, int] = {}
    for one in others:
        if one == fact.subject:
            continue
        found = [place for form in forms_of(one) if (place := text.find(f" {' '.join(WORD.findall(form.lower()))} ")) >= 0]
        if found:
            places[one] = min(found)
    return min(places, key=lambda one: (places[one], -len(one))) if places else None


# -- what it cannot know ---------------------------------------------------------------------------------------------


def stranger_measures(speaker: Speaker) -> list[Measure]:
    """Questions about subjects that no text told of, in unseen words, and those kept back of the exchanges of this topic."""
    rng = random.Random(0)
    asked = list(dict.fromkeys(stranger_turns(rng, unseen=True)[0].text for _ in range(4 * STRANGERS)))[:STRANGERS]
    kinds = ["generated"] * len(asked)
    for one in exchanges():
        if one.held_out and one.topic == "unknown":
            asked += one.turns[0][0]
            kinds += ["by hand"] * len(one.turns[0][0])
    answers = greedy(speaker, [[Turn("user", text)] for text in asked])
    return [share("chat_unknown", "questions it cannot answer: says that it does not know", list(map(does_not_know, answers)), kinds=kinds)]


# -- manners ---------------------------------------------------------------------------------------------------------


def manner_measures(speaker: Speaker) -> tuple[list[Measure], list[dict[str, str]]]:
    """Of the first question of each exchange kept back, in every wording.

    Tatar: no other language by the rules of `prepare`, and letters at all. On the question: a word of the answer begins with the same
    four letters as one of the question, or it says that it does not know (greetings and the like are not counted). Repeated: three
    words in a row come twice, or a word three times in a row. Empty: no letter.
    """
    asked = [(one, wording) for one in exchanges() if one.held_out for wording in one.turns[0][0]]
    answers = greedy(speaker, [[Turn("user", wording)] for _, wording in asked])
    judge = LanguageJudge(find_language("tat"), cld2())
    firsts = [one.turns[0][0][0] for one, _ in asked]
    serious = [(one, wording, answer) for (one, wording), answer in zip(asked, answers, strict=True) if not one.social]
    found = [
        share("chat_tatar", "answers in Tatar", [is_tatar(judge, one) for one in answers], clusters=firsts),
        share("chat_on_question", "answers that take up the question", [on_question(wording, answer) for _, wording, answer in serious],
              clusters=[one.turns[0][0][0] for one, _, _ in serious]),
        share("chat_repeated", "answers that repeat themselves", list(map(is_repeated, answers)), clusters=firsts, higher_is_better=False),
        share("chat_empty", "empty answers", [not WORD.search(one) for one in answers], clusters=firsts, higher_is_better=False),
    ]  # fmt: skip
    made = [{"question": wording, "answer": answer} for (_, wording), answer in zip(asked, answers, strict=True)]
    return found, made


def is_tatar(judge: LanguageJudge, answer: str) -> bool:
    """Whether nothing speaks for another language."""
    return bool(WORD.search(answer)) and judge.other_script(answer) is None and judge.foreign(answer) is None and _mostly_cyrillic(answer)


def _mostly_cyrillic(answer: str) -> bool:
    letters = [letter for letter in answer.lower() if letter.isalpha()]
    return sum("а" <= letter <= "я" or letter in "ёәөүҗңһ" for letter in letters) >= 0.9 * len(letters)


def on_question(question: str, answer: str) -> bool:
    """Whether an answer takes up a word of the question, or says that it does not know."""
    return does_not_know(answer) or bool(_stems(question) & _stems(answer))


def _stems(text: str) -> set[str]:
    return {word[:STEM] for word in WORD.findall(text.lower()) if len(word) >= STEM and word not in ASKING}


def is_repeated(answer: str) -> bool:
    """Whether three words in a row come twice, or a word three times in a row."""
    words = WORD.findall(answer.lower())
    threes: list[Any] = list(zip(words, words[1:], words[2:], strict=False))
    return len(set(threes)) < len(threes) or any(len(set(three)) == 1 for three in threes)
