"""The language files: what they hold, that they fit together, and what is said about a bad one."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import pytest

from tatar_llm.errors import TatarLLMError
from tatar_llm.languages import Language, language_codes, language_folder, load_language

FACTS = {
    # code: letters, keyboard row, CLD2, FineWeb-2, Wikipedia
    "tat": (39, "әөүҗңһ", "tt", "tat_Cyrl", "20231101.tt"),
    "bak": (42, "әөүғҡңҙҫһ", "ba", "bak_Cyrl", "20231101.ba"),
    "chv": (37, "ӑӗҫӳ", "", "chv_Cyrl", "20231101.cv"),
    "sah": (38, "ҕҥөһү", "", "sah_Cyrl", "20231101.sah"),
    "kaz": (42, "әіңғүұқөһ", "kk", "kaz_Cyrl", "20231101.kk"),
    "udm": (38, "ӝӟӥӧӵ", "", "udm_Cyrl", "20231101.udm"),
    "mhr": (36, "ҥӧӱ", "", "mhr_Cyrl", "20231101.mhr"),
}
RUSSIAN = set("абвгдеёжзийклмнопрстуфхцчшщъыьэюя")


@pytest.fixture(params=language_codes())
def language(request: pytest.FixtureRequest) -> Language:
    return load_language(request.param)


def test_languages_that_there_are() -> None:
    assert set(language_codes()) == set(FACTS)


def test_facts(language: Language) -> None:
    count, keyboard, cld2, fineweb2, wikipedia = FACTS[language.code]
    assert len(language.letters) == len(set(language.letters)) == count
    assert language.letters == language.letters.lower()
    assert set(language.letters) == RUSSIAN | set(language.keyboard), "the Russian alphabet and the language's own letters"
    assert set(language.keyboard) == set(keyboard)
    assert (language.script, language.leipzig) == ("Cyrillic", language.code)
    assert (language.cld2, language.fineweb2, language.wikipedia) == (cld2, fineweb2, wikipedia)


def test_look_alikes(language: Language) -> None:
    letters = set(language.letters + language.letters.upper())
    targets = set(language.look_alikes.values())
    # Cyrillic І is no Tatar letter, but the twin of I: words of other languages in old texts
    assert targets - letters <= (set("іІ") if language.code == "tat" else set())
    assert not set(language.look_alikes) & targets, "a look-alike of a look-alike"
    for source, target in language.look_alikes.items():
        assert unicodedata.is_normalized("NFC", source) and source.isalnum()
        assert source.isdigit() or source.isupper() == target.isupper(), (source, target)
    assert language.look_alikes["a"] == "а" and language.look_alikes["o"] == "о"


@pytest.mark.parametrize(
    ("code", "written", "meant"),
    [
        ("tat", "hәм ə Ѳч хђзер", "һәм ә Өч хәзер"),
        ("bak", "hөйләй məктəп çөмбөл", "һөйләй мәктәп ҫөмбөл"),
        ("chv", "чăваш çĕр ÿкер", "чӑваш ҫӗр ӳкер"),
        ("sah", "кэпсээнңэ оғо кihи ѳрүс".replace("i", "и"), "кэпсээнҥэ оҕо киһи өрүс"),
        ("kaz", "Ќазаќстан бiр жјне їйдіѕ Hұр", "Қазақстан бір және үйдің Нұр"),
        ("udm", "öвöл", "ӧвӧл"),
        ("mhr", "тÿнö тÿҥалеш вÿд".replace("ö", "ӧ"), "тӱнӧ тӱҥалеш вӱд"),
    ],
)
def test_look_alikes_by_example(code: str, written: str, meant: str) -> None:
    assert written.translate(str.maketrans(load_language(code).look_alikes)) == meant


def test_prompts(language: Language) -> None:
    assert len(language.prompts) >= 6
    for prompt in language.prompts:
        assert prompt[0].isupper() and prompt == prompt.strip()
        assert {char for char in prompt.lower() if char.isalpha()} <= set(language.letters), prompt


def test_own_words(language: Language) -> None:
    assert len(set(language.words)) == len(language.words) >= 20
    assert set("".join(language.words)) <= set(language.letters)
    assert len(language.boilerplate) > 1


def test_neighbours(language: Language) -> None:
    assert len({other.name for other in language.neighbours}) == len(language.neighbours) > 3
    assert language.english_name not in {other.name for other in language.neighbours}
    russian = next(other for other in language.neighbours if other.name == "Russian")
    assert russian.cld2 == "ru" and len(russian.words) > 100 and not russian.letters
    taken: dict[str, str] = {}
    for other in language.neighbours:
        assert len(set(other.words)) == len(other.words) > 10
        assert not set(other.words) & set(language.words), "a word of the language itself"
        assert not set(other.letters) & set(language.letters + language.letters.upper())
        if other.script == language.script:
            assert not set(other.letters) & set(language.look_alikes), "mended away before anybody asks for the language"
        for word in other.words:
            assert taken.setdefault(word, other.name) == other.name, f"{word} tells nobody apart"


def test_words_of_languages_with_each_other() -> None:
    """What one file calls its language's own words, another file must not call words of a third language."""
    own = {load_language(code).english_name: set(load_language(code).words) for code in language_codes()}
    own["Mari"] = own["Meadow Mari"]
    for code in language_codes():
        for other in load_language(code).neighbours:
            for name, words in own.items():
                if name != other.name and {name, other.name} != {"Meadow Mari", "Mari"}:
                    # был: "this" in Bashkir, "was" in Russian
                    assert words & set(other.words) <= {"был"}, (code, other.name, name)


