"""Nouns: number, possession and the six cases; predicate endings; pronouns and numerals."""

from __future__ import annotations

from dataclasses import replace

from tatar_llm.grammar.lexicon import Lemma
from tatar_llm.grammar.phonology import VOWELS, Form

CASES = ("nom", "gen", "dat", "acc", "abl", "loc")
PERSONS = ("1sg", "2sg", "3sg", "1pl", "2pl", "3pl")
_CASE = {"gen": "нЫң", "dat": "ГА", "acc": "нЫ", "abl": "ТАн", "loc": "ДА"}
_CASE_AFTER_THIRD = {"gen": "нЫң", "dat": "нА", "acc": "н", "abl": "ннАн", "loc": "ндА"}
_AFTER_CONSONANT = {"1sg": "Ым", "2sg": "Ың", "3sg": "Ы", "1pl": "ЫбЫз", "2pl": "ЫгЫз", "3pl": "Ы"}
_AFTER_VOWEL = {"1sg": "м", "2sg": "ң", "3sg": "сЫ", "1pl": "бЫз", "2pl": "гЫз", "3pl": "сЫ"}
_PREDICATE = {"1sg": "мЫн", "2sg": "сЫң", "3sg": "", "1pl": "бЫз", "2pl": "сЫз", "3pl": "ЛАр"}

PRONOUNS = {
    "1sg": ("мин", "минем", "миңа", "мине", "миннән", "миндә"),
    "2sg": ("син", "синең", "сиңа", "сине", "синнән", "синдә"),
    "3sg": ("ул", "аның", "аңа", "аны", "аннан", "анда"),
    "1pl": ("без", "безнең", "безгә", "безне", "бездән", "бездә"),
    "2pl": ("сез", "сезнең", "сезгә", "сезне", "сездән", "сездә"),
    "3pl": ("алар", "аларның", "аларга", "аларны", "алардан", "аларда"),
}
DEMONSTRATIVES = {
    "бу": ("бу", "моның", "моңа", "моны", "моннан", "монда"),
    "шул": ("шул", "шуның", "шуңа", "шуны", "шуннан", "шунда"),
    "кем": ("кем", "кемнең", "кемгә", "кемне", "кемнән", "кемдә"),
    "нәрсә": ("нәрсә", "нәрсәнең", "нәрсәгә", "нәрсәне", "нәрсәдән", "нәрсәдә"),
}


def noun(lemma: Lemma, case: str = "nom", *, plural: bool = False, possessor: str | None = None) -> Form:
    """A form of a noun: ``noun(китап, "abl", possessor="1sg")`` is китабымнан.

    Args:
        case: one of CASES.
        possessor: one of PERSONS, or None.

    Raises:
        ValueError: for a plural or a possessor of a compound that is possessed already (салават күпере).
    """
    form = lemma.form
    if "possessed" in lemma.marks:
        if plural or possessor:
            raise ValueError(f"{lemma.word} is possessed already")
        return decline(form, case, "3sg")
    if plural:
        form = form.add("ЛАр")
    if possessor:
        stem = lemma.marks.get("possessive")  # сеңел: сеңлем
        form = possessed(Form.of(stem) if stem and not plural else form, possessor)
    return decline(form, case, possessor)


def possessed(form: Form, possessor: str) -> Form:
    """The form with the ending of a possessor (PERSONS)."""
    if form.last == "и":  # әби: әбием, but әбисе
        ending = "сЫ" if possessor in ("3sg", "3pl") else _AFTER_CONSONANT[possessor]
    else:
        ending = (_AFTER_VOWEL if form.ends_in_vowel else _AFTER_CONSONANT)[possessor]
    return form.add(ending)


def decline(form: Form, case: str, possessor: str | None = None) -> Form:
    """The form in a case, after the ending of `possessor` if it carries one."""
    if case == "nom":
        return form
    if possessor in ("3sg", "3pl"):
        return form.add(_CASE_AFTER_THIRD[case])
    return form.add("А" if case == "dat" and possessor in ("1sg", "2sg") else _CASE[case])


def predicate(form: Form, person: str) -> Form:
    """A noun or adjective as predicate: укытучымын, укытучысың."""
    return form.add(_PREDICATE[person]) if _PREDICATE[person] else form


def pronoun(person: str, case: str = "nom") -> str:
    """A personal pronoun in a case."""
    return PRONOUNS[person][CASES.index(case)]


def question(form: Form | str) -> str:
    """The question particle joined to a predicate: килдеме, китапмы."""
    form = Form.of(form) if isinstance(form, str) else form
    return str(replace(form, before_vowel="").add("мЫ"))


_UNITS = ("", "бер", "ике", "өч", "дүрт", "биш", "алты", "җиде", "сигез", "тугыз")
_TENS = ("", "ун", "егерме", "утыз", "кырык", "илле", "алтмыш", "җитмеш", "сиксән", "туксан")


def number(value: int) -> str:
    """A whole number from 0 to 999,999 in words."""
    if not 0 <= value < 1_000_000:
        raise ValueError(f"{value} is not between 0 and 999,999")
    if value == 0:
        return "ноль"
    thousands, rest = divmod(value, 1000)
    words = [*([] if thousands in (0, 1) else [number(thousands)]), *(["мең"] if thousands else [])]
    hundreds, rest = divmod(rest, 100)
    words += [*([_UNITS[hundreds]] if hundreds > 1 else []), *(["йөз"] if hundreds else [])]
    tens, units = divmod(rest, 10)
    last = [_TENS[1] + _UNITS[units]] if tens == 1 else [_TENS[tens], _UNITS[units]]  # унөч, but егерме өч
    return " ".join(word for word in (*words, *last) if word)


def ordinal(value: int) -> str:
    """An ordinal in words: өченче, унынчы, алтынчы."""
    words = number(value)
    form = Form.of(words)
    return str(form.add("нчЫ" if form.last in VOWELS else "ЫнчЫ"))
