"""Exact and near repeats: the hashes, the bands, and what is dropped."""

from __future__ import annotations

import random

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tatar_llm.corpus import dedup

LINE = "Казан шәһәрендә бүген иртүк яңа китапханә ачылды, анда балалар өчен дә, олылар өчен дә урын бар."


def found(texts: list[str], threshold: float = 0.8) -> list[tuple[int, int]]:
    keys = dedup.band_keys(texts, threshold)
    alive = np.ones(len(texts), bool)
    pairs = dedup.near_repeats([lambda b=b: keys[:, b] for b in range(keys.shape[1])], texts.__getitem__, alive, threshold)
    assert sorted(place for place, _ in pairs) == np.flatnonzero(~alive).tolist()
    return sorted(pairs)


def test_exact_keys_mind_letters_and_digits_only() -> None:
    keys = dedup.exact_keys(["Әни, кил!", "әни кил", "ӘНИ — КИЛ.", "Әни килде", "5 әни"])
    assert keys[0] == keys[1] == keys[2] and len(set(keys.tolist())) == 3
    assert dedup.later_repeats(keys, np.ones(5, bool)).tolist() == [1, 2]
    assert dedup.later_repeats(keys, np.array([False, True, True, True, True])).tolist() == [2]
    assert dedup.later_repeats(np.zeros(0, np.uint64), np.zeros(0, bool)).tolist() == []


def test_near_repeats_keep_the_first() -> None:
    other = "Авылда кичә кич белән бөтенләй башка вакыйга булды: күрше Гали абый үз атын югалтты да тапты."
    texts = [LINE, other, LINE.replace("иртүк", "иртән"), LINE + " Шулай.", other.replace("кичә", "кече")]
    assert found(texts) == [(2, 0), (3, 0), (4, 1)]
    assert found(texts, 0.99) == [] and found([]) == [] and found([LINE]) == []


def test_what_the_bands_promise() -> None:
    for threshold in (0.5, 0.7, 0.8, 0.9, 0.99):
        bands, rows = dedup.band_shape(threshold)
        assert bands * rows <= dedup.PERMUTATIONS and 1 - (1 - threshold**rows) ** bands >= dedup.SURE
    assert dedup.band_shape(0.8) == (10, 6)


def test_most_pairs_at_the_threshold_are_found() -> None:
    draw = random.Random(1)
    letters = "абвгдеәөүҗңһ"
    texts, pairs = [], 0
    for _ in range(300):
        base = "".join(draw.choices(letters, k=200))
        place = draw.randrange(180)
        near = base[:place] + "".join(draw.choices(letters, k=12)) + base[place + 12 :]
        if dedup.similarity(base, near) >= 0.8:
            pairs += 1
            texts += [base, near]
    assert pairs > 100 and len(found(texts)) > 0.9 * pairs


@given(st.lists(st.text(st.characters(codec="utf-8"), min_size=dedup.SHINGLE, max_size=40), min_size=1, max_size=6))
def test_a_signature_depends_on_its_text_alone(texts: list[str]) -> None:
    texts = [text for text in texts if len(text.casefold()) >= dedup.SHINGLE]
    if texts:
        together = dedup.band_keys(texts, 0.8)
        alone = np.concatenate([dedup.band_keys([text], 0.8) for text in texts])
        assert (together == alone).all()


def test_long_documents_are_compared_by_hashes() -> None:
    draw = random.Random(2)
    long = " ".join("".join(draw.choices("абвгдеәөйклмнрст", k=6)) for _ in range(4000))
    changed = long[:1000] + "үзгәргән урын" + long[1000:]
    assert dedup.similarity(long, changed) > 0.99 > 0.1 > dedup.similarity(long, long[::-1])
