"""How right the cleaning rules are: precision and recall of keep, exactness of the corrections, on lines labelled by hand.

    python benchmarks/cleaning.py PATH/tat_dirty_2024_100K.tar.gz [--part open|blind|all] [--show]

The labels of 300 random lines of the archive lie in cleaning/labels.jsonl as line number and label; their texts do not.
cleaning/near_misses.jsonl holds lines written to be judged wrongly. How both were labelled: cleaning/GUIDE.md.
Intervals are Wilson's, 95 %.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from tatar_llm.config import CorpusConfig
from tatar_llm.corpus.clean import Cleaner
from tatar_llm.corpus.language import cld2
from tatar_llm.corpus.readers import read_documents
from tatar_llm.languages import load_language

FOLDER = Path(__file__).parent / "cleaning"


@dataclass
class Example:
    """A labelled line."""

    text: str
    keep: bool
    corrected: str
    why: str


def labelled(archive: Path, part: str) -> list[Example]:
    """The labelled lines of the archive."""
    rows = [json.loads(row) for row in (FOLDER / "labels.jsonl").read_text(encoding="utf-8").splitlines()]
    wanted = {row["line"]: row for row in rows if part in ("all", row["part"])}
    found = []
    for number, lines in enumerate(read_documents(archive), 1):
        if number in wanted:
            row = wanted[number]
            text = lines[0]
            found.append(Example(text, row["label"] == "keep", edited(text, row.get("edits", [])), row.get("why", "")))
    if len(found) != len(wanted):
        sys.exit(f"{archive} has {len(found)} of the {len(wanted)} labelled lines: it is another archive")
    return found


def edited(text: str, edits: list[tuple[int, int, str]]) -> str:
    """The corrected form: edits at offsets in characters, then single spaces."""
    for offset, length, right in sorted(edits, reverse=True):
        text = text[:offset] + right + text[offset + length :]
    return " ".join(text.split())


def near_misses() -> list[Example]:
    """The lines written to be hard."""
    rows = [json.loads(row) for row in (FOLDER / "near_misses.jsonl").read_text(encoding="utf-8").splitlines()]
    return [Example(row["text"], row["label"] == "keep", " ".join(row.get("corrected", row["text"]).split()),
                    row.get("why", "") + (f" ({row['kind']})")) for row in rows]  # fmt: skip


def interval(hits: int, of: int) -> str:
    """A share with its Wilson interval."""
    if not of:
        return "–"
    z, share = 1.96, hits / of
    centre = (share + z * z / (2 * of)) / (1 + z * z / of)
    half = z * math.sqrt(share * (1 - share) / of + z * z / (4 * of * of)) / (1 + z * z / of)
    return f"{share:.3f} ({max(0, centre - half):.3f}–{min(1, centre + half):.3f}), {hits}/{of}"


def agreement(part: str) -> str:
    """Cohen's kappa of the two labellings, keep against drop."""
    rows = [json.loads(row) for row in (FOLDER / "labels.jsonl").read_text(encoding="utf-8").splitlines()]
    pairs = [(row["first"]["label"], row["second"]["label"]) for row in rows if part in ("all", row["part"])]
    same = sum(a == b for a, b in pairs) / len(pairs)
    chance = sum(sum(a == label for a, _ in pairs) * sum(b == label for _, b in pairs) for label in ("keep", "drop")) / len(pairs) ** 2
    return f"{100 * same:.1f} % equal, kappa {(same - chance) / (1 - chance):.2f}"


def judge(name: str, examples: list[Example], cleaner: Cleaner, show: bool) -> None:
    """Print a row of the table and, with `show`, every line that was judged wrongly."""
    outcome = [(one, cleaner.mend(one.text)) for one in examples]
    verdicts = [cleaner.verdict(mended, True) for _, mended in outcome]
    kept = [(one, mended) for (one, mended), verdict in zip(outcome, verdicts, strict=True) if verdict is None]
    right = [(one, mended) for one, mended in kept if one.keep]
    exact = sum(mended == one.corrected for one, mended in right)
    needed = [(one, mended) for one, mended in right if one.corrected != " ".join(one.text.split())]
    print(f"| {name} | {len(examples)} | {interval(len(right), len(kept))} | "
          f"{interval(len(right), sum(one.keep for one in examples))} | {interval(exact, len(right))} | "
          f"{interval(sum(mended == one.corrected for one, mended in needed), len(needed))} |", flush=True)  # fmt: skip
    if not show:
        return
    for (one, mended), verdict in zip(outcome, verdicts, strict=True):
        if one.keep != (verdict is None):
            print(f"    {f'kept, but {one.why}' if verdict is None else f'dropped as {verdict}'}: {mended[:150]}")
        elif one.keep and mended != one.corrected:
            print(f"    corrected wrongly: {one.text[:120]!r}\n        got  {mended[:150]!r}\n        want {one.corrected[:150]!r}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("archive", type=Path)
    parser.add_argument("--part", choices=("open", "blind", "all"), default="open")
    parser.add_argument("--show", action="store_true", help="print every line that was judged wrongly")
    args = parser.parse_args()
    print(f"the two labellings of {args.part}: {agreement(args.part)}")
    print("| lines | n | precision of keep | recall of keep | corrections exact | of these, lines that needed one |\n|---|---:|---|---|---|---|")
    sets = ((f"archive, {args.part}", labelled(args.archive, args.part)), ("near misses", near_misses()))
    for how, detector in (("", cld2()), (", without CLD2", None)):
        if not how and detector is None:
            print("pycld2 is not installed", file=sys.stderr)
            continue
        for name, examples in sets:
            judge(name + how, examples, Cleaner(load_language("tat"), CorpusConfig(), detector), args.show)
    reasons = Counter(row.why.split(" (")[0] for row in near_misses() if not row.keep)
    print(f"\nnear misses to drop: {', '.join(f'{why} {count}' for why, count in reasons.most_common())}")


if __name__ == "__main__":
    main()
