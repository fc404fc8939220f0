"""Generated texts: the same for the same seed, well formed, taught facts apart from the ones asked."""

from __future__ import annotations

import itertools
import random
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tatar_llm.grammar.facts import facts, wordings
from tatar_llm.grammar.generate import blocks, documents, fill_fact, fingerprint
from tatar_llm.grammar.templates import GROUPS, NUMBERS, Filler
from tatar_llm.languages import load_language

TATAR = set(load_language("tat").letters)


def test_the_same_seed_gives_the_same_text_and_more_only_adds() -> None:
    short, long = list(documents(20_000)), list(documents(60_000))
    assert long[: len(short)] == short
    assert sum(len(line.encode()) + 1 for document in short for line in document) + len(short) >= 20_000
    assert list(documents(5_000, seed=1)) != list(documents(5_000, seed=2))
    assert list(documents(0)) == []


@settings(max_examples=150)
@given(st.integers(0, 10**9))
def test_every_line_is_clean_tatar(seed: int) -> None:
    from tatar_llm.grammar.generate import make

    for line in make(random.Random(seed)):
        assert not set("{}[]|=:@АЫУДГЛТ") & set(re.sub(r"[А-ЯЁӘӨҮҖҢҺ](?=[а-яёәөүҗңһ])", "", line)) - {":"}, line
        assert {letter for letter in line.lower() if letter.isalpha()} <= TATAR, line
        first = next(letter for letter in line if letter.isalpha())
        assert first.isupper() and "  " not in line, line


def test_there_are_patterns_enough() -> None:
    assert sum(map(len, blocks("sentences"))) >= 60
    assert len(blocks("stories")) >= 20 and len(blocks("dialogues")) >= 15


@pytest.mark.parametrize("template", sorted(set(itertools.chain(*blocks("sentences")))))
def test_each_pattern_fills(template: str) -> None:
    texts = {Filler(random.Random(seed)).fill(template) for seed in range(8)}
    assert len(texts) > 1
    assert not any("{" in text or "[" in text for text in texts)


def test_what_is_named_stays() -> None:
    filler = Filler(random.Random(3))
    name = filler.fill("{h=given}.")[:-1]
    assert filler.fill("{h.gen}").startswith(name[:-1])
    assert filler.fill("мин ДА, балык ДА, сез ДА") == "Мин дә, балык та, сез дә"


@pytest.mark.parametrize("template", ["{nosuch}", "{яз:nosuch}"])
def test_a_mistake_in_a_template_is_told(template: str) -> None:
    with pytest.raises((ValueError, KeyError)):
        Filler(random.Random(0)).fill(template)


def test_groups_name_what_there_is() -> None:
    for group in (*GROUPS, *NUMBERS):
        assert Filler(random.Random(0)).pick(group)


def test_facts_are_asked_in_other_words_than_they_are_taught() -> None:
    assert len(facts()) >= 80
    taught, asked = wordings("training"), wordings("evaluation")
    assert set(taught) == set(asked) == {fact.relation for fact in facts()}
    for relation in taught:
        assert len(set(taught[relation])) >= 5 and len(set(asked[relation])) >= 6
        assert not set(taught[relation]) & set(asked[relation])
    text = "\n".join("\n".join(document) for document in documents(400_000))
    for fact in facts():
        for wording in asked[fact.relation]:
            assert "{a" not in wording  # the answer is what is asked for
            assert fill_fact(fact, wording, random.Random(0)) not in text


def test_the_fingerprint_stands_for_the_content() -> None:
    assert re.fullmatch("[0-9a-f]{64}", fingerprint()) and fingerprint() == fingerprint()