def test_tatar() -> None:
    tatar = load_language("tat")
    assert (tatar.code, tatar.name, tatar.english_name) == ("tat", "татар теле", "Tatar")
    assert set(tatar.frequencies) == set(tatar.letters)
    assert sum(tatar.frequencies.values()) == pytest.approx(100, abs=0.2)
    assert tatar.frequencies["а"] > tatar.frequencies["ә"] > tatar.frequencies["ө"] > tatar.frequencies["щ"]
    neighbours = {other.name: other for other in tatar.neighbours}
    assert {"Russian", "Bashkir", "Kazakh", "Kyrgyz", "Chuvash", "Ukrainian", "Sakha"} <= set(neighbours)
    assert set(neighbours["Bashkir"].letters) == set("ҙҫҡғ") and neighbours["Bashkir"].cld2 == "ba"
    latin = neighbours["Latin-script Tatar"]
    assert latin.script == "Latin" and {"belän", "belen", "tügel"} <= set(latin.words)
    assert not {"min", "sin", "bu", "da", "hem", "inde"} & set(latin.words), "words of English, Turkish, Swedish ..."
    # Endings after a quotation mark are the only Tatar use of these two; words that Tatars write are no evidence
    russian = set(neighbours["Russian"].words)
    assert {"не", "на", "что", "была"} <= russian
    assert not {"без", "он", "я", "да", "и", "о", "мы", "их", "так", "или", "нам", "ты", "та", "с", "вот", "ну"} & russian


def test_unknown_code_names_those_there_are() -> None:
    with pytest.raises(TatarLLMError, match=r"did you mean tat\?.*there are bak, chv, kaz, mhr, sah, tat, udm"):
        load_language("tatt")


SMALL = """
code = "xyz"
name = "тел"
english_name = "Xyz"
script = "Cyrillic"
letters = "аәб"
keyboard = "ә"
prompts = ["а", "б", "аб", "ба", "аба"]
[look_alikes]
"ə" = "ә"
"""
FREQUENCIES = '[frequencies]\n"а" = 60\n"ә" = 30.5\n"б" = 9.5\n'
NEIGHBOUR = '[neighbours.Bashkir]\nwords = ["менән"]\nletters = "ҙҫ"\n'


def write(folder: Path, text: str) -> str:
    path = folder / f"тел{len(list(folder.iterdir()))}.toml"
    path.write_text(text, encoding="utf-8")
    return str(path)


