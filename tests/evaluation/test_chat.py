"""By which rules an answer counts."""

from __future__ import annotations

import random

import pytest

from tatar_llm.chat import Speaker
from tatar_llm.chat.exchanges import exchanges
from tatar_llm.chat.generate import fact_turns
from tatar_llm.chat.strangers import stranger_turns
from tatar_llm.chat.wordings import chat_wordings
from tatar_llm.corpus.language import LanguageJudge, cld2
from tatar_llm.evaluation import chat
from tatar_llm.grammar.facts import Fact, facts
from tatar_llm.languages import find_language
from tatar_llm.model import GPT


@pytest.mark.parametrize("fact", facts(), ids=lambda fact: f"{fact.relation}: {fact.subject}")
def test_its_own_answer_is_right(fact: Fact) -> None:
    assert chat.first_named(fact, fact_turns(fact, chat_wordings()[fact.relation]["ask"][0])[1].text) == fact.answer


def test_the_first_answer_counts() -> None:
    fact = Fact("capital", "Россия", "Мәскәү")
    assert chat.first_named(fact, "Ул Казанда түгел, Мәскәүдә.") == "Казан"
    assert chat.first_named(fact, "Россиянең башкаласы — МӘСКӘҮ!") == "Мәскәү"
    assert chat.first_named(fact, "Мәскәүләр күп.") is None and chat.first_named(fact, "") is None
    assert chat.first_named(Fact("next_day", "шимбә", "якшәмбе"), "Шимбәдән соң якшәмбе килә.") == "якшәмбе"


def test_not_knowing() -> None:
    rng = random.Random(0)
    assert all(chat.does_not_know(stranger_turns(rng)[1].text) for _ in range(200))
    assert chat.does_not_know("Моны Белмим.") and not chat.does_not_know("Ул белмәгән кеше.")
    of_topic = [one for one in exchanges() if one.topic == "unknown"]
    assert len(of_topic) >= 80 and all(chat.does_not_know(one.turns[0][1]) for one in of_topic)
    known = [answer for one in exchanges() if one.file in ("definitions", "explanations") for _, answer in one.turns]
    assert not any(map(chat.does_not_know, known))


def test_taking_up_the_question() -> None:
    assert chat.on_question("Нәрсә ул күпер?", "Күпернең ике башы бар.") and chat.on_question("Нинди көн?", "Белмим.")
    assert not chat.on_question("Нәрсә ул күпер?", "Нәрсә ул урман?")
    serious = [one for one in exchanges() if not one.social]
    share = sum(chat.on_question(wording, one.turns[0][1]) for one in serious for wording in one.turns[0][0]) / sum(len(one.turns[0][0]) for one in serious)
    assert share > 0.75  # what people wrote themselves: the most that can be asked of a model


def test_repeats_and_language() -> None:
    assert chat.is_repeated("бер ике өч дүрт бер ике өч") and chat.is_repeated("бер Бер бер") and not chat.is_repeated("бер ике өч бер ике")
    judge = LanguageJudge(find_language("tat"), cld2())
    assert chat.is_tatar(judge, "Күпер — корылма.") and not chat.is_tatar(judge, "") and not chat.is_tatar(judge, "What is a bridge?")
    assert not chat.is_tatar(judge, "Это мост через реку, который построили давно.")
    answers = [one.turns[0][1] for one in exchanges()]
    assert sum(chat.is_tatar(judge, one) for one in answers) > 0.99 * len(answers)
    assert sum(chat.is_repeated(one) for one in answers) < 0.01 * len(answers)


def test_all_measures(tiny_model: GPT, tiny_tokenizer: tuple, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chat, "greedy", lambda _speaker, asked: ["Мин моны белмим." for _ in asked])
    found, made = chat.chat_measures(Speaker(tiny_model, *tiny_tokenizer, chat=True))
    values = {one.name: one.value for one in found}
    assert values == {"chat_facts": 0, "chat_consistency": 1, "chat_wrongly_unknown": 1, "chat_unknown": 1, "chat_tatar": 1,
                      "chat_on_question": 1, "chat_repeated": 0, "chat_empty": 0}  # fmt: skip
    assert len(made) > 200 and all(row["answer"] for row in made)
