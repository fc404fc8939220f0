"""The language files: what Tatar's holds, and what is said about a bad one."""

from __future__ import annotations

from pathlib import Path

import pytest

from tatar_llm.errors import TatarLLMError
from tatar_llm.languages import language_folder, load_language


def test_tatar() -> None:
    tatar = load_language("tat")
    assert (tatar.code, tatar.english_name, tatar.script, tatar.leipzig) == ("tat", "Tatar", "Cyrillic", "tat")
    assert len(tatar.letters) == len(set(tatar.letters)) == 39
    assert set("әөүҗңһ") <= set(tatar.letters)
    assert set(tatar.keyboard) == set("әөүҗңһ")
    assert len(tatar.prompts) >= 5
    assert tatar.look_alikes["ə"] == "ә" and tatar.look_alikes["h"] == "һ" and tatar.look_alikes["ӊ"] == "ң"
    assert not set(tatar.look_alikes) & set(tatar.look_alikes.values()), "a look-alike of a look-alike"


def test_unknown_code_names_those_there_are() -> None:
    with pytest.raises(TatarLLMError, match=r"did you mean tat\?.*there are tat"):
        load_language("tatt")


def test_own_file_and_its_faults(tmp_path: Path) -> None:
    good = (language_folder() / "tat.toml").read_text(encoding="utf-8")
    own = tmp_path / "үз тел.toml"
    own.write_text(good.replace('code = "tat"', 'code = "xyz"'), encoding="utf-8")
    assert load_language(str(own)).code == "xyz"
    faults = {
        "colour = 1\n" + good: "unknown key 'colour'",
        "promts = []\n" + good: "did you mean prompts?",
        good.replace('leipzig = "tat"', ""): "'leipzig' is missing",
        good.replace('"Cyrillic"', '"Runes"'): "must be one of Cyrillic, Latin",
        good.replace('"ə" = "ә"', '"ə" = "әә"'): "single characters",
        good.replace('"ə" = "ә"', '"ш" = "ә"'): "letters of the alphabet",
        good.replace('name = "татар теле"', "name = 5"): "expected a text",
        good.replace("[look_alikes]", "[look_alikes"): "not valid TOML",
        good[: good.index("prompts")] + 'prompts = ["Казан"]\n' + good[good.index("[look"):]: "at least five",
        good[: good.index("prompts")] + "prompts = 3\n" + good[good.index("[look"):]: "list of texts",
    }
    for number, (text, said) in enumerate(faults.items()):
        bad = tmp_path / f"bad{number}.toml"
        bad.write_text(text, encoding="utf-8")
        with pytest.raises(TatarLLMError) as caught:
            load_language(str(bad))
        assert said in str(caught.value)
    with pytest.raises(TatarLLMError, match="does not exist"):
        load_language(str(tmp_path / "none.toml"))
