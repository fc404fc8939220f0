"""Finishing the word: the likeliest whole words for a text that may end inside one.

The word's beginning is taken back to where its piece of text starts, and a beam search over tokens keeps only what begins
as typed. So it does not matter how the tokenizer cuts what has been typed so far: "кита" and "китап" may share no token.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from tokenizers import Tokenizer
from torch import Tensor

from tatar_llm.errors import TatarLLMError
from tatar_llm.model import GPT, KVCache, Step
from tatar_llm.tokenizer import encode_text
from tatar_llm.tokenizer.load import piece_bytes, token_bytes

WIDTH = 8
"""Beginnings of words that are followed at a time."""
ROUNDS = 10
"""Most tokens of a word."""
CONTEXT = 96
"""Tokens before the word that are read at most, so that a key press costs the same late in a text as early."""
LONGEST_TEXT = 4_000
"""Characters that are encoded at most; half of them go at a time."""
LETTER = "а"


@dataclass(frozen=True)
class Suggestion:
    """A whole word, as it would stand in the text."""

    word: str
    probability: float
    """That this word, whole, is the next one, given the text and the letters typed."""


@dataclass(frozen=True)
class _Beginning:
    """Tokens that begin a word."""

    logp: float
    tokens: tuple[int, ...]
    text: bytes
    missing: bytes
    """What was typed and no token has covered yet."""


class Suggester:
    """Suggests words, and remembers what it has read: the next key press costs only what is new.

    Raises:
        TatarLLMError: the tokenizer does not belong to the model.
    """

    def __init__(self, model: GPT, tokenizer: Tokenizer, tok_config: dict[str, Any], *, width: int = WIDTH, pass_one: Step | None = None) -> None:
        size = tokenizer.get_vocab_size()
        if size > model.config.vocab_size:
            raise TatarLLMError("this tokenizer does not belong to this model: its ids go beyond the model's vocabulary")
        self.model, self.tokenizer, self.bos = model.eval(), tokenizer, tok_config["bos_token_id"]
        self.width, self.block = width, model.config.block_size
        self.pass_one = pass_one or Step(model)
        self.most = min(CONTEXT, max(1, self.block - ROUNDS))
        self.rounds = min(ROUNDS, self.block - self.most)
        self.cache = KVCache(model.config, width, self.block, model.device, model.embedding.weight.dtype, whole=True)
        self.read: list[int] = []
        self.next = np.zeros(0)  # log-probabilities after what was read
        special = tokenizer.get_added_tokens_decoder().keys()
        self.bytes = [b"" if token in special else token_bytes(tokenizer, token) for token in range(size)]
        self.inside_ids = np.flatnonzero([_letters(text) for text in self.bytes])
        self.fitting: dict[bytes, tuple[np.ndarray, np.ndarray]] = {}
        ends = [_ends_word(text) for text in self.bytes]
        ends[tok_config["eos_token_id"]] = True
        self.end_ids = torch.tensor(np.flatnonzero(ends))
        order = sorted((text, token) for token, text in enumerate(self.bytes) if text)
        self.sorted, self.sorted_ids = [text for text, _ in order], np.array([token for _, token in order])
        self.token_of = {text: token for text, token in order}

    @torch.inference_mode()
    def suggest(self, text: str, n: int = 3) -> list[Suggestion]:
        """The `n` likeliest words, best first; fewer, or none, where nothing begins as typed.

        A text that ends with a letter ends inside a word: the suggestions begin with it, and may be it. After anything
        else they are the next word's.
        """
        if n < 1:
            return []
        before, typed = self._split(text)
        start = max(0, -(-(len(before) - LONGEST_TEXT) // (LONGEST_TEXT // 2))) * (LONGEST_TEXT // 2)
        self._read([self.bos, *encode_text(self.tokenizer, before[start:])])
        total = -math.inf  # log-probability that the text goes on as typed
        found: dict[str, float] = {}
        rows: list[_Beginning] = []
        beginnings, covered = self._grow(_Beginning(0.0, (), b"", typed), self.next)
        for _ in range(self.rounds):
            total = np.logaddexp(total, covered)
            rows = self._keep(beginnings, rows, found, n)
            if not rows:
                break
            logp = self._forward(rows)
            ends = logp[:, self.end_ids].logsumexp(dim=1).tolist()
            after = logp.numpy()
            beginnings, covered = [], -math.inf
            for row, beginning in enumerate(rows):
                if not beginning.missing and (word := _word(beginning.text)):
                    found[word] = np.logaddexp(found.get(word, -math.inf), beginning.logp + ends[row])
                grown, more = self._grow(beginning, after[row])
                beginnings += grown
                covered = np.logaddexp(covered, more)
        best = sorted(found.items(), key=lambda item: -item[1])[:n]
        return [Suggestion(word, min(1.0, math.exp(logp - total))) for word, logp in best]

    def _split(self, text: str) -> tuple[str, bytes]:
        """The text before the word, and what of the word (with the space or sign that its token begins with) is there."""
        text = text.encode("utf-8", "replace").decode("utf-8")
        tail = text[-400:]  # no word is longer
        inside = tail[-1:].isalpha()
        pieces = self.tokenizer.pre_tokenizer.pre_tokenize_str(tail if inside else tail + LETTER)
        typed = piece_bytes(pieces[-1][0])
        if not inside:
            typed = typed[: -len(LETTER.encode())]
        whole = text.encode()
        return whole[: len(whole) - len(typed)].decode("utf-8"), typed

    def _read(self, ids: list[int]) -> None:
        """Bring the cache to `ids`, keeping the beginning that it shares with what was read before."""
        if len(ids) > self.most:  # let whole halves go, so that the beginning stays the same for many key presses
            half = max(1, self.most // 2)
            ids = ids[-(-(len(ids) - self.most) // half) * half :]
        shared = 0
        while shared < min(len(ids), len(self.read)) and ids[shared] == self.read[shared]:
            shared += 1
        self.cache.position = len(self.read)  # what was tried of words goes
        if shared == len(ids) == len(self.read):
            return
        shared = min(shared, len(ids) - 1)  # the last one again: its answer is wanted
        one = self.cache.rows(0, 1)
        one.position = shared
        last = torch.tensor([len(ids) - shared - 1], device=self.model.device)
        logits, _ = self.model(torch.tensor([ids[shared:]], device=self.model.device), cache=one, at=last)
        self.next = logits[0].float().log_softmax(dim=-1).cpu().numpy()
        for store in (*self.cache.keys, *self.cache.values):
            store[1:, :, shared : len(ids)] = store[:1, :, shared : len(ids)]
        self.read, self.cache.position = ids, len(ids)

    def _grow(self, beginning: _Beginning, logp: np.ndarray) -> tuple[list[_Beginning], float]:
        """A beginning with each likely next token; and the log-probability of all that goes on as typed from here.

        The second counts tokens that no word can hold too, and only those that cover the rest of what was typed.
        """
        missing = beginning.missing
        if missing or not beginning.tokens:
            covering, ids = self._fitting(missing)
            covered = _logsumexp(logp[covering]) + beginning.logp if missing else 0.0
        else:
            ids, covered = self.inside_ids, -math.inf
        if len(ids) > self.width:
            ids = ids[np.argpartition(-logp[ids], self.width)[: self.width]]
        return [
            _Beginning(beginning.logp + float(logp[token]), (*beginning.tokens, int(token)),
                       beginning.text + self.bytes[token], missing[len(self.bytes[token]) :])
            for token in ids
        ], covered  # fmt: skip

    def _fitting(self, missing: bytes) -> tuple[np.ndarray, np.ndarray]:
        """Ids of all tokens that cover what is missing; and of those among them, or shorter ones, that a word may hold."""
        if missing not in self.fitting:
            if len(self.fitting) > 10_000:
                self.fitting.clear()
            low, high = bisect_left(self.sorted, missing), bisect_left(self.sorted, _after(missing)) if missing else len(self.sorted)
            covering = self.sorted_ids[low:high]
            words = [token for token in covering if self.bytes[token] == missing or _letters(self.bytes[token][len(missing) :])]
            words += [self.token_of[missing[:end]] for end in range(1, len(missing)) if missing[:end] in self.token_of]
            self.fitting[missing] = covering, np.array(words, dtype=np.int64)
        return self.fitting[missing]

    def _keep(self, beginnings: list[_Beginning], parents: list[_Beginning], found: dict[str, float], n: int) -> list[_Beginning]:
        """The likeliest beginnings that can still beat the n-th word found; their parents' keys and values beside them."""
        worst = sorted(found.values(), reverse=True)[n - 1] if len(found) >= n else -math.inf
        kept = sorted((one for one in beginnings if one.logp > worst), key=lambda one: -one.logp)[: self.width]
        start, end = len(self.read), self.cache.position
        if parents and kept and end > start:
            place = {parent.tokens: row for row, parent in enumerate(parents)}
            rows = torch.tensor([place[one.tokens[:-1]] for one in kept])
            for store in (*self.cache.keys, *self.cache.values):
                store[: len(kept), :, start:end] = store[rows, :, start:end]
        return kept

    def _forward(self, rows: list[_Beginning]) -> Tensor:
        """Log-probabilities of the token after each beginning, (rows, V)."""
        cache = self.cache.rows(0, len(rows))
        logits = self.pass_one(torch.tensor([one.tokens[-1] for one in rows], device=self.model.device), cache)
        self.cache.position = cache.position
        return logits.float().log_softmax(dim=-1).cpu()


