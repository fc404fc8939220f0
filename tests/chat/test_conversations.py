"""Conversations made by rules."""

from __future__ import annotations

import random

import pytest

from tatar_llm.chat.exchanges import exchanges
from tatar_llm.chat.generate import (
    conversations,
    fact_question,
    fact_turns,
    reserved_questions,
    sum_turns,
    trained_wordings,
    word_turns,
)
from tatar_llm.chat.strangers import made_up, stranger_turns, unknowable_turns
from tatar_llm.chat.template import check_turns
from tatar_llm.chat.wordings import chat_wordings, disturbed
from tatar_llm.grammar.facts import Fact, facts


def test_the_same_for_the_same_seed_and_epoch() -> None:
    assert list(conversations(0, 1)) == list(conversations(0, 1)) != list(conversations(0, 2))
    assert all(not check_turns(one) for one in conversations(0, 0))


def test_nothing_kept_back_is_trained_on() -> None:
    trained = {turn.text for epoch in range(8) for one in conversations(0, epoch) for turn in one if turn.role == "user"}
    kept = {wording for one in exchanges() if one.held_out for wording in one.turns[0][0]}
    assert not trained & kept
    assert not trained & {fact_question(fact, wording) for fact in facts() for wording in chat_wordings()[fact.relation]["unseen"]}
    assert not trained & {one[0].text for one in reserved_questions()}
    rng = random.Random(0)
    assert not trained & {stranger_turns(rng, unseen=True)[0].text for _ in range(300)}


def test_strangers_are_no_facts() -> None:
    known = {(fact.relation, fact.subject) for fact in facts()}
    for relation, table in chat_wordings().items():
        if not isinstance(table, dict):
            continue
        strangers, unseen = table.get("strangers", []), table.get("unseen_strangers", [])
        assert not set(strangers) & set(unseen)
        assert not {(relation, one) for one in (*strangers, *unseen)} & known


def test_made_up_subjects_are_nobody_elses() -> None:
    rng = random.Random(0)
    known = {fact.subject for fact in facts()}
    for relation, table in chat_wordings().items():
        if isinstance(table, dict) and "strangers" in table:
            made = {made_up(relation, rng) for _ in range(300)}
            assert not made & (known | set(table["unseen_strangers"]))
            assert len(made) > 60


def test_what_only_the_asker_knows() -> None:
    rng = random.Random(0)
    made = {unknowable_turns(rng)[0].text for _ in range(2000)}
    assert len(made) > 800
    assert all("{" not in one and "[" not in one and one[0].isupper() and one.endswith("?") for one in made)
    kept = {wording for one in exchanges() if one.held_out for wording in one.turns[0][0]}
    assert not made & kept


def test_disturbed_wordings_keep_their_subject() -> None:
    rng = random.Random(0)
    made = [disturbed("Кайсы су ул {s} елгасы коя торган?", rng) for _ in range(400)]
    assert all("{s}" in one.split() for one in made)
    assert 100 < sum(one != "Кайсы су ул {s} елгасы коя торган?" for one in made) < 300


def test_facts_in_words() -> None:
    fact = Fact("flows_into", "Идел", "Каспий диңгезе")
    assert [turn.text for turn in fact_turns(fact, trained_wordings(fact)[0])] == ["Идел елгасы кая коя?", "Идел елгасы Каспий диңгезенә коя."]
    week = Fact("how_many", "атнада", "җиде көн")
    assert [turn.text for turn in fact_turns(week, trained_wordings(week)[0])] == ["Атнада ничә көн?", "Атнада җиде көн бар."]


def test_sums_are_right() -> None:
    rng = random.Random(0)
    found = {turns[0].text: turns[1].text for turns in (sum_turns(rng) for _ in range(10000))}
    assert found["Ике плюс өч күпме?"] == "Икегә өчне кушсак, биш була."
    assert found["Унике минус тугыз ничә?"] == "Уникедән тугызны алсак, өч кала."
    assert found["Җиде тапкыр сигез ничә?"] == "Җиде тапкыр сигез — илле алты."


def test_words_and_their_forms() -> None:
    rng = random.Random(0)
    found = {turns[0].text: turns[1].text for turns in (word_turns(rng) for _ in range(20000))}
    assert found["«бүре» сүзенең күплеге ничек була?"] == "«бүре» сүзенең күплеге — «бүреләр»."
    assert found["«каен» сүзен юнәлеш килешенә куегыз."] == "«каен» сүзе юнәлеш килешендә — «каенга»."
    assert found["Тикшерегез әле: «төлкене»."] == "Әйе, «төлкене» дөрес язылган."
    assert found["Тикшерегез әле: «төлкены»."] == "Юк, дөресе — «төлкене»."
    assert found["Каен — кошмы?"] == "Юк, каен — агач."


def test_evaluation_asks_in_other_words() -> None:
    chrf = pytest.importorskip("sacrebleu").CHRF()
    far = 0
    for fact in facts():
        trained = [fact_question(fact, wording) for wording in chat_wordings()[fact.relation]["ask"]]
        unseen = [fact_question(fact, wording) for wording in chat_wordings()[fact.relation]["unseen"]]
        far += all(chrf.sentence_score(one, [other]).score <= 60 for one in unseen for other in trained)
    assert far >= 100  # of 122
