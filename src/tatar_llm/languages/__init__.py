"""What the project knows about a language, as one TOML file each: letters, look-alikes, neighbours, corpora, prompts."""

from __future__ import annotations

import dataclasses
import functools
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tatar_llm.errors import TatarLLMError, nearest

SCRIPTS = {
    "Cyrillic": "\u0400-\u0482\u048a-\u052f\u1c80-\u1c8a\ua640-\ua66e\ua680-\ua69d",
    "Latin": "A-Za-z\u00aa\u00ba\u00c0-\u00d6\u00d8-\u00f6\u00f8-\u024f\u1e00-\u1eff",
}
"""The letters of a script, as the inside of a regular expression's [...]."""


LANGUAGE_FILE = "language.toml"
"""Name under which a language file of the user's own goes along with what was made by it."""


@dataclass(frozen=True)
class Neighbour:
    """A language whose lines turn up in corpora of another one, and what gives them away. Words, letters, or both."""

    name: str
    """Its English name, the name of its table: Russian for [neighbours.Russian]."""
    words: tuple[str, ...] = ()
    """Frequent words of it, in small letters, that never occur in the language itself."""
    letters: str = ""
    """Small letters that it has and the language itself lacks."""
    endings: tuple[str, ...] = ()
    """Ends of its longer words that hardly a word of the language has: -ского. Weaker evidence than words."""
    script: str = ""
    """Cyrillic or Latin. A file that does not say means the script of the language itself."""
    cld2: str = ""
    """The code that CLD2 gives it: ru. Empty where CLD2 does not know it."""


@dataclass(frozen=True)
class Language:
    """A language as its TOML file describes it."""

    code: str
    """ISO 639-3 code: tat."""
    name: str
    """The language's name for itself."""
    english_name: str
    """Its English name."""
    script: str
    """Cyrillic or Latin."""
    letters: str
    """The alphabet in small letters."""
    look_alikes: dict[str, str]
    """Characters that people and programs write for a letter -> that letter. Applied inside words of the script."""
    prompts: tuple[str, ...]
    """Openings of sentences to continue, five or more."""
    keyboard: str
    """Letters that a common keyboard of the script lacks: the row of buttons in the demo, the marked letters in reports."""
    neighbours: tuple[Neighbour, ...] = ()
    """Other languages that its corpora hold, one table each: [neighbours.Russian]."""
    words: tuple[str, ...] = ()
    """Frequent words of the language, in small letters, that none of the neighbours uses."""
    boilerplate: tuple[str, ...] = ()
    """Phrases of web pages' furniture (all rights reserved), in any case."""
    numeral_endings: tuple[str, ...] = ()
    """What follows a digit without a space, as in 3нче: a digit before anything else may stand for a letter, as in 3ур."""
    frequencies: dict[str, float] = field(default_factory=dict)
    """Letter -> its expected share of all letters in running text, in per cent; all of them or none."""
    leipzig: str = ""
    """Code in the names of the Leipzig corpora: tat. Empty where there are none."""
    fineweb2: str = ""
    """Config of HuggingFaceFW/fineweb-2: tat_Cyrl. Empty where there is none."""
    wikipedia: str = ""
    """Config of wikimedia/wikipedia: 20231101.tt. Empty where there is none."""
    cld2: str = ""
    """The code that CLD2 gives the language: tt. Empty where CLD2 does not know it."""


def language_folder() -> Path:
    """Where the TOML files of the languages lie."""
    return Path(__file__).parent


def language_codes() -> list[str]:
    """Codes that `--language` knows."""
    return sorted(path.stem for path in language_folder().glob("*.toml"))


@functools.cache
def load_language(code: str) -> Language:
    """Read a language by code (``tat``) or from a TOML file (anything that ends in ``.toml``).

    Raises TatarLLMError for an unknown code (naming those there are), a file that is missing or not TOML, and for an
    unknown, missing or mistyped key.
    """
    code = str(code)
    own = code.endswith(".toml")
    path = Path(code).expanduser() if own else language_folder() / f"{code}.toml"
    if not path.is_file():
        if own:
            raise TatarLLMError(f"the language file {path} does not exist")
        known = language_codes()
        raise TatarLLMError(
            f"no language {code!r}{nearest(code, known)}: there are {', '.join(known)}; or give a TOML file of your own"
        )
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise TatarLLMError(f"the language file {path} is not valid TOML: {error}") from error
    return _checked(table, f"the language file {path}: ")


def find_language(code: str, *folders: Path) -> Language:
    """The language that an earlier stage recorded by its code: a language.toml in one of the folders, else one of ours.

    Raises TatarLLMError where neither is there.
    """
    for folder in folders:
        path = folder / LANGUAGE_FILE
        if path.is_file() and (found := load_language(str(path))).code == code:
            return found
    return load_language(code)


