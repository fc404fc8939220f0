"""The tokenizer as a measure: how long its tokens are, how many lie idle, whether they end where morphemes end."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
from tokenizers import Tokenizer

from tatar_llm.evaluation.statistics import Measure, share
from tatar_llm.grammar.lexicon import by_class
from tatar_llm.grammar.nouns import CASES, PERSONS, noun
from tatar_llm.grammar.phonology import Form
from tatar_llm.grammar.verbs import TENSES, verb
from tatar_llm.tokenizer import TokenFile, encode_text

FORMS = 1000
RARE = 100


def word_forms(count: int = FORMS) -> list[Form]:
    """Inflected nouns and verbs of the lexicon with at least one ending, always the same."""
    rng = random.Random(0)
    made: list[Form] = []
    nouns = [lemma for lemma in by_class("noun") if "possessed" not in lemma.marks and " " not in lemma.word]
    verbs = [lemma for lemma in by_class("verb") if " " not in lemma.word]
    while len(made) < count:
        if rng.random() < 0.6:
            form = noun(rng.choice(nouns), rng.choice(CASES), plural=rng.random() < 0.4, possessor=rng.choice([None, None, *PERSONS]))
        else:
            form = verb(rng.choice(verbs), rng.choice(TENSES), rng.choice(PERSONS), negative=rng.random() < 0.3)
        if len(form.morphs) > 1:
            made.append(form)
    return made


def morpheme_agreement(tokenizer: Tokenizer, forms: list[Form] | None = None) -> Measure:
    """Share of the morpheme ends inside words that are token ends too; chance is what cuts at random places would hit.

    The share of token ends that are morpheme ends stands in the details.
    """
    hits, by_chance, cuts, good = [], [], 0, 0
    for form in word_forms() if forms is None else forms:
        word = str(form)
        encoding = tokenizer.encode(f" {word}", add_special_tokens=False)
        ends = {end - 1 for _, end in encoding.offsets} - {len(word), 0, -1}
        wanted = set(np.cumsum([len(morph) for morph in form.morphs])[:-1].tolist())
        hits += [float(end in ends) for end in sorted(wanted)]
        by_chance += [len(ends) / max(len(word) - 1, 1)] * len(wanted)
        cuts, good = cuts + len(ends), good + len(ends & wanted)
    return share(
        "morphemes", "morpheme ends that are token ends", hits, chance=float(np.mean(by_chance)),
        details={"token ends that are morpheme ends": good / cuts if cuts else 1.0},
    )  # fmt: skip


def token_statistics(tokenizer: Tokenizer, tok_config: dict[str, Any], text: str, train: TokenFile | None) -> dict[str, float]:
    """Characters a token, tokens a word on `text`; tokens of the vocabulary never or rarely used in the training tokens."""
    ids = encode_text(tokenizer, text)
    found = {"characters_per_token": len(text) / max(len(ids), 1), "tokens_per_word": len(ids) / max(len(text.split()), 1)}
    if train is not None:
        counts = np.bincount(train.ids, minlength=tok_config["vocab_size"])
        found |= {"unused_tokens": int((counts == 0).sum()), f"tokens_seen_under_{RARE}_times": int((counts < RARE).sum())}
    return found
