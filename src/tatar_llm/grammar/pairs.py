"""Minimal pairs: two sentences that differ in one form, the first right and the second wrong; a BLiMP of Tatar.

After Warstadt et al. 2020 (BLiMP, TACL 8), with phenomena of Tatar. `candidates` makes any number; scripts/pairs.py
chooses those that ship, so that neither a training on the sample corpus nor a bigram can tell the right one by sight.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from tatar_llm.grammar.lexicon import Lemma, by_class, lexicon, verb_lemma
from tatar_llm.grammar.nouns import PERSONS, noun, number, possessed, predicate, pronoun
from tatar_llm.grammar.phonology import Form
from tatar_llm.grammar.verbs import non_finite, verb


@dataclass(frozen=True)
class Pair:
    """A right and a wrong sentence, and the forms in which they differ."""

    phenomenon: str
    good: str
    bad: str
    good_form: str
    bad_form: str


Made = tuple[str, str, str]
"""A sentence with ``*`` where the form stands, the right form, the wrong form."""


def candidates(phenomenon: str, seed: int = 0) -> Iterator[Pair]:
    """Pairs of a phenomenon without end, each sentence at most once."""
    rng = random.Random(f"{phenomenon} {seed}")
    seen: set[str] = set()
    tries = 0
    while tries < 2000:
        sentence, good, bad = PHENOMENA[phenomenon](rng)
        pair = Pair(phenomenon, _whole(sentence, good), _whole(sentence, bad), good, bad)
        if good == bad or pair.good in seen:
            tries += 1
            continue
        tries = 0
        seen.add(pair.good)
        yield pair


def _whole(sentence: str, form: str) -> str:
    text = sentence.replace("*", form)
    return text[0].upper() + text[1:]


def _wrong_harmony(form: Form, endings: Callable[[Form], Form]) -> tuple[str, str]:
    """The form with its endings in the right and in the wrong harmony."""
    return str(endings(form)), str(endings(replace(form, back=not form.back)))


_OBJECTS = ("tool", "supplies", "dish", "clothing", "furniture", "toy", "instrument", "material", "food", "sweet_fruit",
            "vegetable", "house", "house_part", "structure", "plant", "tree", "crop", "insect", "fish", "bird", "poultry", "nature",
            "region", "body", "vehicle", "cooked", "drink", "exotic", "animal", "domestic")  # fmt: skip


def _thing(rng: random.Random, *meanings: str) -> Lemma:
    while True:
        lemma = rng.choice(by_class("noun", *(meanings or _OBJECTS)))
        if "possessed" not in lemma.marks and " " not in lemma.word and "-" not in lemma.word:
            return lemma


def _name(rng: random.Random) -> str:
    return rng.choice([lemma for lemma in lexicon() if lemma.meaning == "given"]).word


def _harmony_case(rng: random.Random) -> Made:
    lemma = _thing(rng)
    frame, ending = rng.choice([
        (f"{_name(rng)} * карап торды.", "ГА"),
        (f"{_name(rng)} * {rng.choice(['күрде', 'яратты', 'мактады', 'сорады', 'эзләде', 'тапты'])}.", "нЫ"),
        (f"Бу * {rng.choice(['исемен', 'тарихын', 'төсен', 'бәясен'])} {_name(rng)} белә.", "нЫң"),
        (f"{_name(rng)} * {rng.choice(['зарланды', 'канәгать түгел', 'курыкты', 'көлде'])}.", "ТАн"),
        ("Бу хәл турында * язылган.", "ДА"),
    ])  # fmt: skip
    good, bad = _wrong_harmony(lemma.form, lambda form: form.add(ending))
    return frame, good, bad


def _harmony_plural(rng: random.Random) -> Made:
    good, bad = _wrong_harmony(_thing(rng).form, lambda form: form.add("ЛАр"))
    return rng.choice([f"{_name(rng)} анда * күрде.", "Монда * бик күп.", "Рәсемдә * бар.", f"{_name(rng)} * турында укыды."]), good, bad


def _harmony_possession(rng: random.Random) -> Made:
    owner = rng.choice(["1sg", "2sg", "1pl", "2pl"])
    good, bad = _wrong_harmony(_thing(rng).form, lambda form: possessed(form, owner))
    return f"{pronoun(owner, 'gen').capitalize()} * {rng.choice(['бар', 'юк', 'кайда соң', 'монда түгел', 'шунда калган'])}.", good, bad


def _assimilation(rng: random.Random) -> Made:
    lemma = _thing(rng)
    ending, frame = rng.choice([
        ("ГА", f"{_name(rng)} * карады."), ("ДА", "Шул сүз * язылган."), ("ТАн", f"{_name(rng)} * баш тартты."),
        ("ЛАр", f"{_name(rng)} * турында сөйләде."),
    ])  # fmt: skip
    good = str(lemma.form.add(ending))
    swap = {"т": "д", "д": "т", "к": "г", "г": "к", "н": "л", "л": "н"}
    stem = lemma.word
    if not good.startswith(stem):
        return _assimilation(rng)
    first = good[len(stem)]
    return frame, good, stem + (swap[first] if ending != "ТАн" or first != "н" else "д") + good[len(stem) + 1 :]


_GOVERNMENT = {
    "acc": ("ярата", "күрде", "сагынды", "белә", "таныды", "тикшерде", "югалтты"),
    "dat": ("ышана", "сокланды", "шатланды", "гаҗәпләнде", "таянды", "игътибар итте"),
    "abl": ("курка", "көлде", "баш тартты", "оялды", "аерылды", "ваз кичте"),
}
_NOT_GOVERNED = {"acc": ("dat",), "dat": ("acc",), "abl": ("acc", "dat")}
"""Cases that cannot stand there in another sense either: «инештән күрде», saw from the brook, can."""


def _verb_government(rng: random.Random) -> Made:
    lemma = _thing(rng)
    case = rng.choice(list(_GOVERNMENT))
    subject = rng.choice([_name(rng), "ул", "бу кеше", "күрше", "минем абыем"])
    wrong = rng.choice(_NOT_GOVERNED[case])
    return f"{subject} * {rng.choice(_GOVERNMENT[case])}.", str(noun(lemma, case)), str(noun(lemma, wrong))


_POSTPOSITIONS = {
    "nom": (("белән", "өчен", "турында", "кебек", "аша"), ("dat", "abl")),
    "dat": (("таба", "каршы", "карамастан", "караганда"), ("nom",)),
    "abl": (("соң", "башка"), ("dat",)),
}  # fmt: skip
"""Case, postpositions that govern it, and the cases that are wrong beside them."""


def _postposition_government(rng: random.Random) -> Made:
    lemma = _thing(rng)
    case = rng.choice(list(_POSTPOSITIONS))
    words, wrong = _POSTPOSITIONS[case]
    tail = rng.choice(["сөйләште", "килде", "йөрде", "торды", "утырды", "эшләде", "китте"])
    return f"{_name(rng)} * {rng.choice(words)} {tail}.", str(noun(lemma, case)), str(noun(lemma, rng.choice(wrong)))


def _simple_verb(rng: random.Random) -> Lemma:
    while True:
        lemma = rng.choice(by_class("verb"))
        if " " not in lemma.word and lemma.meaning in ("motion", "speech", "mind", "hand", "body"):
            return lemma


_SHORT = ("1sg", "2sg", "1pl", "2pl")


def _agreement_person(rng: random.Random) -> Made:
    lemma, tense = _simple_verb(rng), rng.choice(["present", "past", "future", "future_indefinite", "conditional"])
    person, wrong = rng.sample([("1sg", "2sg"), ("1pl", "2pl")][rng.randrange(2)], 2)
    tail = ", яхшы булыр" if tense == "conditional" else ""
    when = rng.choice(["", "шуннан соң ", "бик озак ", "шулай ук ", "тагын бер тапкыр "])
    return f"{pronoun(person)} {when}*{tail}.", str(verb(lemma, tense, person)), str(verb(lemma, tense, wrong))


def _agreement_number(rng: random.Random) -> Made:
    lemma, tense = _simple_verb(rng), rng.choice(["present", "past", "future", "future_indefinite", "conditional"])
    person, wrong = rng.sample([("1sg", "1pl"), ("2sg", "2pl")][rng.randrange(2)], 2)
    tail = ", яхшы булыр" if tense == "conditional" else ""
    when = rng.choice(["", "шуннан соң ", "бик озак ", "шулай ук ", "тагын бер тапкыр "])
    return f"{pronoun(person)} {when}*{tail}.", str(verb(lemma, tense, person)), str(verb(lemma, tense, wrong))


def _possessor_agreement(rng: random.Random) -> Made:
    person, wrong = rng.sample(_SHORT, 2)
    lemma = _thing(rng)
    case = rng.choice(["nom", "nom", "acc", "dat", "loc", "abl"])
    frame = {"nom": ["* бик ошый", "* монда тора", "* бар"], "acc": ["* күрделәр", "* мактыйлар"], "dat": ["* карыйлар"],
             "loc": ["* гаеп юк"], "abl": ["* көләләр"]}[case]  # fmt: skip
    return (f"{pronoun(person, 'gen')} {rng.choice(frame)}.", str(noun(lemma, case, possessor=person)),
            str(noun(lemma, case, possessor=wrong)))  # fmt: skip


def _negation(rng: random.Random) -> Made:
    lemma, tense = _simple_verb(rng), rng.choice(["present", "past", "past_indefinite", "future"])
    subject, person = rng.choice([("беркем дә", "3sg"), ("бер кеше дә", "3sg"), ("мин беркайчан да", "1sg"), ("без беркайчан да", "1pl"),
                                  ("син беркайда да", "2sg"), ("алар бервакытта да", "3pl"), ("ул һич тә", "3sg")])  # fmt: skip
    return f"{subject} *.", str(verb(lemma, tense, person, negative=True)), str(verb(lemma, tense, person))


_COUNTED = ("tool", "supplies", "dish", "clothing", "furniture", "toy", "instrument", "sweet_fruit", "vegetable", "house",
            "structure", "tree", "insect", "fish", "bird", "poultry", "vehicle", "exotic", "animal", "domestic")  # fmt: skip


def _numeral(rng: random.Random) -> Made:
    lemma = _thing(rng, *_COUNTED)
    count = number(rng.randint(2, 40))
    case = rng.choice(["nom", "nom", "acc", "dat"])
    frame = {"nom": ["монда {} * бар", "{} * күренде", "бездә {} * кирәк"], "acc": ["{name} {} * тапты", "{name} {} * күрде"],
             "dat": ["{name} {} * карады"]}[case]  # fmt: skip
    return (rng.choice(frame).format(count, name=_name(rng)) + ".", str(noun(lemma, case)), str(noun(lemma, case, plural=True)))


def _tense_adverb(rng: random.Random) -> Made:
    lemma, person = _simple_verb(rng), rng.choice(PERSONS)
    past = rng.random() < 0.5
    adverb = rng.choice(["кичә", "узган ел", "былтыр", "өченче көн", "күптән түгел"] if past else ["иртәгә", "киләсе ел", "берсекөнгә", "киләсе атнада"])
    good, bad = ("past", "future") if past else ("future", "past")
    return f"{adverb} {pronoun(person)} *.", str(verb(lemma, good, person)), str(verb(lemma, bad, person))


def _question(rng: random.Random) -> Made:
    lemma, tense, person = _simple_verb(rng), rng.choice(["past", "present", "past_indefinite"]), rng.choice(PERSONS)
    form = verb(lemma, tense, person)
    if rng.random() < 0.5:  # with a question word there is no particle
        word = rng.choice(["кайчан", "кайда", "нигә", "ни өчен", "ничек"])
        return f"{pronoun(person)} {word} *?", str(form), str(form.add("мЫ"))
    other = replace(form, back=not form.back)
    return f"{pronoun(person)} чыннан да *?", str(form.add("мЫ")), str(other.add("мЫ"))


def _converb(rng: random.Random) -> Made:
    first, second = _simple_verb(rng), verb_lemma(rng.choice(["кил", "кит", "чык", "кайт", "бетер", "утыр", "кал", "ят"]))
    person = rng.choice(PERSONS)
    tense = rng.choice(["past", "present", "future"])
    wrong = rng.choice([verb(first, "past_indefinite"), verb(first, "conditional"), non_finite(first, "verbal_noun")])
    return (f"{pronoun(person)} * {verb(second, tense, person)}.", str(non_finite(first, "converb")), str(wrong))


def _word_order(rng: random.Random) -> Made:
    """Adjective and numeral before the noun, postposition after it."""
    lemma, name = _thing(rng, *_COUNTED), _name(rng)
    kind = rng.randrange(3)
    if kind == 0:
        colour = rng.choice(by_class("adjective", "colour")).word
        return f"{name} * сатып алды.", f"{colour} {noun(lemma, 'acc')}", f"{noun(lemma, 'acc')} {colour}"
    if kind == 1:
        post = rng.choice(["белән", "турында", "өчен", "кебек"])
        verb_form = verb(_simple_verb(rng), rng.choice(["past", "present"]), "1pl")
        return f"без * {verb_form}.", f"{lemma.word} {post}", f"{post} {lemma.word}"
    count = number(rng.randint(2, 12))
    return f"{name} {rng.choice(['кичә', 'бүген', 'базарда', 'шәһәрдә'])} * күрде.", f"{count} {lemma.word}", f"{lemma.word} {count}"


def _predicate(rng: random.Random) -> Made:
    lemma = rng.choice(by_class("noun", "profession"))
    person, wrong = rng.sample(_SHORT, 2)
    when = rng.choice(["", "инде ", "хәзер ", "чыннан да "])
    return f"{pronoun(person)} {when}*.", str(predicate(lemma.form, person)), str(predicate(lemma.form, wrong))


PHENOMENA: dict[str, Callable[[random.Random], Made]] = {
    "harmony_case": _harmony_case,
    "harmony_plural": _harmony_plural,
    "harmony_possession": _harmony_possession,
    "assimilation": _assimilation,
    "verb_government": _verb_government,
    "postposition_government": _postposition_government,
    "agreement_person": _agreement_person,
    "agreement_number": _agreement_number,
    "possessor_agreement": _possessor_agreement,
    "predicate_person": _predicate,
    "negation": _negation,
    "numeral_singular": _numeral,
    "tense_adverb": _tense_adverb,
    "question_particle": _question,
    "converb_chain": _converb,
    "word_order": _word_order,
}
"""Name -> maker."""
