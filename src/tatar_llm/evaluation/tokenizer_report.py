"""What a comparison of tokenizers comes to: a recommendation with its doubt, a table, a page, a plot."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from tatar_llm.evaluation.segmentation import RARE
from tatar_llm.workspace import Workspace, whole_file, write_json, write_text

ENOUGH_STEPS = 200
"""With fewer the network has hardly learnt anything, whatever its tokenizer."""
NOISE = 0.02
"""Share by which two trainings that differ in their seed alone may differ: three seeds spread by 1 %, docs/experiments.md."""


def recommend(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Which tokenizer to take, why, and how sure that is.

    The fewest bits per byte after equal time decide; what is within NOISE of it is a tie, of which BPE (llama.cpp and the web page
    know no other) and then the smaller vocabulary wins.
    """
    best = min(row["equal_time"]["bits_per_byte"] for row in rows)
    ties = [row for row in rows if row["equal_time"]["bits_per_byte"] <= best * (1 + NOISE)]
    chosen = min(ties, key=lambda row: (row["type"] != "bpe", row["vocab_size"]))
    bits = chosen["equal_time"]["bits_per_byte"]
    told = [f"Take {title(chosen)}: {bits:.3f} bits per byte after equal time, the lowest of {len(rows)}{'' if bits == best else f' being {best:.3f}'}."]
    others = [title(row) for row in ties if row is not chosen]
    if others:
        told.append(f"{_and(others)} {'is' if len(others) == 1 else 'are'} within {NOISE:.1%} of the lowest, which is no more than two seeds differ: of "
                    "equals BPE is taken, since llama.cpp and the web page know no other type, and then the smaller vocabulary.")  # fmt: skip
    by_text = min(rows, key=lambda row: row["equal_text"]["bits_per_byte"])
    if by_text["equal_text"]["bits_per_byte"] * (1 + NOISE) < chosen["equal_text"]["bits_per_byte"]:
        told.append(f"After the same text {title(by_text)} is ahead ({by_text['equal_text']['bits_per_byte']:.3f} against "
                    f"{chosen['equal_text']['bits_per_byte']:.3f}): where text is scarcer than time, take that.")  # fmt: skip
    sure = f"How sure: one seed, so differences under {NOISE:.1%} are noise; a small network, and larger ones gain more from larger vocabularies."
    if min(row["equal_time"]["steps"] for row in rows) < ENOUGH_STEPS:
        sure += f" These trainings were shorter than {ENOUGH_STEPS} steps, too short to tell tokenizers apart: take more --minutes."
    return {"recommended": {"type": chosen["type"], "vocab_size": chosen["requested"]}, "reason": " ".join(told), "certainty": sure}


def title(row: dict[str, Any]) -> str:
    """A tokenizer's name for people."""
    return f"{row['type']} {row['vocab_size']}"


