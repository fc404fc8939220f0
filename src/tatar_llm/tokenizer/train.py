"""Training a byte-level tokenizer that loses nothing: decode(encode(x)) == x for every string.

Byte-level BPE: Radford et al. 2019 (GPT-2); or a unigram model (Kudo 2018, arXiv 1804.10959) over the same bytes. The rule that cuts text into pieces is the regular expression published
with Llama 3, because llama.cpp implements exactly this one; with `ignore_merges` a piece that stands in the vocabulary
is taken whole, as llama.cpp and tiktoken do.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

from tatar_llm.config import TokenizerConfig, as_dict
from tatar_llm.console import say
from tatar_llm.errors import TatarLLMError
from tatar_llm.tokenizer.load import PIECES, load_tokenizer
from tatar_llm.tokenizer.report import write_report
from tatar_llm.workspace import Workspace, fingerprint, sha256_file, whole_folder, write_json

SPECIAL_TOKENS = (
    "<pad>", "<unk>", "<bos>", "<eos>",
    "<|system|>", "<|user|>", "<|assistant|>", "<|end|>",
    *(f"<|spare_{number}|>" for number in range(8)),
)  # fmt: skip
SMALLEST_VOCABULARY = len(SPECIAL_TOKENS) + 256
LARGEST_VOCABULARY = 65535  # ids are stored as uint16


def build_tokenizer(texts: Iterator[str], vocab_size: int, min_frequency: int = 2, type: str = "bpe") -> Tokenizer:
    """Learn a byte-level BPE, or with `type` "unigram" a unigram model over bytes, from an iterator of strings.

    The result may hold fewer tokens than `vocab_size` where the text does not repeat itself enough.
    """
    tokenizer = Tokenizer(models.BPE(ignore_merges=True) if type == "bpe" else models.Unigram())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(PIECES), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    common: dict[str, Any] = {
        "vocab_size": vocab_size,
        "special_tokens": list(SPECIAL_TOKENS),
        "initial_alphabet": pre_tokenizers.ByteLevel.alphabet(),  # every byte, so that nothing is unknown
        "show_progress": False,
    }
    if type == "bpe":
        trainer = trainers.BpeTrainer(min_frequency=min_frequency, **common)
    else:
        trainer = trainers.UnigramTrainer(unk_token=SPECIAL_TOKENS[1], **common)
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def train_tokenizer(config: TokenizerConfig, workspace: Workspace, *, force: bool = False) -> dict[str, Any]:
    """Train on data/processed/train.txt (or `train_file`) and write tokenizer.json, config.json and report.md.

    Returns the tokenizer's config. Does nothing when the text and the settings are those of the tokenizer already
    there. Raises TatarLLMError for a vocabulary out of range, a missing or an unusable text.
    """
    if not SMALLEST_VOCABULARY <= config.vocab_size <= LARGEST_VOCABULARY:
        raise TatarLLMError(
            f"vocab_size {config.vocab_size} is out of range: "
            f"it must lie between {SMALLEST_VOCABULARY} (every byte and the special tokens) and {LARGEST_VOCABULARY}"
        )
    if config.train_file:
        text = Path(config.train_file)
        if not text.is_file():
            raise TatarLLMError(f"--train_file {text} does not exist")
    else:
        text = workspace.need(workspace.train_text, "tatar-llm prepare")
    if text.stat().st_size == 0:
        raise TatarLLMError(f"{text} is empty: there is nothing to learn a tokenizer from")
    folder = Path(config.output_dir) if config.output_dir else workspace.tokenizer
    text_hash = sha256_file(text)
    made_from = {"text": text_hash, "vocab_size": config.vocab_size, "min_frequency": config.min_frequency}
    if config.type != "bpe":  # those that are there were made before there was a choice
        made_from["type"] = config.type
    old = workspace.manifest(folder / "config.json")
    if old and not force and old.get("fingerprint") == fingerprint(made_from) and _unchanged(folder, old):
        say(f"tokenizer: nothing changed, kept {folder / 'tokenizer.json'} ({old['vocab_size']} tokens)")
        return old
    say(f"tokenizer: learning up to {config.vocab_size} tokens from {text}")
    started = time.monotonic()
    tokenizer = build_tokenizer(_lines(text), config.vocab_size, config.min_frequency, config.type)
    found = tokenizer.get_vocab_size()
    if found < config.vocab_size:
        say(
            f"tokenizer: the text repeats itself too little for {config.vocab_size} tokens; it gave {found}, "
            "and that is what is used"
        )
    with whole_folder(folder) as temporary:
        tokenizer.save(str(temporary / "tokenizer.json"))
        facts: dict[str, Any] = {
            "vocab_size": found,
            "model_type": config.type,
            "special_tokens": list(SPECIAL_TOKENS),
            **{f"{name}_token": f"<{name}>" for name in ("pad", "unk", "bos", "eos")},
            **{f"{name}_token_id": number for number, name in enumerate(("pad", "unk", "bos", "eos"))},
            "requested_vocab_size": config.vocab_size,
            "settings": as_dict(config),
            "fingerprint": fingerprint(made_from),
            "train_text_sha256": text_hash,
            "tokenizer_sha256": sha256_file(temporary / "tokenizer.json"),
        }
        write_json(temporary / "config.json", facts)
        write_report(temporary / "report.md", tokenizer, text)
    say(f"tokenizer: {found} tokens in {time.monotonic() - started:.0f} s -> {folder / 'tokenizer.json'}")
    return facts


def _unchanged(folder: Path, facts: dict[str, Any]) -> bool:
    try:
        load_tokenizer(folder)
    except TatarLLMError:
        return False
    return facts.get("tokenizer_sha256") == sha256_file(folder / "tokenizer.json")


def _lines(path: Path) -> Iterator[str]:
    try:
        with open(path, encoding="utf-8", newline="\n") as file:
            yield from file
    except UnicodeDecodeError as error:
        raise TatarLLMError(f"{path} is not UTF-8: convert it, or run `tatar-llm prepare`") from error