def test_own_file(tmp_path: Path) -> None:
    least = load_language(write(tmp_path, SMALL))
    assert (least.code, least.leipzig, least.cld2, least.neighbours, least.frequencies) == ("xyz", "", "", (), {})
    more = load_language(write(tmp_path, 'words = ["аб"]\nleipzig = ""\n' + SMALL + FREQUENCIES + NEIGHBOUR))
    assert more.words == ("аб",) and more.frequencies == {"а": 60.0, "ә": 30.5, "б": 9.5}
    (bashkir,) = more.neighbours
    assert (bashkir.name, bashkir.words, bashkir.letters) == ("Bashkir", ("менән",), "ҙҫ")
    assert (bashkir.script, bashkir.cld2) == ("Cyrillic", ""), "the language's own script where it does not say"
    (latin,) = load_language(write(tmp_path, SMALL + NEIGHBOUR.replace("ҙҫ", "äö") + 'script = "Latin"\n')).neighbours
    assert (latin.script, latin.letters) == ("Latin", "äö")
    with pytest.raises(TatarLLMError, match="does not exist"):
        load_language(str(tmp_path / "none.toml"))
    shipped = (language_folder() / "tat.toml").read_text(encoding="utf-8")
    assert load_language(write(tmp_path, shipped)) == load_language("tat")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("colour = 1\n" + SMALL, "unknown key 'colour'"),
        ("promts = []\n" + SMALL, "unknown key 'promts' (did you mean prompts?)"),
        (SMALL.replace('keyboard = "ә"', ""), "the key 'keyboard' is missing"),
        ('name = "x"', "the keys 'code', 'english_name', 'script', 'letters', 'look_alikes', 'prompts', 'keyboard' are missing"),
        (SMALL.replace("[look_alikes]", "[look_alikes"), "not valid TOML"),
        (SMALL.replace('"тел"', "5"), "name is 5, expected a text"),
        (SMALL.replace('"тел"', '""'), "name is '', expected a text"),
        ("leipzig = false\n" + SMALL, "leipzig is False, expected a text"),
        (SMALL.replace('"Cyrillic"', '"Runes"'), "script is 'Runes': it must be one of Cyrillic, Latin"),
        (SMALL.replace('"аба"]', "7]"), "prompts must be a list of texts"),
        (SMALL.replace(', "аба"]', "]"), "prompts must hold at least five texts"),
        ('boilerplate = "all rights"\n' + SMALL, "boilerplate must be a list of texts"),
        ('words = ["Аб"]\n' + SMALL, "words holds 'Аб', expected single words in small letters"),
        (SMALL.replace('"ə" = "ә"', '"ə" = "әә"'), "single characters"),
        (SMALL.replace('"ə" = "ә"', '"б" = "ә"'), "look_alikes replaces letters of the alphabet: б"),
        ("frequencies = 3\n" + SMALL, "frequencies is 3, expected letters and their shares in per cent"),
        (SMALL + FREQUENCIES.replace("60", '"many"'), "frequencies: а is 'many', expected per cent: a number from 0 to 100"),
        (SMALL + FREQUENCIES.replace("60", "true"), "frequencies: а is True, expected per cent"),
        (SMALL + FREQUENCIES.replace("60", "nan"), "frequencies: а is nan, expected per cent"),
        (SMALL + FREQUENCIES.replace("60", "0.6"), "frequencies adds up to 40.6, expected the shares of all letters"),
        (SMALL + FREQUENCIES.replace('"б"', '"ж"'), "frequencies holds what is not in the alphabet: ж"),
        ('neighbours = ["Russian"]\n' + SMALL, "neighbours is ['Russian'], expected a table each: [neighbours.Russian]"),
        (SMALL + '[neighbours]\nRussian = "ru"\n', "expected a table each: [neighbours.Russian]"),
        (SMALL + NEIGHBOUR + 'word = "не"\n', "neighbours.Bashkir: unknown key 'word' (did you mean words?)"),
        (SMALL + NEIGHBOUR + 'name = "Bashkir"\n', "neighbours.Bashkir: unknown key 'name'"),
        (SMALL + '[neighbours.Bashkir]\ncld2 = "ba"\n', "neighbours.Bashkir: give words or letters that tell it apart"),
        (SMALL + NEIGHBOUR.replace('["менән"]', '"менән"'), "neighbours.Bashkir: words must be a list of texts"),
        (SMALL + NEIGHBOUR.replace("менән", "менән һәм"), "neighbours.Bashkir: words holds 'менән һәм', expected single words"),
        (SMALL + NEIGHBOUR + 'endings = ["Ского"]\n', "neighbours.Bashkir: endings holds 'Ского', expected single words"),
        ('numeral_endings = "нче"\n' + SMALL, "numeral_endings must be a list of texts"),
        (SMALL + NEIGHBOUR.replace('"ҙҫ"', "1"), "neighbours.Bashkir: letters is 1, expected a text"),
        (SMALL + NEIGHBOUR.replace("ҙҫ", "Ҙ"), "neighbours.Bashkir: letters is 'Ҙ', expected small letters"),
        (SMALL + NEIGHBOUR.replace("ҙҫ", "ҙ, ҫ"), "neighbours.Bashkir: letters is 'ҙ, ҫ', expected small letters"),
        (SMALL + NEIGHBOUR.replace("ҙҫ", "ҙәаҫ"), "neighbours.Bashkir: letters holds letters of the alphabet: а ә"),
        (SMALL + NEIGHBOUR + 'script = "Runes"\n', "neighbours.Bashkir: script is 'Runes': it must be one of"),
        (SMALL + NEIGHBOUR + "cld2 = 7\n", "neighbours.Bashkir: cld2 is 7, expected a text"),
    ],
)
def test_faults(tmp_path: Path, text: str, said: str) -> None:
    path = write(tmp_path, text)
    with pytest.raises(TatarLLMError) as caught:
        load_language(path)
    assert str(caught.value).startswith(f"the language file {path}") and said in str(caught.value)
