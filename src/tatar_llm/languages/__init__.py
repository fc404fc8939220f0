"""What the project knows about a language, as one TOML file each: letters, look-alikes, corpus codes, prompts."""

from __future__ import annotations

import dataclasses
import functools
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tatar_llm.errors import TatarLLMError, nearest

SCRIPTS = {
    "Cyrillic": "\u0400-\u0482\u048a-\u052f\u1c80-\u1c8a\ua640-\ua66e\ua680-\ua69d",
    "Latin": "A-Za-z\u00aa\u00ba\u00c0-\u00d6\u00d8-\u00f6\u00f8-\u024f\u1e00-\u1eff",
}
"""The letters of a script, as the inside of a regular expression's [...]."""


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
    leipzig: str
    """Code in the names of the Leipzig corpora."""
    prompts: tuple[str, ...]
    """Openings of sentences to continue, five or more."""
    keyboard: str
    """Letters that a common keyboard of the script lacks: the row of buttons in the demo, the marked letters in reports."""
    foreign_words: tuple[str, ...] = ()
    """Frequent words of the neighbour language in the same script, none of which occurs in this one."""


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
    return _checked(table, path)


def _checked(table: dict[str, Any], path: Path) -> Language:
    fields = {field.name: field for field in dataclasses.fields(Language)}
    where = f"the language file {path}"
    for key in table:
        if key not in fields:
            raise TatarLLMError(f"{where}: unknown key {key!r}{nearest(key, fields)}")
    values: dict[str, Any] = {}
    for key, field in fields.items():
        if key not in table:
            if field.default is dataclasses.MISSING:
                raise TatarLLMError(f"{where}: the key {key!r} is missing")
            continue
        value = table[key]
        if key in ("prompts", "foreign_words"):
            if not isinstance(value, list) or not all(isinstance(item, str) and item.strip() for item in value):
                raise TatarLLMError(f"{where}: {key} must be a list of texts")
            value = tuple(value)
        elif key == "look_alikes":
            if not isinstance(value, dict) or not all(
                isinstance(target, str) and len(source) == len(target) == 1 for source, target in value.items()
            ):
                raise TatarLLMError(f"{where}: look_alikes must map single characters to single characters")
        elif not isinstance(value, str) or not value:
            raise TatarLLMError(f"{where}: {key} is {value!r}, expected a text")
        values[key] = value
    if values["script"] not in SCRIPTS:
        raise TatarLLMError(f"{where}: script is {values['script']!r}: it must be one of {', '.join(SCRIPTS)}")
    if len(values["prompts"]) < 5:
        raise TatarLLMError(f"{where}: prompts must hold at least five texts")
    clash = set(values["look_alikes"]) & set(values["letters"] + values["letters"].upper())
    if clash:
        raise TatarLLMError(f"{where}: look_alikes replaces letters of the alphabet: {' '.join(sorted(clash))}")
    return Language(**values)
