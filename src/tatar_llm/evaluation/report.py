"""reports/report.md and report.json."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tatar_llm.workspace import write_json, write_text


def write_report(folder: Path, report: dict[str, Any]) -> None:
    """Write both forms of the evaluation report into `folder`."""
    write_json(folder / "report.json", report)
    write_text(folder / "report.md", markdown(report))


def markdown(report: dict[str, Any]) -> str:
    """The report as a person reads it."""
    baselines = report["baselines"]
    rows = [
        f"| **{report['model']}** ({report['parameters'] / 1e6:.1f} M parameters) | "
        f"**{report['bits_per_byte']:.3f}** {_interval(report['interval'])} | "
        f"{report['nats_per_token']:.3f} | {report['perplexity']:.1f} |"
    ]
    for name, title in (("bigram", "Kneser-Ney bigram over the same tokens"), ("unigram", "unigram")):
        if name in baselines:
            rows.append(f"| {title} | {baselines[name]:.3f} | | |")
    lines = [
        "# Evaluation",
        "",
        f"Trained on: {report['corpus'] or 'unknown'}. Measured on {_part(report)}{report['text']}: "
        f"{report['tokens']:,} tokens, {report['bytes']:,} bytes.",
        *([f"**Note:** {report['fallback']}"] if report["fallback"] else []),
        *(
            ["", "**The held-out text is very small: it shows that the pipeline works, it cannot judge a model.**"]
            if report["small"]
            else []
        ),
        "",
        "| | bits per byte (95 % interval) | nats per token | perplexity per token |",
        "|---|---|---|---|",
        *rows,
        "",
        *_verdict(report),
        *(
            [f"Before the first step the planner expected {report['expected_bits_per_byte']:.3f} bits per byte."]
            if report.get("expected_bits_per_byte")
            else []
        ),
    ]
    if report.get("samples"):
        lines += ["", "## Samples", "", f"The first {len(report['samples'])}, none selected."]
        if "known_words" in report:
            lines += [
                f"Words that occur in the training text: {report['known_words']:.1%}. "
                f"Words inside runs of 8 copied from it word for word: {report['copied']:.1%}.",
            ]
        lines += ["", *(f"- **{s['prompt']}**{_one_line(s['continuation'])}" for s in report["samples"])]
    return "\n".join(lines) + "\n"


def _part(report: dict[str, Any]) -> str:
    return "" if report["share"] == 1 else f"a fixed {report['share']:.0%} of "


def _interval(bounds: list[float]) -> str:
    return f"({bounds[0]:.3f} to {bounds[1]:.3f})" if bounds else ""


def _verdict(report: dict[str, Any]) -> list[str]:
    bigram = report["baselines"].get("bigram")
    if bigram is None:
        return []
    gain = 1 - report["bits_per_byte"] / bigram
    if gain > 0:
        return [f"{gain:.1%} below the bigram: the model has learnt more than which token follows which."]
    return [f"{-gain:.1%} above the bigram: train longer, or on more text."]


def _one_line(text: str) -> str:
    return text.replace("\n", " / ")
