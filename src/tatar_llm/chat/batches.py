"""Windows of conversations for the trainer: whole conversations side by side, only answers scored, plain text mixed in."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from tatar_llm.training.batches import Batches
from tatar_llm.training.validation import HeldOut

UNSCORED = -100
OPEN = 64
"""Windows that are being filled at a time."""


@dataclass(frozen=True)
class Encoded:
    """A conversation's ids and which of them are answers."""

    ids: list[int]
    learnt: list[bool]


class ChatBatches:
    """Endless batches, a pure function of seed and place: each epoch asks for its conversations anew, shuffles and packs them.

    Args:
        conversations: epoch -> conversations, none longer than block_size + 1.
        block_size: tokens of a window.
        seed: of the order.
        pad: id behind the last conversation of a window, never scored.
        plain: windows of ordinary text, scored whole, so that what was learnt before is not forgotten.
        plain_share: of all windows, evenly spread.
    """

    def __init__(
        self, conversations: Callable[[int], Sequence[Encoded]], block_size: int, seed: int, pad: int,
        plain: Batches | None = None, plain_share: float = 0.0,
    ) -> None:  # fmt: skip
        self.conversations, self.block_size, self.seed, self.pad = conversations, block_size, seed, pad
        self.plain, self.plain_share = plain, plain_share if plain else 0.0
        self.epoch = self.position = self.given = 0
        self._lay_out()

    def state(self) -> dict[str, int]:
        """Where the next batch starts."""
        plain = {f"plain_{name}": value for name, value in (self.plain.state() if self.plain else {}).items()}
        return {"epoch": self.epoch, "position": self.position, "given": self.given, **plain}

    def restore(self, state: dict[str, int]) -> None:
        """Continue from a state."""
        if self.plain:
            self.plain.restore({name.removeprefix("plain_"): value for name, value in state.items() if name.startswith("plain_")})
        laid_out = self.epoch
        self.epoch, self.position, self.given = state["epoch"], state["position"], state["given"]
        if self.epoch != laid_out:
            self._lay_out()

    def next(self, count: int) -> tuple[Tensor, Tensor]:
        """The next `count` windows: inputs and targets (-100 where nothing is scored), int64 (count, block_size) each."""
        inputs, targets = [], []
        for _ in range(count):
            if self.plain and int((self.given + 1) * self.plain_share) > int(self.given * self.plain_share):
                text, following = self.plain.next(1)
                inputs.append(text[0])
                targets.append(following[0])
            else:
                window = self._next_window()
                inputs.append(window[0])
                targets.append(window[1])
            self.given += 1
        return torch.stack(inputs), torch.stack(targets)

    def windows_an_epoch(self) -> int:
        """Windows of conversations in the present epoch."""
        return len(self.windows)

    def _next_window(self) -> tuple[Tensor, Tensor]:
        if self.position == len(self.windows):
            self.epoch, self.position = self.epoch + 1, 0
            self._lay_out()
        chosen = self.windows[self.position]
        self.position += 1
        return as_window([self.encoded[number] for number in chosen], self.block_size, self.pad)

    def _lay_out(self) -> None:
        self.encoded = list(self.conversations(self.epoch))
        order = np.random.Generator(np.random.PCG64([self.seed, self.epoch])).permutation(len(self.encoded))
        self.windows = pack([len(one.ids) for one in self.encoded], order.tolist(), self.block_size + 1)


def pack(lengths: Sequence[int], order: Sequence[int], room: int) -> list[list[int]]:
    """Numbers of conversations for each window: in `order`, each into the fullest open window that still has room for it."""
    full: list[list[int]] = []
    opened: list[tuple[int, list[int]]] = []
    for number in order:
        fitting = [place for place, (left, _) in enumerate(opened) if left >= lengths[number]]
        if fitting:
            place = min(fitting, key=lambda place: opened[place][0])
            left, window = opened[place]
            opened[place] = left - lengths[number], [*window, number]
        else:
            opened.append((room - lengths[number], [number]))
        if len(opened) > OPEN:
            place = min(range(len(opened)), key=lambda place: opened[place][0])
            full.append(opened.pop(place)[1])
    return full + [window for _, window in opened]


def as_window(conversations: Sequence[Encoded], block_size: int, pad: int) -> tuple[Tensor, Tensor]:
    """Conversations one after the other: inputs and targets, int64 (block_size,) each."""
    ids = [token for one in conversations for token in one.ids]
    learnt = [value for one in conversations for value in one.learnt]
    stream = torch.full((block_size + 1,), pad, dtype=torch.int64)
    stream[: len(ids)] = torch.tensor(ids)
    targets = torch.full((block_size + 1,), UNSCORED, dtype=torch.int64)
    scored = torch.tensor(learnt)
    targets[: len(ids)][scored] = stream[: len(ids)][scored]
    return stream[:-1].clone(), targets[1:].clone()


def held_out_answers(conversations: Sequence[Encoded], answer_bytes: int, block_size: int, pad: int) -> HeldOut:
    """Conversations kept back, each in a window of its own, as the trainer scores them."""
    windows = [as_window([one], block_size, pad) for one in conversations]
    inputs, targets = (torch.stack(part) for part in zip(*windows, strict=True))
    return HeldOut(inputs, targets, answer_bytes, int((targets >= 0).sum()), 1.0)
