"""Training a byte-level tokenizer that loses nothing: decode(encode(x)) == x for every string.

Byte-level BPE: Radford et al. 2019 (GPT-2); or a unigram model (Kudo 2018, arXiv 1804.10959) over the same bytes. The rule
that cuts text into pieces is the regular expression published with Llama 3, because llama.cpp implements exactly this one;
with `ignore_merges` a piece that stands in the vocabulary is taken whole, as llama.cpp and tiktoken do.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

from tatar_llm.config import TokenizerConfig, as_dict
from tatar_llm.console import say
from tatar_llm.errors import TatarLLMError
from tatar_llm.grammar.generate import fingerprint as grammar_fingerprint
from tatar_llm.tokenizer.load import PIECES, load_tokenizer
from tatar_llm.tokenizer.morphemes import BORDER, marked
from tatar_llm.tokenizer.report import write_report
from tatar_llm.waiting import within
from tatar_llm.workspace import Workspace, fingerprint, sha256_file, whole_folder, write_json

SPECIAL_TOKENS = (
    "<pad>", "<unk>", "<bos>", "<eos>",
    "<|system|>", "<|user|>", "<|assistant|>", "<|end|>",
    *(f"<|spare_{number}|>" for number in range(8)),
)  # fmt: skip
SMALLEST_VOCABULARY = len(SPECIAL_TOKENS) + 256
LARGEST_VOCABULARY = 65535  # ids are stored as uint16
UNIGRAM_BYTES = 16 << 20
"""Text that a unigram model learns from at most, lines spread evenly over the whole: its trainer takes minutes for each 10 MiB more."""


def build_tokenizer(
    texts: Iterator[str], vocab_size: int, min_frequency: int = 2, type: str = "bpe", morphemes: bool = False
) -> Tokenizer:
    """Learn a byte-level BPE, or with `type` "unigram" a unigram model over bytes, from an iterator of strings.

    The result may hold fewer tokens than `vocab_size` where the text does not repeat itself enough. With `morphemes` no merge is
    learnt across the end of a morpheme that the Tatar grammar knows; what comes out is a BPE like any other.
    """
    tokenizer = Tokenizer(models.BPE(ignore_merges=True) if type == "bpe" else models.Unigram())
    pieces = pre_tokenizers.Split(Regex(PIECES), behavior="isolated")
    letters = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    learning = [pieces, pre_tokenizers.Split(BORDER, behavior="removed"), letters] if morphemes else [pieces, letters]
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(learning)
    tokenizer.decoder = decoders.ByteLevel()
    common: dict[str, Any] = {
        "vocab_size": vocab_size,
        "special_tokens": list(SPECIAL_TOKENS),
        "initial_alphabet": pre_tokenizers.ByteLevel.alphabet(),  # every byte, so that nothing is unknown
        "show_progress": False,
    }
    if type == "bpe":
        trainer: trainers.Trainer = trainers.BpeTrainer(min_frequency=min_frequency, **common)
    else:
        trainer = trainers.UnigramTrainer(unk_token=SPECIAL_TOKENS[1], **common)
    within(math.inf, lambda: tokenizer.train_from_iterator(marked(texts) if morphemes else texts, trainer))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pieces, letters])
    if type == "unigram":
        _keep_the_likeliest(tokenizer, vocab_size)
    return tokenizer


def _keep_the_likeliest(tokenizer: Tokenizer, vocab_size: int) -> None:
    """Drop the least likely words of a unigram model: asked for the bytes alone, the trainer gives everything it has found."""
    vocabulary = json.loads(tokenizer.to_str())["model"]["vocab"]
    words = [(score, piece) for piece, score in vocabulary[len(SPECIAL_TOKENS) :] if len(piece) > 1]
    dropped = {piece for _, piece in sorted(words)[: max(0, len(vocabulary) - vocab_size)]}
    kept = [(piece, score) for piece, score in vocabulary if piece not in dropped]
    tokenizer.model = models.Unigram(kept, unk_id=1, byte_fallback=False)


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
    share = min(1.0, UNIGRAM_BYTES / text.stat().st_size) if config.type == "unigram" else 1.0
    if share < 1:
        made_from["bytes"] = UNIGRAM_BYTES
    if config.morphemes:
        _need_tatar(workspace)
        made_from["morphemes"] = grammar_fingerprint()
    old = workspace.manifest(folder / "config.json")
    if old and not force and old.get("fingerprint") == fingerprint(made_from) and _unchanged(folder, old):
        say(f"tokenizer: nothing changed, kept {folder / 'tokenizer.json'} ({old['vocab_size']} tokens)")
        return old
    part = f"{share:.0%} of the lines of {text}" if share < 1 else str(text)
    say(f"tokenizer: learning up to {config.vocab_size} tokens from {part}")
    started = time.monotonic()
    tokenizer = build_tokenizer(_lines(text, share), config.vocab_size, config.min_frequency, config.type, config.morphemes)
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


def _need_tatar(workspace: Workspace) -> None:
    language = (workspace.manifest(workspace.corpus_manifest) or {}).get("language", "tat")
    if language != "tat":
        raise TatarLLMError(f"--morphemes: the grammar knows Tatar alone, and this text is {language}: leave --morphemes out")


def _unchanged(folder: Path, facts: dict[str, Any]) -> bool:
    try:
        load_tokenizer(folder)
    except TatarLLMError:
        return False
    return facts.get("tokenizer_sha256") == sha256_file(folder / "tokenizer.json")


def _lines(path: Path, share: float = 1.0) -> Iterator[str]:
    """The lines of a text, or a share of them, evenly spread."""
    try:
        with open(path, encoding="utf-8", newline="\n") as file:
            yield from (line for number, line in enumerate(file) if int((number + 1) * share) > int(number * share))
    except UnicodeDecodeError as error:
        raise TatarLLMError(f"{path} is not UTF-8: convert it, or run `tatar-llm prepare`") from error