def _and(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


COLUMNS: dict[str, Callable[[dict[str, Any]], str]] = {
    "type": lambda row: row["type"],
    "tokens": lambda row: str(row["vocab_size"]),
    "characters a token": lambda row: f"{row['characters_per_token']:.2f}",
    "tokens a word": lambda row: f"{row['tokens_per_word']:.2f}",
    "unused": lambda row: str(row["unused_tokens"]),
    f"under {RARE} times": lambda row: str(row[f"tokens_seen_under_{RARE}_times"]),
    "morpheme ends": lambda row: f"{row['morpheme_agreement']:.1%}" if "morpheme_agreement" in row else "-",
    "encode, MB/s": lambda row: f"{row['encode_megabytes_per_second']:.1f}",
    "train, kB/s": lambda row: f"{1000 * row['train_megabytes_per_second']:.0f}",
    "parameters": lambda row: f"{row['parameters'] / 1e6:.2f} M",
    "bigram": lambda row: f"{row['bigram']:.3f}",
    "equal text": lambda row: f"{row['equal_text']['bits_per_byte']:.3f}",
    "equal time": lambda row: f"{row['equal_time']['bits_per_byte']:.3f}",
}
"""Title -> cell, of the table; the last three in bits per byte."""


def no_morphemes(language: str) -> str:
    """Why morpheme ends are not measured."""
    return f"the grammar knows Tatar alone, and this text is {language}"


def table(report: dict[str, Any]) -> str:
    """The rows for a terminal."""
    lines = [list(COLUMNS), *([cell(row) for cell in COLUMNS.values()] for row in report["rows"])]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join("  ".join([line[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(line[1:], widths[1:], strict=True))]) for line in lines)


def write_report(workspace: Workspace, report: dict[str, Any]) -> None:
    """Write reports/tokenizers.md, .json and .png."""
    write_json(workspace.reports / "tokenizers.json", report)
    write_text(workspace.reports / "tokenizers.md", markdown(report))
    draw(workspace.reports / "tokenizers.png", report)


def markdown(report: dict[str, Any]) -> str:
    """The table, what it comes to, and how it was measured."""
    network, rows = report["network"], report["rows"]
    lines = [
        "# Tokenizers", "", report["reason"], "", report["certainty"], "", "![bits per byte](tokenizers.png)", "",
        f"| {' | '.join(COLUMNS)} |", "|---|" + "---:|" * (len(COLUMNS) - 1), *(f"| {' | '.join(cell(row) for cell in COLUMNS.values())} |" for row in rows), "",
        f"The last three columns are bits per byte on {report['val_bytes']:,} bytes of held-out text: a Kneser-Ney bigram of the same tokens, and a network of "
        f"{network['n_layer']} layers, width {network['n_embd']}, context {network['block_size']} tokens, trained on as much text as the others (equal text) or as "
        f"long as the others (equal time; {report['minutes']:.1f} minutes for all trainings). Longer tokens let the same context reach over more text, and "
        "a larger vocabulary costs parameters and time: equal time counts that.", "",
        "For equal time the speed of each network was measured for some steps, in turn, just before the first training, and the time turned into steps: "
        + ", ".join(f"{title(row)} {row['equal_time']['steps']} ({row['equal_time']['passes']:.1f} passes)" for row in rows) + ".", "",
        f"Tokens unused and used under {RARE} times were counted over {report['train_bytes']:,} bytes of training text. "
        + ("Morpheme ends: the share of those inside inflected words that are token ends too." if report["language"] == "tat"
           else f"Morpheme ends are left out: {no_morphemes(report['language'])}."), "",
        *(f"- {title(row)}: {row['requested']} tokens were asked for, the text repeats itself too little for them." for row in rows if row["vocab_size"] < row["requested"]),
    ]  # fmt: skip
    return "\n".join(lines).rstrip() + "\n"


def draw(path: Path, report: dict[str, Any]) -> None:
    """Bits per byte against the size of the vocabulary, a line for each type; after equal text and after equal time."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4.5), dpi=110, layout="constrained")
    panels = figure.subplots(1, 2, sharey=True)
    sizes = sorted({row["vocab_size"] for row in report["rows"]})
    for axes, kind in zip(panels, ("equal_text", "equal_time"), strict=True):
        for type in dict.fromkeys(row["type"] for row in report["rows"]):
            rows = sorted((row for row in report["rows"] if row["type"] == type), key=lambda row: row["vocab_size"])
            axes.errorbar([row["vocab_size"] for row in rows], [row[kind]["bits_per_byte"] for row in rows],
                          yerr=[NOISE * row[kind]["bits_per_byte"] for row in rows], marker="o", capsize=3, label=type)  # fmt: skip
        axes.set_xscale("log", base=2)
        axes.set_xticks(sizes, map(str, sizes))
        axes.minorticks_off()
        axes.set(title=kind.replace("_", " "), xlabel="tokens in the vocabulary")
        axes.grid(alpha=0.3)
    panels[0].set_ylabel("bits per byte (lower is better)")
    panels[0].legend(title=f"bars: {NOISE:.1%}, as two seeds may differ")
    with whole_file(path) as temporary:
        figure.savefig(temporary, format="png")
