"""The corpus report: what every rule did, and what the finished text looks like."""

from __future__ import annotations

from typing import Any

from tatar_llm import console
from tatar_llm.corpus.clean import Tally
from tatar_llm.corpus.statistics import Statistics
from tatar_llm.languages import Language

TOP_LETTERS = 40
BAR = 40
MOST_SOURCES = 20
MOST_TABLES = 4


def build_report(
    manifest: dict[str, Any], tallies: dict[str, Tally], statistics: Statistics, language: Language
) -> dict[str, Any]:
    """Everything report.json holds: the manifest, rules over all and per source, letters, line lengths."""
    whole = Tally()
    for tally in tallies.values():
        whole.merge(tally)
    letters = statistics.letters(TOP_LETTERS)
    all_letters = sum(times for _, times in statistics.letters(1_000_000)) or 1
    return {
        "manifest": manifest,
        "totals": statistics.totals(),
        "rules": whole.as_dict(),
        "details": whole.details,
        "broken_fonts": whole.fonts,
        "sources": {
            name: {
                "documents_read": tally.documents,
                "documents_kept": tally.kept_documents,
                "lines_read": tally.lines,
                "lines_kept": tally.kept_lines,
                "rules": tally.as_dict(),
                "details": tally.details,
            }
            for name, tally in tallies.items()
        },
        "letters": [
            {"letter": letter, "count": times, "share": round(times / all_letters, 5),
             "own": letter in language.keyboard, "in_alphabet": letter in language.letters,
             "expected": round(language.frequencies[letter] / 100, 5) if letter in language.frequencies else None}
            for letter, times in letters
        ],
        "line_lengths": statistics.length_rows(),
        "word_lengths": statistics.word_length_rows(),
        "zipf": statistics.zipf(),
    }


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
    read = sum(source["lines_read"] for source in report["sources"].values())
    worst = sorted(((row["dropped"], name) for name, row in report["rules"].items() if row["dropped"]), reverse=True)[:3]
    most = ", ".join(f"{name} {dropped:,}" for dropped, name in worst)
    out += ["", f"Of {read:,} lines read, {totals['lines']:,} stay ({100 * totals['lines'] / max(1, read):.1f} %). "
            f"{f'Most were dropped as: {most}.' if most else 'None was dropped.'}", "", "![the corpus at a glance](report.png)"]
    out += _sources(report)
    out += ["", "## Cleaning, in the order of the steps", "", *_rules(report["rules"]), "", "Seconds are those of one core."]
    if 1 < len(report["sources"]) <= MOST_TABLES:
        for name, source in report["sources"].items():
            out += ["", f"### {name}", "", *_rules(source["rules"])]
    elif len(report["sources"]) > 1:
        out += ["", "The same for each source stands in report.json."]
    out += _languages(report, manifest) + _fonts(report["broken_fonts"]) + _holdout(manifest)
    out += ["", "## Letters", "", "Small and capital letters together; * marks the letters that Russian lacks, "
            "? those outside the alphabet; | is the share expected of the language.", "", "```"]
    out += _letters(report["letters"])
    zipf = report["zipf"]
    out += ["```", "", "## Words", "", f"{zipf['distinct']:,} distinct words among the first {zipf['words']:,}; {zipf['once']:,} stand once. "
            f"Most frequent: {', '.join(_cell(word) for word, _ in zipf['top'])}.", ""]
    return "\n".join(out)


def _sources(report: dict[str, Any]) -> list[str]:
    out = ["", "## Sources", "", "| source | lines read | lines kept | documents kept | kept |", "|---|---:|---:|---:|---:|"]
    rows = list(report["sources"].items())
    for name, source in rows[:MOST_SOURCES]:
        kept = 100 * source["lines_kept"] / max(1, source["lines_read"])
        out.append(
            f"| {_cell(name)} | {source['lines_read']:,} | {source['lines_kept']:,} | {source['documents_kept']:,} | {kept:.1f} % |"
        )
    if len(rows) > MOST_SOURCES:
        out += ["", f"and {len(rows) - MOST_SOURCES} more, in report.json."]
    return out


def _languages(report: dict[str, Any], manifest: dict[str, Any]) -> list[str]:
    found: dict[str, int] = {}
    for rule in ("foreign language", "foreign document"):
        for name, lines in report["details"].get(rule, {}).items():
            found[name] = found.get(name, 0) + lines
    how = "letters, frequent words and CLD2" if manifest["cld2"] else (
        'letters and frequent words (CLD2 would help with long lines: pip install pycld2)')
    out = ["", "## Other languages", ""]
    if not found:
        return [*out, f"No line was found to be in another language, by {how}."]
    out += [f"Lines dropped, told apart by {how}.", "", "| language | lines |", "|---|---:|"]
    return out + [f"| {name} | {lines:,} |" for name, lines in sorted(found.items(), key=lambda row: -row[1])]


def _fonts(fonts: list[dict[str, Any]]) -> list[str]:
    if not fonts:
        return []
    out = ["", "## Broken fonts", "", "Documents where a letter of the language is missing and another character stands about as often. They "
           "were dropped. Where the pairs look right, put them under [look_alikes] of a language file of your own and prepare again.",
           "", "| begins with | lines | letter as character |", "|---|---:|---|"]
    for row in fonts[:MOST_SOURCES]:
        pairs = ", ".join(f"{letter} as {char}" if char else f"{letter} lost" for letter, char in row["letters"].items())
        out.append(f"| {_cell(row['document'])} | {row['lines']:,} | {_cell(pairs)} |")
    return out


def _holdout(manifest: dict[str, Any]) -> list[str]:
    if not manifest["holdout"]:
        return []
    out = ["", "## Evaluation texts kept out", "", "| file | texts searched for | lines removed |", "|---|---:|---:|"]
    return out + [f"| {_cell(row['file'])} | {row['texts']:,} | {row['lines_removed']:,} |" for row in manifest["holdout"]]


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
    out = ["| step | lines in | out | changed | dropped | seconds | examples |", "|---|---:|---:|---:|---:|---:|---|"]
    for rule, row in rules.items():
        if not (row["changed"] or row["dropped"]):
            continue
        examples = "<br>".join(_cell(example) for example in row["examples"])
        out.append(f"| {rule} | {row['in']:,} | {row['out']:,} | {row['changed']:,} | {row['dropped']:,} | {row['seconds']:.1f} | {examples} |")
    if len(out) == 2:
        return ["Nothing had to be changed or dropped."]
    return out


def _cell(text: str) -> str:
    """Text inside a Markdown table: nothing in it may end the cell or start mark-up."""
    for char in "\\|*_`[]<>":
        text = text.replace(char, "\\" + char if char not in "<>" else {"<": "&lt;", ">": "&gt;"}[char])
    return text


def _letters(letters: list[dict[str, Any]]) -> list[str]:
    scale = BAR / max((row["share"] for row in letters), default=1)
    out = []
    for row in letters:
        bar = "█" * round(scale * row["share"])
        if row["expected"] is not None:
            place = round(scale * row["expected"])
            bar = f"{bar:<{place}}"[:place] + "|" + bar[place + 1 :]
        mark = "*" if row["own"] else " " if row["in_alphabet"] else "?"
        out.append(f"{row['letter']} {mark} {100 * row['share']:6.2f} % {bar}".rstrip())
    return out
