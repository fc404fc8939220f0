"""Token files: the corpus as one flat array of uint16 ids, every document as <bos> ids <eos>."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import Tokenizer

from tatar_llm.console import progress, say
from tatar_llm.errors import TatarLLMError
from tatar_llm.tokenizer.baselines import ngram_baselines
from tatar_llm.tokenizer.fast import Encoder
from tatar_llm.tokenizer.load import load_tokenizer
from tatar_llm.workspace import Workspace, fingerprint, read_json, sha256_file, whole_file, write_json

BATCH_BYTES = 4 << 20  # text encoded at a time: bounds memory, long enough for all threads


@dataclass(frozen=True)
class TokenFile:
    """A token file, opened as a read-only memory map."""

    ids: np.ndarray
    """Flat uint16 ids."""
    document_tokens: np.ndarray
    """Tokens of each document, <bos> and <eos> included."""
    document_bytes: np.ndarray
    """UTF-8 bytes of each document's text, its line end included."""
    facts: dict[str, Any]
    """What stands beside it in the .json file: hashes of tokenizer and text, counts."""

    @property
    def bytes(self) -> int:
        """UTF-8 bytes of the text behind all ids."""
        return int(self.document_bytes.sum())


def read_tokens(path: str | Path) -> TokenFile:
    """Open `path` (NAME.bin with NAME.json beside it); raises TatarLLMError where the two do not belong together."""
    path = Path(path)
    try:
        facts = read_json(path.with_suffix(".json"))
        tokens = np.array(facts.pop("document_tokens"), dtype=np.int64)
        sizes = np.array(facts.pop("document_bytes"), dtype=np.int64)
        ids = np.memmap(path, dtype=np.uint16, mode="r")
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise TatarLLMError(f"{path} cannot be read: run `tatar-llm tokenizer` again") from error
    if len(ids) != tokens.sum() or len(tokens) != len(sizes):
        raise TatarLLMError(f"{path} is torn (its length differs from its .json): run `tatar-llm tokenizer` again")
    return TokenFile(ids, tokens, sizes, facts)


def encode_corpus(workspace: Workspace, *, force: bool = False) -> dict[str, Any]:
    """Encode train.txt and val.txt into data/tokens/, with n-gram baselines beside them; skipped when up to date.

    Returns the manifest: tokens and bytes of each part, tokenizer hash, baselines in bits per byte.
    """
    corpus = workspace.manifest(workspace.need(workspace.corpus_manifest, "tatar-llm prepare"))
    if corpus is None:
        raise TatarLLMError(f"{workspace.corpus_manifest} is damaged: run `tatar-llm prepare` again")
    tokenizer, config = load_tokenizer(workspace.tokenizer)
    texts = {"train": workspace.train_text, "val": workspace.val_text}
    inputs = {name: sha256_file(workspace.need(path, "tatar-llm prepare")) for name, path in texts.items()}
    made_from = {
        **inputs,
        "tokenizer": sha256_file(workspace.tokenizer / "tokenizer.json"),
        "document": corpus["document"],
    }
    old = workspace.manifest(workspace.tokens_manifest)
    if old and not force and old["fingerprint"] == fingerprint(made_from) and _unchanged(workspace, old):
        say(f"tokens: nothing changed, kept {old['train']['tokens']:,} training tokens")
        return old
    started = time.monotonic()
    facts: dict[str, Any] = {
        "stage": "tokens",
        "fingerprint": fingerprint(made_from),
        "tokenizer_sha256": made_from["tokenizer"],
        "vocab_size": config["vocab_size"],
    }
    for name, text in texts.items():
        facts[name] = _encode_file(
            text, workspace.tokens / f"{name}.bin", tokenizer, config, corpus["document"], made_from["tokenizer"],
            inputs[name],
        )  # fmt: skip
    train, val = (read_tokens(workspace.tokens / f"{name}.bin") for name in texts)
    facts["baselines"] = ngram_baselines(train.ids, val.ids, val.bytes, config["vocab_size"], config["bos_token_id"])
    facts["seconds"] = round(time.monotonic() - started, 1)
    write_json(workspace.tokens_manifest, facts)
    say(
        f"tokens: {facts['train']['tokens']:,} for training, {facts['val']['tokens']:,} for validation, "
        f"{facts['train']['characters'] / facts['train']['tokens']:.2f} characters each; "
        f"bigram baseline {facts['baselines']['bigram']:.3f} bits per byte"
    )
    return facts


