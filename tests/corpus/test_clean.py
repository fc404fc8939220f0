"""Each cleaning step by example, and what must hold for every string there is."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tatar_llm.config import CorpusConfig
from tatar_llm.corpus.clean import Cleaner, Tally, is_repetitive
from tatar_llm.corpus.language import cld2
from tatar_llm.corpus.mend import (
    LookAlikes,
    compose,
    remove_addresses,
    remove_controls,
    remove_markup,
    repair_decoding,
    split_long,
    tidy_spaces,
)
from tatar_llm.languages import load_language

TATAR = load_language("tat")
CLEANER = Cleaner(TATAR, CorpusConfig(), cld2())
WITHOUT_CLD2 = Cleaner(TATAR, CorpusConfig(), None)
LOOK_ALIKES = LookAlikes(TATAR)


def test_small_steps() -> None:
    assert remove_controls("ки\u00adтап\tбит\u200b\ufeff\x00ы\ud800") == "китап бит ы"
    assert remove_markup('<p class="x">Иван &amp; <b>Әни</b>ләр</p>&nbsp;5 < 6') == " Иван & Әниләр \xa05 < 6"
    assert remove_markup("<бу тег түгел> &юк; R&D") == "<бу тег түгел> &юк; R&D"
    assert compose("и\u0306") == "й"
    assert tidy_spaces("\u2003бер\xa0\xa0 ике\u3000") == "бер ике"
    assert tidy_spaces("Килде , китте . Ә ... бу 3 : 2 :) кара\u2011каршы") == "Килде, китте. Ә ... бу 3 : 2 :) кара-каршы"
    assert remove_addresses("Кара (https://tt.wikipedia.org/wiki/Казан), яз a.b@mail.ru.") == "Кара , яз ."
    assert remove_addresses("Сайт: https://example.org/а?b=c.") == "Сайт: ."
    assert remove_addresses("бәясе 5@6, в.б.") == "бәясе 5@6, в.б."


@pytest.mark.parametrize("text", ["Сүз “татар” – татарча…", "Әниләр өйдә, №5 йорт", "Җиләк һәм үрдәк: ң, ө!"])
@pytest.mark.parametrize("wrong", ["cp1251", "latin-1", "cp1252"])
def test_wrong_decoding_is_undone(text: str, wrong: str) -> None:
    spoiled = ""
    for byte in text.encode():  # as browsers do it: bytes without a character become control characters
        try:
            spoiled += bytes([byte]).decode(wrong)
        except UnicodeDecodeError:
            spoiled += chr(byte)
    assert repair_decoding(spoiled) == text
    assert repair_decoding(text) == text


def test_pieces_in_a_wrong_encoding() -> None:
    assert repair_decoding("Ул Êàçàí шәһәрендә яши") == "Ул Казан шәһәрендә яши"
    assert repair_decoding("СССР вЂ“ зур ил") == "СССР – зур ил"
    for line in ("РС чыккан, «группа В», ТР һәм БР", "École мәктәбе", "Ул «АБВ» дип язды"):
        assert repair_decoding(line) == line


def test_long_lines_are_cut_at_sentence_ends() -> None:
    line = "Беренче җөмлә бу. Икенчесе озынрак җөмлә! Өченчесе? " * 20
    parts = split_long(line.strip(), 100)
    assert " ".join(parts) == line.strip() and all(len(part) <= 100 and part[-1] in ".!?" for part in parts)
    assert split_long("сүз " * 30, 50)[0] == ("сүз " * 12).strip()
    assert "".join(split_long("а" * 95, 40)) == "а" * 95


def test_repetition() -> None:
    assert is_repetitive("кил кил кил кил кил кил бире")
    assert is_repetitive("алма сатам арзан, алма сатам арзан, алма сатам арзан")
    assert is_repetitive("ха-ха-ха-ха-ха-ха-ха") and is_repetitive("-----------------")
    assert not is_repetitive("Бара-бара арыдык, тора-тора ялыктык, көтә-көтә көтек булдык.")
    assert not is_repetitive("Бәү-бәү, балам, бәү-бәү, / Йокла, балам, бәү-бәү")


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
        ("к0яш, йө3е 3әңгәр, 6у", "кояш, йөзе зәңгәр, бу"),
        ("3нче, 7нче, 6да, 0дән, 3ләп, А3, Ми8", "3нче, 7нче, 6да, 0дән, 3ләп, А3, Ми8"),
        ("Новак Ђоковић җиңде", "Новак Ђоковић җиңде"),  # Serbian letters in a line whose own letters are whole
        ("«ә» хәрефе «ä» дип", "«ә» хәрефе «ä» дип"),
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
        ("— — — 1234567890 !!!", False, "symbols"),
        ("10250; 10973; 12780 (2) бит", True, "symbols"),
        ("10250; 10973; 12780 (2) бит", False, None),
        ("This line is English, дөрес.", False, "other script"),
        ("Әни\ufffd базарга китте инде.", True, "broken characters"),
        ("К?кт? йолдызлар ч?чр?п тора.", True, "broken characters"),
        ("Ничек? Кайчан? Беркем белми.", True, None),
        ('"кадр" n pl nom <Correct!>', True, "machine output"),
        ("^санап/сана<v><tv><prc_perf>$", True, "machine output"),
        ("Баш бит > Яңалыклар > Спорт", True, "machine output"),
        ("Барлык хокуклар якланган. 2021", True, "page furniture"),
        ("Она не может, она сейчас заплачет...", True, "foreign language"),
        ("А сколько стоит?", True, "foreign language"),
        ("Min sine bik yaratam, belän kilmädeñ", True, "foreign language"),
        ("В. Иванов белән С. Петров барды.", True, None),
        ("Урман буйлап барды да кайтты.", True, None),
        ("Ул, На дне, спектакльдә уйный.", True, None),  # a Russian title inside Tatar
        ("кил кил кил кил кил кил инде", True, "repetition"),
    ],
)
@pytest.mark.parametrize("cleaner", [CLEANER, WITHOUT_CLD2], ids=["cld2", "letters and words"])
def test_rules(cleaner: Cleaner, line: str, listed: bool, rule: str | None) -> None:
    found = cleaner.verdict(cleaner.mend(line), listed)
    assert (found.rule if found else None) == rule


def test_tally_counts_and_shows() -> None:
    tally = Tally(lines=3)
    lines = CLEANER.mend_all(["Бүген  урам\u00adда кар ява.", "Әйе.", "Бүген урамда кар ява."], tally)
    assert lines == ["Бүген урамда кар ява.", "Әйе.", "Бүген урамда кар ява."]
    for line, found in zip(lines, CLEANER.judge_all(lines, True, tally), strict=True):
        if found:
            tally.drop(found.rule, line, detail=found.detail)
    tally.merge(Tally(lines=1, documents=1))
    rows = tally.as_dict()
    row = rows["spaces and punctuation"]
    assert (row["in"], row["out"], row["changed"], row["dropped"]) == (4, 4, 1, 0) and "→" in row["examples"][0]
    assert rows["too short"]["dropped"] == 1 and rows["too short"]["examples"] == ["Әйе."]
    assert rows["symbols"]["in"] == 3 and rows["near repeat"]["out"] == 3
    assert "<U+00AD>" in rows["control characters"]["examples"][0]
    assert all(row["seconds"] >= 0 for row in rows.values())


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
    clean = CLEANER.mend(line)
    assert CLEANER.mend(clean) == clean, "cleaning twice is cleaning once"
    assert unicodedata.is_normalized("NFC", clean)
    assert not [char for char in clean if unicodedata.category(char) in ("Cc", "Cf", "Cs", "Co", "Zl", "Zp")]
    assert clean == clean.strip() and "  " not in clean
    clean.encode("utf-8")
    for listed in (True, False):
        CLEANER.verdict(clean, listed)  # no text makes a rule fail


@given(st.text("абвгдеәөүҗңһАӘ ,.-—«»5036", min_size=1))
def test_the_quick_path_agrees_with_the_steps(line: str) -> None:
    slow = line
    for _, step in CLEANER.steps * 3:
        slow = step(slow)
    assert CLEANER.mend(line) == slow
