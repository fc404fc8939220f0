"""Questions whose answer no text tells: facts of subjects that are not among the facts, and whatever only those who are there can know.

Most of them are made up, any amount, so that a network cannot learn them by heart and has to learn what it does not know.
"""

from __future__ import annotations

import random

from tatar_llm.chat.template import Turn
from tatar_llm.chat.wordings import chat_wordings, disturbed, fill, proper
from tatar_llm.grammar.facts import facts, wordings
from tatar_llm.grammar.lexicon import by_class
from tatar_llm.grammar.nouns import noun
from tatar_llm.grammar.templates import Filler

MADE_UP = 0.6
"""Share of the subjects that are made up where a list could be taken."""
TITLES = ("nature", "tree", "bird", "house_part", "building", "weather", "flower", "furniture")
CELEBRATED = ("profession", "animal", "bird", "tree", "vehicle", "instrument")
POSSESSED = frozenset({"holiday", "colour"})
"""Relations whose made-up subjects end in a possessive ending: урманчылар көне, апамның шәле."""
OWNED = ("clothing", "supplies", "dish", "tool", "furniture", "vehicle")


def stranger_turns(rng: random.Random, unseen: bool = False) -> list[Turn]:
    """A question of the facts' kind about a subject that is none of theirs; `unseen`: in words and of subjects that no training has."""
    table = chat_wordings()
    prefix = "unseen_" if unseen else ""
    kinds = [name for name, one in table.items() if name in wordings("training") and "strangers" in one]
    relation = rng.choice([*kinds, "how_many_unknown"])
    if relation == "how_many_unknown":
        return not_known(rng.choice(table[relation][f"{prefix}questions"]))
    listed = table[relation][f"{prefix}strangers"]
    invented = not unseen and rng.random() <= MADE_UP
    subject = made_up(relation, rng) if invented else rng.choice(listed)
    asked = rng.choice(table[relation]["unseen"]) if unseen else disturbed(rng.choice(table[relation]["ask"]), rng)
    return not_known(fill(asked, s=proper(subject, possessed=invented and relation in POSSESSED)))


def unknowable_turns(rng: random.Random) -> list[Turn]:
    """A question about the asker's people, things, day: "Марат кичә кая барды?"."""
    return not_known(Filler(rng).fill(rng.choice(chat_wordings()["unknowable"]["questions"])))


def not_known(question: str) -> list[Turn]:
    """The question, and that it does not know."""
    return [Turn("user", question), Turn("assistant", chat_wordings()["unknown"]["answer"])]


def made_up(relation: str, rng: random.Random) -> str:
    """A subject for a question of this relation that is neither a fact's nor one of the evaluation's."""
    taken = {fact.subject for fact in facts()} | set(chat_wordings()[relation]["unseen_strangers"])
    while (subject := _made_up(relation, rng)) in taken:
        pass
    return subject


def _made_up(relation: str, rng: random.Random) -> str:
    if relation == "author":
        adjective, thing = rng.choice(by_class("adjective", "size", "colour", "quality")).word, rng.choice(by_class("noun", *TITLES)).word
        return f"{adjective[0].upper()}{adjective[1:]} {thing}"
    if relation == "holiday":
        of = str(noun(rng.choice(by_class("noun", *CELEBRATED)), plural=True))
        return f"{of[0].upper()}{of[1:]} көне"
    if relation == "colour":
        return Filler(rng).fill(f"{{kin.p1sg.gen}} {{{rng.choice(OWNED)}.p3sg}}").lower()
    names = chat_wordings()["names"]
    stem = "".join(rng.sample(names["syllables"], 2))
    return stem[0].upper() + stem[1:] + rng.choice(names[relation])
