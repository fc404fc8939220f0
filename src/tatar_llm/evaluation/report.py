"""reports/report.md, report.json and report.html, and the comparison of several models."""

from __future__ import annotations

from typing import Any

from tatar_llm.evaluation.page import page
from tatar_llm.evaluation.statistics import difference
from tatar_llm.workspace import Workspace, write_json, write_text

ANSWERS = 40


def write_report(workspace: Workspace, report: dict[str, Any], name: str = "report") -> None:
    """Write the report in its three forms."""
    folder = workspace.reports
    write_json(folder / f"{name}.json", report)
    write_text(folder / f"{name}.md", markdown(report))
    write_text(folder / f"{name}.html", page(workspace, report))


def markdown(report: dict[str, Any]) -> str:
    """The report as a person reads it."""
    lines = ["# Evaluation", "", f"Model **{report['model']}** ({report['parameters'] / 1e6:.1f} M parameters), "
             f"trained on: {report['corpus'] or 'unknown'}.", *_notes(report)]  # fmt: skip
    if "baselines" in report:
        lines += ["", *_bits(report)]
    if report.get("measures"):
        lines += ["", "## Does it speak Tatar?" if report.get("language") == "tat" else "## What it can do", "", *_told(report)]
        lines += ["", "| measure | result | 95 % interval | n | by chance |", "|---|---:|---|---:|---:|"]
        lines += [_row(measure) for measure in report["measures"]]
        for measure in report["measures"]:
            if measure["parts"]:
                lines += ["", f"**{measure['title']}**", "", "| | |", "|---|---:|"]
                lines += [f"| {name.replace('_', ' ')} | {shown(value, measure['unit'])} |" for name, value in measure["parts"].items()]
            if published := measure["details"].get("published"):
                lines += ["", "Published by Goldfish's authors on FLORES-200:", "", "| model | bits |", "|---|---:|"]
                lines += [f"| {name} | {bits:.2f} |" for name, bits in published.items()]
    if typing := typing_notes(report["measures"] if report.get("measures") else []):
        lines += ["", *typing]
    if report.get("left_out"):
        lines += ["", "Left out: " + "; ".join(report["left_out"]) + "."]
    if report.get("tokenizer"):
        found = {key.replace("_", " "): value for key, value in report["tokenizer"].items()}
        lines += ["", "Tokenizer: " + ", ".join(f"{name} {value:,.2f}".removesuffix(".00") for name, value in found.items()) + "."]
    lines += _texts(report)
    return "\n".join(lines) + "\n"


def typing_notes(measures: list[dict[str, Any]]) -> list[str]:
    """What stands beside the word suggestions: their time, and a table of word triples on the same words."""
    notes = []
    if latency := next((one["details"] for one in measures if "p95_ms" in one["details"]), None):
        notes.append(f"A suggestion takes {latency['p50_ms']:.0f} ms of one core (median), 95 of 100 at most {latency['p95_ms']:.0f} ms.")
    counted = [one for one in measures if "trigram" in one["details"]]
    if counted:
        told = "; ".join(f"{one['title']} {shown(one['details']['trigram'], 'share')}" for one in counted)
        notes.append(f"Word triples counted on the training text, on the same words: {told}.")
    return notes


def _notes(report: dict[str, Any]) -> list[str]:
    notes = [f"**Note:** {report['fallback']}"] if report.get("fallback") else []
    if report.get("small"):
        notes += ["", "**The held-out text is very small: it shows that the pipeline works, it cannot judge a model.**"]
    return notes


def _bits(report: dict[str, Any]) -> list[str]:
    baselines = report["baselines"]
    rows = [f"| **{report['model']}** | **{report['bits_per_byte']:.3f}** {_interval(report['interval'])} | "
            f"{report['nats_per_token']:.3f} | {report['perplexity']:.1f} |"]  # fmt: skip
    titles = (("5-gram", "Kneser-Ney 5-gram over the same tokens"), ("bigram", "Kneser-Ney bigram over the same tokens"),
              ("unigram", "unigram"), ("xz", "xz, the text alone"))  # fmt: skip
    rows += [f"| {title} | {baselines[name]:.3f} | | |" for name, title in titles if name in baselines]
    part = "" if report["share"] == 1 else f"a fixed {report['share']:.0%} of "
    return [
        f"Measured on {part}{report['text']}: {report['tokens']:,} tokens, {report['bytes']:,} bytes.",
        "",
        "| | bits per byte (95 % interval) | nats per token | perplexity per token |",
        "|---|---|---|---|",
        *rows,
        "",
        *_verdict(report),
    ]


def _verdict(report: dict[str, Any]) -> list[str]:
    lines = []
    if (bigram := report["baselines"].get("bigram")) is not None:
        gain = 1 - report["bits_per_byte"] / bigram
        lines.append(f"{gain:.1%} below the bigram: the model has learnt more than which token follows which." if gain > 0
                     else f"{-gain:.1%} above the bigram: train longer, or on more text.")  # fmt: skip
    if report.get("expected_bits_per_byte"):
        lines.append(f"Before the first step the planner expected {report['expected_bits_per_byte']:.3f} bits per byte.")
    return lines


