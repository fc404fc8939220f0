"""Each cleaning step by example, and what must hold for every string there is."""

from __future__ import annotations

import re
import unicodedata

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tatar_llm.config import CorpusConfig
from tatar_llm.corpus.clean import Cleaner, LookAlikes, Tally, compose, remove_controls, remove_markup, squeeze_spaces
from tatar_llm.corpus.dedup import Repeats
from tatar_llm.languages import load_language

TATAR = load_language("tat")
CLEANER = Cleaner(TATAR, CorpusConfig())
LOOK_ALIKES = LookAlikes(TATAR)


def test_small_steps() -> None:
    assert remove_controls("ки\u00adтап\tбит\u200b\ufeff\x00ы\ud800") == "китап бит ы"
    assert remove_markup('<p class="x">Иван &amp; <b>Әни</b>ләр</p>&nbsp;5 < 6') == " Иван & Әниләр \xa05 < 6"
    assert remove_markup("<бу тег түгел> &юк; R&D") == "<бу тег түгел> &юк; R&D"
    assert compose("и\u0306") == "й"
    assert squeeze_spaces("\u2003бер\xa0\xa0 ике\u3000") == "бер ике"


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("hәм ə шəһəр", "һәм ә шәһәр"),
        ("Əйдə", "Әйдә"),
        ("ceз кaлa Tатар", "сез кала Татар"),
        ("миӊа сиңa өѳй", "миңа сиңа өөй"),
        ("хђзер, мљмкин", "хәзер, мөмкин"),
        ("iPhoneның Windows-ны ok", "iPhoneның Windows-ны ok"),
        ("Latin words about me", "Latin words about me"),
        ("ХIХ гасыр, XIнче, Iнче", "XIX гасыр, XIнче, Iнче"),
        ("ТY", "ТҮ"),
        ("кар-ok", "кар-ok"),  # each side of the hyphen is judged on its own
    ],
)
def test_look_alikes(before: str, after: str) -> None:
    assert LOOK_ALIKES(before) == after


@pytest.mark.parametrize(
    ("line", "listed", "rule"),
    [
        ("Бүген урамда кар ява.", True, None),
        ("Әйе.", True, "too short"),
        ("Әйе.", False, None),
        ("", False, "empty"),
        ("сүз " * 6000 + "сүз", False, "too long"),
        ("— — — 1234567890 !!!", False, "no letters"),
        ("10250; 10973; 12780 (2) бит", True, "symbols"),
        ("10250; 10973; 12780 (2) бит", False, None),
        ("This line is English, дөрес.", False, "script"),
        ("Әни\ufffd базарга китте инде.", True, "broken characters"),
        ("Она не может, она сейчас заплачет...", True, "foreign language"),
        ("А сколько стоит?", True, "foreign language"),
        ("В. Иванов белән С. Петров барды.", True, None),
        ("Урман буйлап барды да кайтты.", True, None),
        ("Ул, На дне, спектакльдә уйный.", True, None),  # a Russian title inside Tatar
    ],
)
def test_rules(line: str, listed: bool, rule: str | None) -> None:
    mended, plain = CLEANER.mend(line)
    assert CLEANER.verdict(mended, listed, plain) == rule


def test_tally_counts_and_shows() -> None:
    tally = Tally()
    tally.lines = 3
    assert CLEANER.clean("Бүген  урамда\u00ad кар ява.", True, tally) == "Бүген урамда кар ява."
    assert CLEANER.clean("Әйе.", True, tally) is None
    assert CLEANER.clean("Бүген урамда кар ява.", True, tally) == "Бүген урамда кар ява."
    rows = tally.as_dict()
    assert rows["spaces"] == {"in": 3, "changed": 1, "dropped": 0, "examples": rows["spaces"]["examples"]}
    assert rows["too short"]["dropped"] == 1 and rows["too short"]["examples"] == ["Әйе."]
    assert rows["too long"]["in"] == 2
    assert "<U+00AD>" in rows["control characters"]["examples"][0]


def test_repeats_do_not_mind_letter_case() -> None:
    repeats = Repeats()
    assert [repeats.seen(text) for text in ("Әни", "әНИ", "Әти", "Әти")] == [False, True, False, True]


ALPHABET = st.sampled_from("абәһөҗ" + "".join(TATAR.look_alikes) + "XIVwzй\u0306\u0301\u0308\u00ad\u200b\xa0 \t.,5&<>;/#brp")
ANY = st.text() | st.text(ALPHABET) | st.text(st.characters(codec=None))


@settings(max_examples=400, deadline=None)
@given(ANY)
@example("&am\u00adp;lt;b>x")
@example("&amp;amp;amp;lt;<<b>b>")
@example("аy\u0306bс")
@example("\ud800\udfff")
@example("&#1234;&#x110000;&#0;")
def test_cleaning_any_string(line: str) -> None:
    clean, plain = CLEANER.mend(line)
    assert CLEANER.mend(clean)[0] == clean, "cleaning twice is cleaning once"
    assert unicodedata.is_normalized("NFC", clean)
    assert not [char for char in clean if unicodedata.category(char) in ("Cc", "Cf", "Cs", "Co", "Zl", "Zp")]
    assert clean == clean.strip() and "  " not in clean
    for word in re.findall(r"[^\W\d_]+", clean):
        if LOOK_ALIKES.own.search(word) and LOOK_ALIKES.mendable.fullmatch(word) and not LOOK_ALIKES.numeral.fullmatch(word):
            assert not LOOK_ALIKES.suspicious.search(word) or re.search(r"[\u0300-\u036f]", clean), word
    clean.encode("utf-8")
    for listed in (True, False):
        kept = CLEANER.clean(line, listed, Tally())
        assert kept is None or CLEANER.clean(kept, listed, Tally()) == kept
        assert CLEANER.verdict(clean, listed, plain) is None or kept is None


@given(st.text("абвгдеәөүҗңһАӘ ,.-—«»5", min_size=1))
def test_the_quick_path_agrees_with_the_steps(line: str) -> None:
    slow = line
    for _, step in CLEANER.steps:
        slow = step(slow)
    assert CLEANER.mend(line)[0] == slow
