"""Loading a tokenizer, and turning what a user types into ids and ids into whole characters."""

from __future__ import annotations

import codecs
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from tatar_llm.errors import TatarLLMError
from tatar_llm.workspace import read_json

# How a byte-level vocabulary writes bytes as letters (GPT-2): printable Latin-1 as itself, the others from U+0100 on.
PRINTABLE = (*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100))
OTHERS = sorted(set(range(256)) - set(PRINTABLE))
BYTES = {chr(byte): byte for byte in PRINTABLE} | {chr(256 + place): byte for place, byte in enumerate(OTHERS)}

NEEDED = ("bos_token_id", "eos_token_id", "vocab_size")
PIECES = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
"""How text is cut before merging: the expression published with Llama 3."""


def load_tokenizer(path: str | Path = "tokenizer") -> tuple[Tokenizer, dict[str, Any]]:
    """Load the tokenizer in folder `path` and its config (special tokens and their ids).

    Text such as ``<eos>`` inside a string is encoded as ordinary characters.

    Raises:
        TatarLLMError: the folder holds no tokenizer, or a damaged one.
    """
    folder = Path(path)
    file = folder / "tokenizer.json"
    if not file.is_file():
        raise TatarLLMError(f"no tokenizer in {folder}: run `tatar-llm tokenizer` first")
    try:
        tokenizer = Tokenizer.from_file(str(file))
    except Exception as error:  # the library raises plain Exception for whatever it cannot parse
        raise TatarLLMError(f"{file} is not a readable tokenizer: run `tatar-llm tokenizer` again") from error
    _check_rules(file)
    tokenizer.encode_special_tokens = True
    try:
        config = read_json(folder / "config.json")
        if (folder / "tokenizer_config.json").is_file():
            config = _hf_config(tokenizer, read_json(folder / "tokenizer_config.json"))
        missing = [key for key in NEEDED if key not in config]
    except (OSError, ValueError, TypeError) as error:
        raise TatarLLMError(f"{folder / 'config.json'} cannot be read: run `tatar-llm tokenizer` again") from error
    if missing:
        raise TatarLLMError(f"{folder / 'config.json'} lacks {', '.join(missing)}: run `tatar-llm tokenizer` again")
    if config["vocab_size"] != tokenizer.get_vocab_size():
        raise TatarLLMError(f"{folder}: tokenizer.json and config.json do not belong together")
    if strange := [key for key in NEEDED[:2] if not (type(config[key]) is int and 0 <= config[key] < config["vocab_size"])]:
        raise TatarLLMError(f"{folder / 'config.json'}: {strange[0]} is no id of this tokenizer")
    return tokenizer, config


def _check_rules(file: Path) -> None:
    """Refuse rules other than ours: everything here relies on them, and another's expression may take for ever on a text."""
    told = read_json(file)
    parts = (told.get("pre_tokenizer") or {}).get("pretokenizers") or [{}]
    expressions = [part.get("pattern") for part in parts if part.get("type") == "Split"]
    kinds = [part.get("type") for part in parts]
    usual = not told.get("normalizer") and kinds == ["Split", "ByteLevel"] and expressions == [{"Regex": PIECES}]
    if not usual or not _model_is_ours(told["model"]):
        raise TatarLLMError(f"{file} cuts text by other rules than this program's tokenizers: run `tatar-llm tokenizer`")


def _model_is_ours(model: dict[str, Any]) -> bool:
    """BPE that takes whole pieces first, or a unigram model in which every byte has a token."""
    if model.get("type") == "Unigram":
        return model.get("unk_id") == 1 and not model.get("byte_fallback") and {piece for piece, _ in model["vocab"]} >= BYTES.keys()
    return bool(model.get("ignore_merges"))


def _hf_config(tokenizer: Tokenizer, told: dict[str, Any]) -> dict[str, Any]:
    """The config of a tokenizer that lies in a Hugging Face folder."""
    config: dict[str, Any] = {"vocab_size": tokenizer.get_vocab_size(), "model_type": type(tokenizer.model).__name__.lower()}
    for name in ("pad", "unk", "bos", "eos"):
        token = told.get(f"{name}_token")
        number = tokenizer.token_to_id(token) if isinstance(token, str) else None
        if number is not None:
            config |= {f"{name}_token": token, f"{name}_token_id": number}
    return config


def encode_text(tokenizer: Tokenizer, text: str) -> list[int]:
    """Ids of `text` alone, without <bos> or <eos>. Lone surrogates, which UTF-8 cannot hold, become a question mark."""
    return tokenizer.encode(text.encode("utf-8", "replace").decode("utf-8"), add_special_tokens=False).ids


def decode_stream(tokenizer: Tokenizer) -> Callable[[int | None], str]:
    """A function that takes one id at a time and returns the text that is complete by then; None returns the rest.

    A letter's bytes may be spread over several tokens; they are held back until the letter is whole, so that a
    half character never reaches the screen.
    """
    special = tokenizer.get_added_tokens_decoder().keys()
    decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def step(token: int | None) -> str:
        if token is None:
            return decoder.decode(b"", final=True)
        return decoder.decode(b"" if token in special else token_bytes(tokenizer, token))

    return step


def token_bytes(tokenizer: Tokenizer, token: int) -> bytes:
    """The bytes behind an id; none for an id that the vocabulary does not have."""
    return piece_bytes(tokenizer.id_to_token(token) or "")


def piece_bytes(piece: str) -> bytes:
    """The bytes that a byte-level vocabulary, or its pre-tokenizer, writes as these letters."""
    return bytes(BYTES[letter] for letter in piece)