def _checked(table: dict[str, Any], where: str) -> Language:
    values = _known(table, dataclasses.fields(Language), where)
    checks = {"prompts": _texts, "boilerplate": _texts, "words": _words, "numeral_endings": _words, "look_alikes": _look_alikes,
              "frequencies": _frequencies}  # fmt: skip
    for key, value in values.items():
        if key != "neighbours":
            empty = key in ("leipzig", "fineweb2", "wikipedia", "cld2")
            values[key] = checks[key](value, where, key) if key in checks else _text(value, where, key, empty)
    letters, script = values["letters"], _script(values["script"], where, "script")
    if len(values["prompts"]) < 5:
        raise TatarLLMError(f"{where}prompts must hold at least five texts")
    clash = set(values["look_alikes"]) & set(letters + letters.upper())
    if clash:
        raise TatarLLMError(f"{where}look_alikes replaces letters of the alphabet: {' '.join(sorted(clash))}")
    strange = set(values.get("frequencies", {})) - set(letters)
    if strange:
        raise TatarLLMError(f"{where}frequencies holds what is not in the alphabet: {' '.join(sorted(strange))}")
    tables = values.pop("neighbours", {})
    if not isinstance(tables, dict) or not all(isinstance(one, dict) for one in tables.values()):
        raise TatarLLMError(f"{where}neighbours is {tables!r}, expected a table each: [neighbours.Russian]")
    neighbours = [_neighbour(name, one, where, letters, script) for name, one in tables.items()]
    return Language(neighbours=tuple(neighbours), **values)


def _neighbour(name: str, table: dict[str, Any], where: str, own_letters: str, own_script: str) -> Neighbour:
    where = f"{where}neighbours.{name}: "
    keys = [key for key in dataclasses.fields(Neighbour) if key.name != "name"]
    values = {"script": own_script} | _known(table, keys, where)
    if not values.get("words") and not values.get("letters"):
        raise TatarLLMError(f"{where}give words or letters that tell it apart")
    for key in ("words", "endings"):
        values[key] = _words(values.get(key, []), where, key)
    for key in ("letters", "cld2"):
        values[key] = _text(values.get(key, ""), where, key, empty=True)
    _script(values["script"], where, "script")
    letters = values["letters"]
    if letters and (not letters.isalpha() or letters != letters.lower()):
        raise TatarLLMError(f"{where}letters is {letters!r}, expected small letters and nothing between them")
    shared = set(letters) & set(own_letters)
    if shared:
        raise TatarLLMError(f"{where}letters holds letters of the alphabet: {' '.join(sorted(shared))}")
    return Neighbour(name=name, **values)


def _known(table: dict[str, Any], keys: tuple | list, where: str) -> dict[str, Any]:
    """A copy of the table, with no key but these and with each of them that has no default."""
    names = [key.name for key in keys]
    for key in table:
        if key not in names:
            raise TatarLLMError(f"{where}unknown key {key!r}{nearest(key, names)}")
    needed = [key.name for key in keys if key.default is key.default_factory is dataclasses.MISSING]
    if missing := [repr(name) for name in needed if name not in table]:
        raise TatarLLMError(f"{where}the {'keys' if missing[1:] else 'key'} {', '.join(missing)} {'are' if missing[1:] else 'is'} missing")
    return dict(table)


def _text(value: Any, where: str, key: str, empty: bool = False) -> str:
    if not isinstance(value, str) or not (value or empty):
        raise TatarLLMError(f"{where}{key} is {value!r}, expected a text")
    return value


def _script(value: Any, where: str, key: str) -> str:
    if value not in SCRIPTS:
        raise TatarLLMError(f"{where}{key} is {value!r}: it must be one of {', '.join(SCRIPTS)}")
    return value


def _texts(value: Any, where: str, key: str) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(item, str) and item.strip() for item in value):
        raise TatarLLMError(f"{where}{key} must be a list of texts")
    return tuple(value)


def _words(value: Any, where: str, key: str) -> tuple[str, ...]:
    for word in _texts(value, where, key):
        if not word.isalpha() or word != word.lower():
            raise TatarLLMError(f"{where}{key} holds {word!r}, expected single words in small letters")
    return tuple(value)


def _look_alikes(value: Any, where: str, key: str) -> dict[str, str]:
    if not isinstance(value, dict) or not all(
        isinstance(target, str) and len(source) == len(target) == 1 for source, target in value.items()
    ):
        raise TatarLLMError(f"{where}{key} must map single characters to single characters")
    return value


def _frequencies(value: Any, where: str, key: str) -> dict[str, float]:
    if not isinstance(value, dict):
        raise TatarLLMError(f"{where}{key} is {value!r}, expected letters and their shares in per cent")
    for letter, share in value.items():
        if isinstance(share, bool) or not isinstance(share, int | float) or not 0 <= share <= 100:
            raise TatarLLMError(f"{where}{key}: {letter} is {share!r}, expected per cent: a number from 0 to 100")
    total = sum(value.values())
    if value and abs(total - 100) > 1:
        raise TatarLLMError(f"{where}{key} adds up to {total:g}, expected the shares of all letters: 100 per cent")
    return {letter: float(share) for letter, share in value.items()}
