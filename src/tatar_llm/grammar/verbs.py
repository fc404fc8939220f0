"""Verbs: tenses, moods, negation, person, participles, converbs, infinitive and verbal noun."""

from __future__ import annotations

from tatar_llm.grammar.lexicon import Lemma
from tatar_llm.grammar.phonology import VOWELS, Form, syllables

TENSES = ("present", "past", "past_indefinite", "future", "future_indefinite", "conditional")
NON_FINITE = (
    "infinitive", "verbal_noun", "participle_past", "participle_present", "participle_future",
    "converb", "converb_before", "converb_after", "converb_without",
)  # fmt: skip
_PRESENT = {"1sg": "м", "2sg": "сЫң", "3sg": "", "1pl": "бЫз", "2pl": "сЫз", "3pl": "ЛАр"}
_PAST = {"1sg": "м", "2sg": "ң", "3sg": "", "1pl": "к", "2pl": "гЫз", "3pl": "ЛАр"}
_FULL = {"1sg": "мЫн", "2sg": "сЫң", "3sg": "", "1pl": "бЫз", "2pl": "сЫз", "3pl": "ЛАр"}
_NEGATIVE_FUTURE = {"1sg": "мАм", "2sg": "мАссЫң", "3sg": "мАс", "1pl": "мАбЫз", "2pl": "мАссЫз", "3pl": "мАслАр"}


def verb(lemma: Lemma, tense: str = "present", person: str = "3sg", *, negative: bool = False) -> Form:
    """A finite form: ``verb(бар, "past", "1sg")`` is бардым.

    Args:
        tense: one of TENSES.
        person: one of nouns.PERSONS.
    """
    form = lemma.form
    if tense == "future_indefinite" and negative:
        return form.add(_NEGATIVE_FUTURE[person])
    if negative and tense != "present":
        form = form.add("мА")
    if tense == "present":
        return _with_person(_present(lemma, negative), _PRESENT[person])
    if tense == "past":
        return _with_person(form.add("ДЫ"), _PAST[person])
    if tense == "past_indefinite":
        return _with_person(form.add("ГАн"), _FULL[person])
    if tense == "future":
        return _with_person(_future(form, "" if negative else lemma.marks.get("present", "")), _FULL[person])
    if tense == "future_indefinite":
        return _with_person(_aorist(lemma), _FULL[person])
    if tense == "conditional":
        return _with_person(form.add("сА"), _PAST[person])
    raise ValueError(f"{tense!r} is not one of {', '.join(TENSES)}")


def imperative(lemma: Lemma, person: str = "2sg", *, negative: bool = False) -> Form:
    """The imperative (2sg, 2pl, 3sg, 3pl) or, in the first person, the optative: языйм, языйк."""
    form = lemma.form.add("мА") if negative else lemma.form
    vowel = _vowel_stem(form)
    if person == "2sg":
        return form
    if person == "2pl":
        return form.add("гЫз" if vowel else "ЫгЫз")
    if person in ("3sg", "3pl"):
        form = form.add("сЫн")
        return form.add("ЛАр") if person == "3pl" else form
    ending = "м" if person == "1sg" else "к"
    glide = "ый" if form.back else "и"
    if vowel:
        return _replace_last_vowel(form, glide + ending)
    if form.morphs[-1].endswith("й"):  # куйыйм
        return Form((*form.morphs, glide + ending), form.back)
    return form.add(glide + ending)


def non_finite(lemma: Lemma, kind: str, *, negative: bool = False) -> Form:
    """A participle, converb, infinitive or verbal noun: one of NON_FINITE.

    converb язып, converb_before язганчы, converb_after язгач, converb_without язмыйча.
    """
    form = lemma.form
    stem = form.add("мА") if negative else form
    if kind == "infinitive":
        return form.add("мАскА") if negative else _aorist(lemma).add("гА")
    if kind == "verbal_noun":
        return _verbal_noun(stem)
    if kind == "participle_past":
        return stem.add("ГАн")
    if kind == "participle_present":
        return _verbal_noun(stem).add("чЫ")
    if kind == "participle_future":
        return _future(stem)
    if kind == "converb":
        return form.add("мыйча" if form.back else "мичә") if negative else _converb(form)
    if kind == "converb_before":
        return stem.add("ГАнчЫ")
    if kind == "converb_after":
        return stem.add("ГАч")
    if kind == "converb_without":
        return form.add("мыйча" if form.back else "мичә")
    raise ValueError(f"{kind!r} is not one of {', '.join(NON_FINITE)}")


def _with_person(form: Form, ending: str) -> Form:
    return form.add(ending) if ending else form


def _vowel_stem(form: Form) -> bool:
    """Whether the stem ends in a, ә, ы, е; stems in и, у, ю (ки, ту, яу) behave like consonant stems."""
    return form.morphs[-1][-1] in "аәыея"


def _glide(form: Form) -> Form:
    """The stem before a vowel with its glide: ки is кий-."""
    stem = form.morphs[-1]
    return Form((*form.morphs[:-1], stem + "й"), form.back) if stem.endswith("и") else form


def _replace_last_vowel(form: Form, ending: str) -> Form:
    stem = form.morphs[-1]
    head = stem[:-1] + ("й" if stem[-1] == "я" else "")  # буя: буйый
    return Form((*form.morphs[:-1], head, ending), form.back)


def _present(lemma: Lemma, negative: bool) -> Form:
    form = lemma.form
    high = "ый" if form.back else "и"
    if negative:
        return form.add("м" + high)
    if irregular := lemma.marks.get("present"):
        head, _, _ = lemma.word.rpartition(" ")
        return Form((f"{head} {irregular}".strip(),), form.back)
    return _replace_last_vowel(form, high) if _vowel_stem(form) else _glide(form).add("А")


def _aorist(lemma: Lemma) -> Form:
    form = lemma.form
    if _vowel_stem(form):
        return form.add("р")
    stem = lemma.word.rpartition(" ")[2]
    heavy = len(stem) > 1 and stem[-1] not in VOWELS and stem[-2] not in VOWELS  # әйт, кайт, тарт
    high = "high" in lemma.marks or syllables(stem) > 1 or heavy
    return _glide(form).add("Ыр" if high else "Ар")


def _future(form: Form, irregular: str = "") -> Form:
    """The definite future; `irregular` is the present of a verb that makes it from that (йөри: йөриячәк)."""
    if irregular:
        return Form((irregular.removesuffix("й"), "ячак" if form.back else "ячәк"), form.back)
    if form.morphs[-1].endswith("е"):  # төзе: төзиячәк
        return _replace_last_vowel(form, "иячәк")
    if _vowel_stem(form):
        return form.add("ячак" if form.back else "ячәк")
    return _glide(form).add("АчАк")


def _converb(form: Form) -> Form:
    return form.add("п") if _vowel_stem(form) else _glide(form).add("Ып")


def _verbal_noun(form: Form) -> Form:
    stem = form.morphs[-1]
    if stem[-1] in "ые":  # укы: уку, бие: бию
        ending = "у" if form.back else "ү"
        if stem[-2] in VOWELS:
            ending = "ю"
        return _replace_last_vowel(form, ending)
    return _glide(form).add("У")