def _unchanged(workspace: Workspace, facts: dict[str, Any]) -> bool:
    for name in ("train", "val"):
        path = workspace.tokens / f"{name}.bin"
        if not path.is_file() or sha256_file(path) != facts[name]["sha256"]:
            return False
        if not path.with_suffix(".json").is_file():
            return False
    return True


def documents(path: Path, kind: str) -> Iterator[str]:
    """The documents of a processed text file: its lines, or what stands between blank lines (`kind` "blank")."""
    try:
        with open(path, encoding="utf-8", newline="\n") as file:
            if kind == "line":
                yield from (line.rstrip("\n") for line in file if line != "\n")
                return
            block: list[str] = []
            for line in file:
                if line != "\n":
                    block.append(line.rstrip("\n"))
                elif block:
                    yield "\n".join(block)
                    block = []
            if block:
                yield "\n".join(block)
    except UnicodeDecodeError as error:
        raise TatarLLMError(f"{path} is not UTF-8: convert it, or run `tatar-llm prepare`") from error


def _encode_file(
    text: Path, target: Path, tokenizer: Tokenizer, config: dict, kind: str, tokenizer_hash: str, text_hash: str
) -> dict[str, Any]:
    token_counts: list[int] = []
    byte_counts: list[int] = []
    characters = 0
    encoder = Encoder(tokenizer)
    with whole_file(target) as temporary, progress(f"encoding {text.name}", text.stat().st_size, "bytes") as advance:
        with open(temporary, "wb") as out:
            for batch in _batches(documents(text, kind)):
                for document, ids in zip(batch, _encode_batch(encoder, batch, config), strict=True):
                    out.write(ids.tobytes())
                    token_counts.append(len(ids))
                    byte_counts.append(len(document.encode()) + 1)
                    characters += len(document) + 1
                advance(sum(byte_counts))
        sha256 = sha256_file(temporary)
    facts = {
        "tokens": sum(token_counts),
        "documents": len(token_counts),
        "bytes": sum(byte_counts),
        "characters": characters,
        "sha256": sha256,
        "tokenizer_sha256": tokenizer_hash,
        "text_sha256": text_hash,
    }
    lists = {"document_tokens": token_counts, "document_bytes": byte_counts}
    write_json(target.with_suffix(".json"), facts | lists)
    return facts


LONG_DOCUMENT = 1 << 16


def encode_texts(tokenizer: Tokenizer, config: dict[str, Any], texts: list[str]) -> TokenFile:
    """A token file in memory: each text a document, a line end counted to it."""
    encoder = Encoder(tokenizer)
    rows = [ids for batch in _batches(iter(texts)) for ids in _encode_batch(encoder, batch, config)]
    sizes = np.array([len(text.encode()) + 1 for text in texts])
    return TokenFile(np.concatenate(rows), np.array([len(row) for row in rows]), sizes, {})


def _encode_batch(encoder: Encoder, batch: list[str], config: dict[str, Any]) -> list[np.ndarray]:
    """Each document as <bos> ids <eos>, uint16, on all cores; a book is cut at line ends first, so that it does not keep
    one core busy alone.

    A cut before a letter at a line's start leaves the ids as they are: no piece of the pre-tokenizer reaches across.
    """
    parts = [cut(document) for document in batch]
    flat = iter(encoder([part for document in parts for part in document]))
    bos, eos = config["bos_token_id"], config["eos_token_id"]
    return [np.array([bos, *(token for _ in document for token in next(flat)), eos], dtype=np.uint16) for document in parts]


def cut(document: str) -> list[str]:
    """A long document in parts of about LONG_DOCUMENT characters, each but the first beginning with a letter after a line end."""
    if len(document) <= LONG_DOCUMENT:
        return [document]
    parts, start = [], 0
    while len(document) - start > LONG_DOCUMENT:
        end = start + LONG_DOCUMENT
        while True:
            end = document.find("\n", end) + 1
            if not end or document[end : end + 1].isalpha():
                break
        if not end:
            break
        parts.append(document[start:end])
        start = end
    return [*parts, document[start:]]


def _batches(texts: Iterator[str]) -> Iterator[list[str]]:
    batch: list[str] = []
    size = 0
    for text in texts:
        batch.append(text)
        size += len(text) * 2
        if size >= BATCH_BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch
