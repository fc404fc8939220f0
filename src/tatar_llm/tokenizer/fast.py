"""Encoding much text by the fastest way that gives the tokenizer's own ids: tiktoken where it is installed and equal.

tiktoken joins any two neighbours whose bytes are a token, the lowest id first; a byte-level BPE only those that its merges
name, in their order. The two agree on every piece of text where the merges make their tokens in the order of the ids, and
every token's own bytes merge to that token: two neighbours that are a token together can then only be the two that
make it. Both are checked. That both libraries cut text into the same pieces, and which is faster here, is found out on the
first text.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Any

from tokenizers import Tokenizer, models

from tatar_llm.tokenizer.load import PIECES, piece_bytes

RACE_CHARACTERS = 500_000
"""Text that both encode first; less than this is not worth a choice."""
THREADS = min(4, os.cpu_count() or 1)  # of tiktoken: lists are made one thread at a time, more threads would mostly wait
Encode = Callable[[list[str]], list[list[int]]]


class Encoder:
    """Ids of many texts at once, without <bos> or <eos>, for a tokenizer that `load_tokenizer` has read."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.tokenizer = tokenizer
        self.rival = tiktoken_way(tokenizer)
        """The other way while it is not known which is faster."""
        self.way: Encode = self._usual

    def __call__(self, texts: list[str]) -> list[list[int]]:
        if self.rival is None or sum(map(len, texts)) < RACE_CHARACTERS:
            return self.way(texts)
        size = count = 0
        while size < RACE_CHARACTERS:
            size, count = size + len(texts[count]), count + 1
        first = self._race(texts[:count], self.rival)
        self.rival = None
        return first + self.way(texts[count:])

    def _race(self, texts: list[str], rival: Encode) -> list[list[int]]:
        began = time.perf_counter()
        found = self._usual(texts)
        usual = time.perf_counter() - began
        began = time.perf_counter()
        same = rival(texts) == found
        if same and time.perf_counter() - began < usual:
            self.way = rival
        return found

    def _usual(self, texts: list[str]) -> list[list[int]]:
        return [one.ids for one in self.tokenizer.encode_batch_fast(texts, add_special_tokens=False)]


def tiktoken_way(tokenizer: Tokenizer) -> Encode | None:
    """The same tokenizer in tiktoken; None where that is not installed or would give other ids."""
    try:
        import tiktoken
    except ImportError:
        return None
    model = json.loads(tokenizer.to_str())["model"]
    special = tokenizer.get_added_tokens_decoder().keys()
    ranks = {piece: number for piece, number in tokenizer.get_vocab().items() if number not in special}
    if not ranks_are_merges(model, ranks):
        return None
    encoding = tiktoken.Encoding(
        "tatar-llm", pat_str=PIECES, mergeable_ranks={piece_bytes(piece): number for piece, number in ranks.items()}, special_tokens={}
    )
    pool = ThreadPoolExecutor(THREADS)

    def encode(texts: list[str]) -> list[list[int]]:
        share = -(-len(texts) // THREADS) or 1
        parts = [texts[start : start + share] for start in range(0, len(texts), share)]
        done = pool.map(lambda part: [encoding.encode_ordinary(text) for text in part], parts)
        return [ids for part in done for ids in part]

    return encode


def ranks_are_merges(model: dict[str, Any], ranks: dict[str, int]) -> bool:
    """Whether joining any neighbours that are a token together, the lowest id first, is the same as obeying the merges.

    Args:
        model: "model" of a tokenizer.json.
        ranks: piece -> id, special tokens left out.
    """
    if model["type"] != "BPE" or model.get("dropout") or model.get("byte_fallback"):
        return False
    merges = [tuple(merge) for merge in model["merges"]]
    made = [ranks.get("".join(merge), -1) for merge in merges]
    letters = [piece for piece in ranks if len(piece) == 1]
    if any(first >= second for first, second in pairwise(made)) or -1 in made or len(letters) + len(made) != len(ranks):
        return False
    plain = Tokenizer(models.BPE(vocab=ranks, merges=merges))
    return all(len(found.ids) == 1 for found in plain.encode_batch_fast(list(ranks), add_special_tokens=False))
