"""Noun and verb forms against tables written by hand, and properties of all of them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tatar_llm.grammar.lexicon import Lemma, by_class, lexicon, noun_lemma, verb_lemma
from tatar_llm.grammar.nouns import CASES, PERSONS, noun, number, ordinal, predicate, question
from tatar_llm.grammar.phonology import BACK, FRONT, is_back, syllables
from tatar_llm.grammar.verbs import NON_FINITE, TENSES, imperative, non_finite, verb

CASE_FORMS = """
китап китапның китапка китапны китаптан китапта
бала баланың балага баланы баладан балада
урман урманның урманга урманны урманнан урманда
өй өйнең өйгә өйне өйдән өйдә
ел елның елга елны елдан елда
төш төшнең төшкә төшне төштән төштә
каен каенның каенга каенны каеннан каенда
сөяк сөякнең сөяккә сөякне сөяктән сөяктә
сәгать сәгатьнең сәгатькә сәгатьне сәгатьтән сәгатьтә
завод заводның заводка заводны заводтан заводта
таң таңның таңга таңны таңнан таңда
Казан Казанның Казанга Казанны Казаннан Казанда
"""


@pytest.mark.parametrize("row", CASE_FORMS.strip().splitlines())
def test_cases(row: str) -> None:
    word, *_ = forms = row.split()
    lemma = next((lemma for lemma in lexicon() if lemma.word == word and lemma.word_class in ("noun", "name")), None)
    made = [str(noun(lemma or Lemma(word, "noun", "", ""), case)) for case in CASES]
    assert made == forms


@pytest.mark.parametrize(
    ("word", "forms"),
    [
        ("китап", "китабым китабың китабы китабыбыз китабыгыз китабы"),
        ("балык", "балыгым балыгың балыгы балыгыбыз балыгыгыз балыгы"),
        ("халык", "халкым халкың халкы халкыбыз халкыгыз халкы"),
        ("бала", "балам балаң баласы балабыз балагыз баласы"),
        ("әби", "әбием әбиең әбисе әбиебез әбиегез әбисе"),
        ("су", "суым суың суы суыбыз суыгыз суы"),
        ("тау", "тавым тавың тавы тавыбыз тавыгыз тавы"),
        ("өй", "өем өең өе өебез өегез өе"),
        ("сәгать", "сәгатем сәгатең сәгате сәгатебез сәгатегез сәгате"),
        ("банк", "банкым банкың банкы банкыбыз банкыгыз банкы"),
    ],
)
def test_possession(word: str, forms: str) -> None:
    assert [str(noun(noun_lemma(word), possessor=person)) for person in PERSONS] == forms.split()


@pytest.mark.parametrize(
    ("word", "features", "form"),
    [
        ("бала", {"plural": True}, "балалар"),
        ("урман", {"plural": True}, "урманнар"),
        ("дәрес", {"plural": True, "case": "dat"}, "дәресләргә"),
        ("китап", {"possessor": "1sg", "case": "dat"}, "китабыма"),
        ("китап", {"possessor": "3sg", "case": "dat"}, "китабына"),
        ("китап", {"possessor": "3sg", "case": "acc"}, "китабын"),
        ("китап", {"possessor": "3sg", "case": "abl"}, "китабыннан"),
        ("китап", {"possessor": "1pl", "case": "loc"}, "китабыбызда"),
        ("дус", {"plural": True, "possessor": "1sg", "case": "gen"}, "дусларымның"),
        ("май ае", {"case": "loc"}, "май аенда"),
    ],
)
def test_combinations(word: str, features: dict, form: str) -> None:
    assert str(noun(noun_lemma(word), **features)) == form


def test_a_possessed_compound_takes_no_more_endings() -> None:
    with pytest.raises(ValueError, match="possessed already"):
        noun(noun_lemma("май ае"), plural=True)


VERBS = {
    "яз": "яза язды язган язачак язар язса язмый язмас язырга:язарга язып язу",
    "бар": "бара барды барган барачак барыр барса бармый бармас барырга барып бару",
    "кил": "килә килде килгән киләчәк килер килсә килми килмәс килергә килеп килү",
    "эшлә": "эшли эшләде эшләгән эшләячәк эшләр эшләсә эшләми эшләмәс эшләргә эшләп эшләү",
    "кара": "карый карады караган караячак карар караса карамый карамас карарга карап карау",
    "укы": "укый укыды укыган укыячак укыр укыса укымый укымас укырга укып уку",
    "чык": "чыга чыкты чыккан чыгачак чыгар чыкса чыкмый чыкмас чыгарга чыгып чыгу",
    "ки": "кия киде кигән киячәк кияр кисә кими кимәс кияргә киеп кию",
    "куй": "куя куйды куйган куячак куяр куйса куймый куймас куярга куеп кую",
    "яу": "ява яуды яуган явачак явар яуса яумый яумас яварга явып яву",
    "әйт": "әйтә әйтте әйткән әйтәчәк әйтер әйтсә әйтми әйтмәс әйтергә әйтеп әйтү",
    "курык": "курка курыкты курыккан куркачак куркыр курыкса курыкмый курыкмас куркырга куркып курку",
    "йөр": "йөри йөрде йөргән йөриячәк йөрер йөрсә йөрми йөрмәс йөрергә йөреп йөрү",
    "бие": "бии биеде биегән бииячәк биер биесә биеми биемәс биергә биеп бию",
    "буя": "буйый буяды буяган буяячак буяр буяса буямый буямас буярга буяп буяу",
    "төзе": "төзи төзеде төзегән төзиячәк төзер төзесә төземи төземәс төзергә төзеп төзү",
}  # fmt: skip


@pytest.mark.parametrize("stem", VERBS)
def test_verbs(stem: str) -> None:
    lemma = verb_lemma(stem)
    made = [str(verb(lemma, tense)) for tense in TENSES]
    made += [str(verb(lemma, tense, negative=True)) for tense in ("present", "future_indefinite")]
    made += [str(non_finite(lemma, kind)) for kind in ("infinitive", "converb", "verbal_noun")]
    assert made == [form.rpartition(":")[2] for form in VERBS[stem].split()]


def test_persons() -> None:
    lemma = verb_lemma("бар")
    assert [str(verb(lemma, "present", person)) for person in PERSONS] == ["барам", "барасың", "бара", "барабыз", "барасыз", "баралар"]
    assert [str(verb(lemma, "past", person)) for person in PERSONS] == ["бардым", "бардың", "барды", "бардык", "бардыгыз", "бардылар"]
    assert [str(verb(lemma, "future", person)) for person in PERSONS] == [
        "барачакмын", "барачаксың", "барачак", "барачакбыз", "барачаксыз", "барачаклар",
    ]  # fmt: skip
    negative = [str(verb(lemma, "future_indefinite", person, negative=True)) for person in PERSONS]
    assert negative == ["бармам", "бармассың", "бармас", "бармабыз", "бармассыз", "бармаслар"]
    assert [str(imperative(lemma, person)) for person in PERSONS] == ["барыйм", "бар", "барсын", "барыйк", "барыгыз", "барсыннар"]
    assert str(imperative(verb_lemma("эшлә"), "1pl")) == "эшлик"
    assert str(imperative(verb_lemma("куй"), "1sg")) == "куйыйм"
    assert str(imperative(lemma, "2pl", negative=True)) == "бармагыз"
    assert str(non_finite(lemma, "infinitive", negative=True)) == "бармаска"
    assert [str(non_finite(lemma, kind)) for kind in ("converb_before", "converb_after", "converb_without")] == [
        "барганчы", "баргач", "бармыйча",
    ]  # fmt: skip


def test_predicates_and_questions() -> None:
    assert [str(predicate(noun_lemma("укытучы").form, person)) for person in PERSONS] == [
        "укытучымын", "укытучысың", "укытучы", "укытучыбыз", "укытучысыз", "укытучылар",
    ]  # fmt: skip
    assert [question(word) for word in ("китап", "килде", "Казанда")] == ["китапмы", "килдеме", "Казандамы"]
    assert question(noun_lemma("ел").form) == "елмы"
    assert question(verb(verb_lemma("бар"), "present", "2sg")) == "барасыңмы"


def test_numbers() -> None:
    assert [number(value) for value in (0, 7, 10, 15, 23, 100, 101, 365, 1000, 2026)] == [
        "ноль", "җиде", "ун", "унбиш", "егерме өч", "йөз", "йөз бер", "өч йөз алтмыш биш", "мең", "ике мең егерме алты",
    ]  # fmt: skip
    assert [ordinal(value) for value in (1, 2, 6, 10, 30, 40)] == [
        "беренче", "икенче", "алтынчы", "унынчы", "утызынчы", "кырыгынчы",
    ]  # fmt: skip
    with pytest.raises(ValueError, match="999,999"):
        number(1_000_000)


@pytest.mark.parametrize("tense", ["presnt", ""])
def test_a_wrong_name_is_told(tense: str) -> None:
    with pytest.raises(ValueError, match="is not one of"):
        verb(verb_lemma("бар"), tense)
    with pytest.raises(ValueError, match="is not one of"):
        non_finite(verb_lemma("бар"), tense)


def test_the_lexicon_is_large_and_each_word_stands_once() -> None:
    assert len(lexicon()) >= 1000
    keys = [(lemma.word_class, lemma.word) for lemma in lexicon() if lemma.word_class in ("noun", "verb", "adjective")]
    assert sorted(keys) == sorted(set(keys))
    assert all(lemma.gloss for lemma in lexicon())


@given(st.sampled_from(by_class("noun")), st.sampled_from(CASES), st.booleans(), st.sampled_from([None, *PERSONS]))
def test_endings_agree_in_harmony(lemma, case: str, plural: bool, possessor: str | None) -> None:
    if "possessed" in lemma.marks:
        return
    form = noun(lemma, case, plural=plural, possessor=possessor)
    endings = "".join(form.morphs[1:]).replace("я", "").replace("ю", "").replace("е", "" if form.back else "е")
    assert not set(endings) & set(FRONT if form.back else BACK), form.morphs


@given(st.sampled_from(by_class("verb")), st.sampled_from(TENSES), st.sampled_from(PERSONS), st.booleans())
def test_every_verb_has_every_form(lemma, tense: str, person: str, negative: bool) -> None:
    assert str(verb(lemma, tense, person, negative=negative)).startswith(lemma.word[:1])
    for kind in NON_FINITE:
        assert str(non_finite(lemma, kind)).startswith(lemma.word[:1])


def test_harmony_of_glides() -> None:
    assert [is_back(word) for word in ("каен", "сөяк", "бозау", "кияү", "Россия", "хыял", "яшь", "мәкаль")] == [
        True, False, True, False, False, True, False, False,
    ]  # fmt: skip
    assert [syllables(word) for word in ("тау", "су", "авыл", "каен")] == [1, 1, 2, 2]