def _told(report: dict[str, Any]) -> list[str]:
    """The measures in plain sentences."""
    found = {measure["name"]: measure for measure in report["measures"]}
    said = []
    if "bits" in found and (bigram := report.get("baselines", {}).get("bigram")):
        said.append("Its next-word sense is " + ("better" if report["bits_per_byte"] < bigram else "worse")
                    + " than that of a table of neighbouring tokens.")  # fmt: skip
    for name, subject in (("pairs", "It prefers the right form to a wrong one in"), ("knowledge", "It answers taught facts, asked in words it never saw, in"),
                          ("consistency", "It gives the same answer whatever the wording in"), ("choice", "It picks the right one of several answers in"),
                          ("topics", "It names the topic of a sentence in")):  # fmt: skip
        if name in found:
            said.append(f"{subject} {shown(found[name]['value'], 'share')} of the cases{_against_chance(found[name])}.")
    if "known_words" in report:
        said.append(f"Of the words it writes, {report['known_words']:.1%} are words of its training text, and {report['copied']:.1%} "
                    f"stand inside runs of 8 copied from it.")  # fmt: skip
    return [f"- {sentence}" for sentence in said]


def _against_chance(measure: dict[str, Any]) -> str:
    chance, interval = measure["chance"], measure["interval"]
    if chance is None:
        return ""
    told = f" ({chance:.0%} by chance"
    if interval and interval[0] <= chance <= interval[1]:
        told += ": no better than guessing"
    elif interval and interval[1] < chance:
        told += ": worse than guessing"
    return told + ")"


def _row(measure: dict[str, Any]) -> str:
    unit = measure["unit"]
    interval = f"{shown(measure['interval'][0], unit)} to {shown(measure['interval'][1], unit)}" if measure["interval"] else ""
    chance = shown(measure["chance"], unit) if measure["chance"] is not None else ""
    return f"| {measure['title']} | {shown(measure['value'], unit)} | {interval} | {measure['n']:,} | {chance} |"


def shown(value: float, unit: str) -> str:
    """A value as people write it."""
    return f"{value:.1%}" if unit == "share" else f"{value:.3f}" if unit == "bits per byte" else f"{value:.2f}"


def _texts(report: dict[str, Any]) -> list[str]:
    lines = []
    if report.get("samples"):
        lines += ["", "## Samples", "", f"The first {len(report['samples'])}, none selected."]
        if "known_words" in report:
            lines += [f"Words that occur in the training text: {report['known_words']:.1%}. "
                      f"Words inside runs of 8 copied from it word for word: {report['copied']:.1%}."]  # fmt: skip
        lines += ["", *(f"- **{s['prompt']}**{_one_line(s['continuation'])}" for s in report["samples"])]
    if report.get("chat"):
        lines += ["", "## Answers", "", f"The first {ANSWERS} to questions of exchanges that were kept back, none selected.", ""]
        lines += [f"- **{row['question']}** {_one_line(row['answer'])}" for row in report["chat"][:ANSWERS]]
    if report.get("continuations"):
        lines += ["", "## Continuations of held-out text", "", "The first ten; what really followed stands in brackets.", ""]
        lines += [f"- **{row['prompt']}** {_one_line(row['continuation'])} [{row['true']}]" for row in report["continuations"][:10]]
    return lines


def _interval(bounds: list[float]) -> str:
    return f"({bounds[0]:.3f} to {bounds[1]:.3f})" if bounds else ""


def _one_line(text: str) -> str:
    return text.replace("\n", " / ")


def compare(workspace: Workspace, reports: list[dict[str, Any]]) -> str:
    """Two models or more side by side, and whether the first differs from each other; writes reports/comparison.md."""
    names = [report["model"] for report in reports]
    lines = ["# Comparison", "", "| measure | " + " | ".join(names) + " | by chance |", "|---|" + "---:|" * (len(names) + 1)]
    told = []
    tables = [{measure["name"]: measure for measure in report["measures"]} for report in reports]
    for name, first in tables[0].items():
        cells = [shown(table[name]["value"], first["unit"]) if name in table else "" for table in tables]
        lines.append(f"| {first['title']} | " + " | ".join(cells) + f" | {shown(first['chance'], first['unit']) if first['chance'] is not None else ''} |")
        for other, table in zip(names[1:], tables[1:], strict=True):
            if name in table and (verdict := _significance(first, table[name])):
                told.append(f"- {first['title']}: {names[0]} is {verdict} {other}.")
    lines += ["", "## What the differences mean", "", "95 % intervals; item by item where both models were asked the same.", "", *told]
    text = "\n".join(lines) + "\n"
    write_text(workspace.reports / "comparison.md", text)
    write_json(workspace.reports / "comparison.json", {"models": reports})
    return text


def _significance(first: dict[str, Any], second: dict[str, Any]) -> str:
    sign = 1 if first["higher_is_better"] else -1
    if first["outcomes"] and (found := difference(first["outcomes"], second["outcomes"])):
        gap, low, high = (sign * value for value in found)
        low, high = min(low, high), max(low, high)
    elif first["interval"] and second["interval"]:
        gap = sign * (first["value"] - second["value"])
        one, other = first["interval"], second["interval"]
        apart = one[1] < other[0] or other[1] < one[0]
        low, high = (gap, gap) if apart else (-1.0, 1.0)
    else:
        return ""
    if low <= 0 <= high:
        return "not told apart from"
    return "better than" if gap > 0 else "worse than"
