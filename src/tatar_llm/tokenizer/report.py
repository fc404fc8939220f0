"""What a person wants to know about a tokenizer: how long its tokens are, and which ones it never uses."""

from __future__ import annotations

import itertools
from collections import Counter
from pathlib import Path

from tokenizers import Tokenizer

from tatar_llm.workspace import write_text

SAMPLE_CHARACTERS = 2_000_000


def write_report(path: Path, tokenizer: Tokenizer, text: Path) -> None:
    """Write report.md: figures over the first two million characters of `text`, and how some lines are cut."""
    lines: list[str] = []
    size = 0
    with open(text, encoding="utf-8", newline="\n") as file:
        for line in file:
            lines.append(line.rstrip("\n"))
            size += len(line)
            if size > SAMPLE_CHARACTERS:
                break
    lines = [line for line in lines if line]
    encoded = tokenizer.encode_batch_fast(lines, add_special_tokens=False)
    used = Counter(itertools.chain.from_iterable(piece.ids for piece in encoded))
    tokens = sum(used.values())
    words = sum(len(line.split()) for line in lines)
    characters = sum(map(len, lines))
    vocabulary = tokenizer.get_vocab_size()
    kind = "Unigram over bytes" if type(tokenizer.model).__name__ == "Unigram" else "Byte-level BPE"
    longest = sorted((tokenizer.decode([token]) for token in used), key=len, reverse=True)[:10]
    examples = "\n".join(
        f"- {line[:120]}\n  `{' | '.join(tokenizer.decode([token]) for token in tokenizer.encode(line[:120]).ids)}`"
        for line in lines[:3]
    )
    write_text(
        path,
        f"""# Tokenizer

{kind}, {vocabulary} tokens; every string survives encoding and decoding unchanged.
Counted over the first {characters:,} characters of {text.name}.

| | |
|---|---:|
| characters per token | {characters / max(tokens, 1):.2f} |
| tokens per word | {tokens / max(words, 1):.2f} |
| tokens never used there | {vocabulary - len(used)} |
| tokens used fewer than 10 times | {sum(count < 10 for count in used.values())} |

Longest tokens: {", ".join(f"`{token}`" for token in longest)}

How lines are cut:

{examples}
""",
    )
