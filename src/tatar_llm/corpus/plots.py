"""report.png: the corpus at a glance: letters, lengths, word frequencies, sources, and what each step took."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tatar_llm.workspace import whole_file


def draw(report: dict[str, Any], path: Path) -> None:
    """Draw the six panels of a report made by report.build_report."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(14, 12), dpi=100)
    figure.subplots_adjust(left=0.15, right=0.98, top=0.93, bottom=0.05, hspace=0.3, wspace=0.42)
    panels = figure.subplots(3, 2)
    for axes, panel in zip(panels.flat, (_letters, _steps, _sources, _zipf, _word_lengths, _line_lengths), strict=True):
        panel(axes, report)
        axes.grid(alpha=0.3)
    figure.suptitle(f"Corpus: {report['manifest']['corpus']}")
    with whole_file(path) as temporary:
        figure.savefig(temporary, format="png")


def _letters(axes: Any, report: dict[str, Any]) -> None:
    rows = report["letters"]
    places = range(len(rows))
    axes.bar(places, [100 * row["share"] for row in rows], color=["tab:blue" if row["in_alphabet"] else "tab:red" for row in rows])
    expected = [(place, 100 * row["expected"]) for place, row in zip(places, rows, strict=True) if row["expected"] is not None]
    if expected:
        axes.plot(*zip(*expected, strict=True), "k_", markersize=9, label="expected of the language")
        axes.legend()
    axes.set_xticks(list(places), [row["letter"] for row in rows], fontsize=8)
    axes.set(title="letters, per cent (red: not in the alphabet)", ylabel="%")


def _steps(axes: Any, report: dict[str, Any]) -> None:
    rows = [(name, row["changed"], row["dropped"]) for name, row in report["rules"].items() if row["changed"] or row["dropped"]]
    rows = rows[::-1] or [("nothing", 0, 0)]
    names = [name for name, _, _ in rows]
    axes.barh(names, [changed for _, changed, _ in rows], color="tab:green", label="changed")
    axes.barh(names, [dropped for _, _, dropped in rows], color="tab:red", label="dropped")
    axes.set(title="lines changed and dropped by step", xscale="symlog", xlabel="lines")
    axes.legend()


def _sources(axes: Any, report: dict[str, Any]) -> None:
    rows = list(report["sources"].items())
    if len(rows) > 12:  # a folder of a hundred files: the largest, and the rest together
        rows.sort(key=lambda row: -row[1]["lines_read"])
        rest = [row for _, row in rows[11:]]
        rows = [*rows[:11], (f"{len(rest)} more", {key: sum(row[key] for row in rest) for key in ("lines_read", "lines_kept")})]
    rows = rows[::-1]
    names = [name if len(name) <= 24 else f"…{name[-23:]}" for name, _ in rows]
    axes.barh(range(len(rows)), [row["lines_read"] for _, row in rows], color="0.8", label="read")
    axes.barh(range(len(rows)), [row["lines_kept"] for _, row in rows], color="tab:blue", label="kept")
    axes.set_yticks(range(len(rows)), names)
    axes.set_ylim(-0.6, max(len(rows), 4) - 0.4)  # a single source is a bar, not a wall
    axes.set(title="lines per source", xlabel="lines")
    axes.legend()


def _zipf(axes: Any, report: dict[str, Any]) -> None:
    zipf = report["zipf"]
    if zipf["ranks"]:
        ranks, times = zip(*zipf["ranks"], strict=True)
        axes.plot(ranks, times, marker="o", markersize=3, label="this text")
        axes.plot(ranks, [times[0] / rank for rank in ranks], "k--", linewidth=1, label="Zipf's law, 1 / rank")
        axes.set(xscale="log", yscale="log")
        axes.legend()
    axes.set(title=f"word frequencies: {zipf['distinct']:,} distinct of {zipf['words']:,} words", xlabel="rank", ylabel="times")


def _word_lengths(axes: Any, report: dict[str, Any]) -> None:
    counts = report["word_lengths"][:31]
    total = max(1, sum(report["word_lengths"]))
    axes.bar(range(len(counts)), [100 * times / total for times in counts], color="tab:blue")
    axes.set(title="word lengths, per cent of the words", xlabel="characters", ylabel="%")


def _line_lengths(axes: Any, report: dict[str, Any]) -> None:
    rows = report["line_lengths"]
    names = [f"{row['from']}+" if row["to"] is None else f"{row['from']}-{row['to']}" for row in rows]
    axes.bar(names, [row["lines"] for row in rows], color="tab:blue")
    axes.tick_params(axis="x", labelsize=8)
    axes.set(title="line lengths", xlabel="characters", ylabel="lines")
