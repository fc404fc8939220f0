"""The corpus report: what every rule did, and what the finished text looks like."""

from __future__ import annotations

from typing import Any

from tatar_llm import console
from tatar_llm.corpus.clean import EXAMPLES, Tally
from tatar_llm.corpus.statistics import Statistics
from tatar_llm.languages import Language

TOP_LETTERS = 40
BAR = 40


def build_report(
    manifest: dict[str, Any], tallies: dict[str, Tally], statistics: Statistics, language: Language
) -> dict[str, Any]:
    """Everything report.json holds: the manifest, rules over all and per source, letters, line lengths."""
    letters = statistics.letters(TOP_LETTERS)
    all_letters = sum(times for _, times in statistics.letters(1_000_000)) or 1
    return {
        "manifest": manifest,
        "totals": statistics.totals(),
        "rules": _merged(list(tallies.values())).as_dict(),
        "sources": {
            name: {
                "lines_read": tally.lines,
                "lines_kept": tally.kept_lines,
                "documents_read": tally.documents,
                "documents_kept": tally.kept_documents,
                "rules": tally.as_dict(),
            }
            for name, tally in tallies.items()
        },
        "letters": [
            {"letter": letter, "count": times, "share": round(times / all_letters, 5),
             "own": letter in language.keyboard, "in_alphabet": letter in language.letters}
            for letter, times in letters
        ],
        "line_lengths": statistics.length_rows(),
    }


def _merged(tallies: list[Tally]) -> Tally:
    whole = Tally()
    for tally in tallies:
        whole.lines += tally.lines
        for rule, count in tally.changed.items():
            whole.changed[rule] += count
        for rule, count in tally.dropped.items():
            whole.dropped[rule] += count
        for rule, examples in tally.examples.items():
            whole.examples[rule] = (whole.examples[rule] + examples)[:EXAMPLES]
    return whole


def render(report: dict[str, Any]) -> str:
    """report.md: the same for people."""
    manifest, totals = report["manifest"], report["totals"]
    train, val = manifest["train"], manifest["val"]
    share = val["bytes"] / max(1, train["bytes"] + val["bytes"])
    out = [f"# Corpus report: {manifest['corpus']}", ""]
    for sentence in remarks(manifest):
        out += [f"> **{sentence}**", ""]
    unit = "line" if manifest["document"] == "line" else "block of lines that ends at a blank line"
    out += [
        f"A document is a {unit}. Of the text {100 * share:.1f} % is held out for validation.",
        "",
        "| part | documents | lines | words | characters | bytes |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for name, part in (("train", train), ("val", val)):
        out.append(f"| {name} | {_counts(part)} | {part['bytes']:,} |")
    out.append(f"| both | {_counts(totals)} | {train['bytes'] + val['bytes']:,} |")
    out += ["", "## Sources", "", "| source | lines read | lines kept | documents kept | kept |", "|---|---:|---:|---:|---:|"]
    for name, source in report["sources"].items():
        kept = 100 * source["lines_kept"] / max(1, source["lines_read"])
        out.append(
            f"| {_cell(name)} | {source['lines_read']:,} | {source['lines_kept']:,} | {source['documents_kept']:,} | {kept:.1f} % |"
        )
    out += ["", "## Cleaning, in the order of the steps", ""]
    out += _rules(report["rules"])
    if len(report["sources"]) > 1:
        for name, source in report["sources"].items():
            out += ["", f"### {name}", "", *_rules(source["rules"])]
    out += ["", "## Line lengths", "", "```"]
    most = max(1, *(row["lines"] for row in report["line_lengths"]))
    for row in report["line_lengths"]:
        span = f"{row['from']}+" if row["to"] is None else f"{row['from']}-{row['to']}"
        bar = "█" * round(BAR * row["lines"] / most)
        out.append(f"{span:>9} characters {row['lines']:>11,} {bar}".rstrip())
    out += ["```", "", "## Letters", "", "Small and capital letters together; * marks the letters that Russian lacks, "
            "? those outside the alphabet.", "", "```"]
    out += _letters(report["letters"])
    out += ["```", ""]
    return "\n".join(out)


def remarks(manifest: dict[str, Any]) -> list[str]:
    """What must be said plainly about this corpus, as sentences."""
    found = []
    if manifest["fallback"]:
        found.append(manifest["fallback"])
    if manifest["small"]:
        size = console.human_bytes(manifest["train"]["bytes"])
        found.append(
            f"This is a small corpus: {size} of training text show that everything works, but so little text cannot "
            f"judge a model; expect it to learn its training text by heart."
        )
    return found


def _counts(part: dict[str, Any]) -> str:
    return " | ".join(f"{part[key]:,}" for key in ("documents", "lines", "words", "characters"))


def _rules(rules: dict[str, dict[str, Any]]) -> list[str]:
    out = ["| step | lines in | changed | dropped | examples |", "|---|---:|---:|---:|---|"]
    for rule, row in rules.items():
        if not (row["changed"] or row["dropped"]):
            continue
        examples = "<br>".join(_cell(example) for example in row["examples"])
        out.append(f"| {rule} | {row['in']:,} | {row['changed']:,} | {row['dropped']:,} | {examples} |")
    if len(out) == 2:
        return ["Nothing had to be changed or dropped."]
    return out


def _cell(text: str) -> str:
    """Text inside a Markdown table: nothing in it may end the cell or start mark-up."""
    for char in "\\|*_`[]<>":
        text = text.replace(char, "\\" + char if char not in "<>" else {"<": "&lt;", ">": "&gt;"}[char])
    return text


def _letters(letters: list[dict[str, Any]]) -> list[str]:
    most = max((row["count"] for row in letters), default=1)
    return [
        f"{row['letter']} {'*' if row['own'] else ' ' if row['in_alphabet'] else '?'} {100 * row['share']:6.2f} % "
        f"{'█' * round(BAR * row['count'] / most)}".rstrip()
        for row in letters
    ]
