"""Texts on which an export is compared with the model."""

from __future__ import annotations

import random

CHECK_LINES = (
    "Исәнмесез! Бүген һава бик матур.",
    "Казан – Татарстанның башкаласы, ә Идел – аның зур елгасы.",
    "Кичә без әби белән бергә чәк-чәк пешердек.",
    "«Кая барасың?» – дип сорады ул миннән.",
    "Җәй көне балалар күлдә су коена, ә кышын чаңгыда шуа.",
    "1552 елда, 3,5 сәгатьтән соң, 100 % дөрес!",
    "Үрдәкләр үләндә үрмәли;\tңңң  ике буш ара.",
    "Бер юл.\nИкенче юл.\n\nӨченче абзац.\r\n",
    "Typed <eos> and <|user|> stay text, <bos> too.",
    " башында буш ара",
    "😀🏽‍🚀 e\u0301 ﷽ 漢字 \u0000",
    "",
)


def random_texts(count: int) -> list[str]:
    """Strings of characters from all of Unicode, Tatar letters and special tokens among them; always the same ones."""
    source = random.Random(0)
    pieces = ("<eos>", "<pad>", "<|end|>", " ", "  ", "\n", "\r\n", "\t", "'s", "12345", "\u0301", "\u200d", "ә", "Җң", "!?")
    texts = []
    for _ in range(count):
        parts = []
        for _ in range(source.randint(1, 30)):
            number = source.choice((source.randrange(0x80), source.randrange(0x400, 0x530), source.randrange(0x110000)))
            parts.append(chr(number) if not 0xD800 <= number < 0xE000 and source.random() < 0.7 else source.choice(pieces))
        texts.append("".join(parts))
    return texts