def suggest(model: GPT, tokenizer: Tokenizer, tok_config: dict[str, Any], text: str, n: int = 3) -> list[Suggestion]:
    """The `n` likeliest whole words for a text that may end inside a word; see `Suggester` for many texts."""
    return Suggester(model, tokenizer, tok_config).suggest(text, n)


def _letters(text: bytes) -> bool:
    """Whether these bytes are whole letters and nothing else."""
    try:
        return text.decode("utf-8").isalpha()
    except UnicodeDecodeError:
        return False


def _ends_word(text: bytes) -> bool:
    """Whether a token of these bytes ends the word before it: it begins with something that is no letter."""
    for size in range(1, 5):
        try:
            return bool(text) and not text[:size].decode("utf-8").isalpha()
        except UnicodeDecodeError:
            continue
    return False


def _word(text: bytes) -> str:
    """The word without the space or sign that its first token begins with; empty where these bytes are none."""
    try:
        word = text.decode("utf-8")
    except UnicodeDecodeError:
        return ""
    word = word if word[:1].isalpha() else word[1:]
    return word if word.isalpha() else ""


def _after(prefix: bytes) -> bytes:
    """The least string greater than all that begin with `prefix`; a byte of 255 does not occur in UTF-8."""
    return prefix[:-1] + bytes([prefix[-1] + 1]) if prefix else prefix


def _logsumexp(values: np.ndarray) -> float:
    if not len(values):
        return -math.inf
    top = float(values.max())
    return top + math.log(float(np.exp(values - top).sum()))
