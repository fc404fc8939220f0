"""One HTML page that joins corpus, tokenizer, curve, runs and measures; it needs no network and no other file."""

from __future__ import annotations

import base64
import html
from pathlib import Path
from typing import Any

from tatar_llm.training.runs import list_runs
from tatar_llm.workspace import Workspace

STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #1b1b1b; background: #fff; }
h1, h2 { line-height: 1.2; } h2 { margin-top: 2.5rem; border-bottom: 2px solid #0a7d4b; padding-bottom: .2rem; }
table { border-collapse: collapse; margin: 1rem 0; } th, td { border-bottom: 1px solid #ddd; padding: .3rem .7rem; text-align: left; }
td.number { text-align: right; font-variant-numeric: tabular-nums; } img { max-width: 100%; }
.bar { display: inline-block; width: 10rem; height: .8rem; background: #eee; position: relative; }
.bar b { position: absolute; left: 0; top: 0; bottom: 0; background: #0a7d4b; } .bar i { position: absolute; top: -2px; bottom: -2px; width: 2px; background: #c00; }
.note { background: #fff4d6; padding: .5rem 1rem; } li b { color: #0a7d4b; }
@media (prefers-color-scheme: dark) { body { color: #e6e6e6; background: #16181a; } th, td { border-color: #333; } .bar { background: #333; } .note { background: #4a3d10; } }
"""


def page(workspace: Workspace, report: dict[str, Any]) -> str:
    """The page as a string."""
    sections = [
        _measures(report), _curve(workspace, report), _corpus(workspace), _tokenizer(report), _runs(workspace), _samples(report),
    ]  # fmt: skip
    title = f"{report['model']}: evaluation"
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        f"<title>{html.escape(title)}</title><style>{STYLE}</style></head><body>\n<h1>{html.escape(title)}</h1>\n"
        f"<p>{report['parameters'] / 1e6:.1f} M parameters, trained on {html.escape(report['corpus'] or 'unknown text')}.</p>\n"
        + (f'<p class="note">{html.escape(report["fallback"])}</p>\n' if report.get("fallback") else "")
        + "\n".join(filter(None, sections))
        + "\n</body></html>\n"
    )


def _table(head: list[str], rows: list[list[str]]) -> str:
    """A table; cells that begin with a digit or a minus stand right."""
    top = "".join(f"<th>{cell}</th>" for cell in head)
    body = "".join(
        "<tr>" + "".join(f'<td class="number">{cell}</td>' if cell[:1].isdigit() else f"<td>{cell}</td>" for cell in row) + "</tr>"
        for row in rows
    )
    return f"<table><tr>{top}</tr>{body}</table>"


def _measures(report: dict[str, Any]) -> str:
    from tatar_llm.evaluation.report import shown, typing_notes

    rows = []
    for measure in report.get("measures", []):
        unit, interval = measure["unit"], measure["interval"]
        bounds = f"{shown(interval[0], unit)} to {shown(interval[1], unit)}" if interval else ""
        bar = ""
        if unit == "share":
            mark = f'<i style="left:{measure["chance"]:.0%}" title="by chance"></i>' if measure["chance"] is not None else ""
            bar = f'<span class="bar"><b style="width:{measure["value"]:.0%}"></b>{mark}</span>'
        rows.append([html.escape(measure["title"]), shown(measure["value"], unit), bar, bounds, f"{measure['n']:,}"])
    parts = ""
    for measure in report.get("measures", []):
        if measure["parts"]:
            inner = [[html.escape(name.replace("_", " ")), shown(value, measure["unit"])] for name, value in measure["parts"].items()]
            parts += f"<details><summary>{html.escape(measure['title'])}, by kind</summary>{_table(['', ''], inner)}</details>"
    parts += "".join(f"<p>{html.escape(note)}</p>" for note in typing_notes(report.get("measures", [])))
    beside = ""
    if report.get("baselines"):
        own = [[f"<b>{html.escape(report['model'])}</b>", f"{report['bits_per_byte']:.3f}"]]
        others = [[html.escape(name), f"{value:.3f}"] for name, value in report["baselines"].items()]
        beside = f"<h2>Bits per byte on {html.escape(report['text'])}</h2>" + _table(["", "bits per byte"], sorted(own + others, key=lambda row: row[1]))
    return f"<h2>Measures</h2>{_table(['', 'result', 'red: by chance', '95 % interval', 'n'], rows)}{parts}{beside}"


def _curve(workspace: Workspace, report: dict[str, Any]) -> str:
    run = next((run for run in list_runs(workspace) if run.label == report["model"]), None)
    return f"<h2>Training</h2>{_image(run.curve, 'loss by step')}" if run and run.curve.is_file() else ""


def _image(path: Path, text: str) -> str:
    data = base64.b64encode(path.read_bytes()).decode("ascii")
    return f'<img alt="{html.escape(text)}" src="data:image/png;base64,{data}">'


def _corpus(workspace: Workspace) -> str:
    manifest = workspace.manifest(workspace.corpus_manifest)
    if not manifest:
        return ""
    rows = [[html.escape(str(source["name"])), f"{source['documents']:,}", f"{source['bytes']:,}"] for source in manifest["sources"]]
    parts = [[name, f"{manifest[name]['documents']:,}", f"{manifest[name]['bytes']:,}"] for name in ("train", "val")]
    picture = workspace.processed / "report.png"
    return ("<h2>Corpus</h2>" + _table(["source", "documents", "bytes"], rows) + _table(["part", "documents", "bytes"], parts)
            + (_image(picture, "the corpus") if picture.is_file() else ""))  # fmt: skip


def _tokenizer(report: dict[str, Any]) -> str:
    found = report.get("tokenizer")
    if not found:
        return ""
    rows = [[html.escape(name.replace("_", " ")), f"{value:,.2f}".removesuffix(".00")] for name, value in found.items()]
    return "<h2>Tokenizer</h2>" + _table(["", ""], rows)


def _runs(workspace: Workspace) -> str:
    rows = []
    for run in list_runs(workspace):
        try:
            status, settings = run.status(), run.settings()
        except (OSError, ValueError):
            continue
        bits = run.bits_per_byte()
        rows.append([html.escape(run.label), f"{settings.get('parameters', 0) / 1e6:.1f} M", html.escape(str(status.get("state", ""))),
                     f"{status.get('step', 0):,}", f"{bits:.3f}" if bits else ""])  # fmt: skip
    return "<h2>Runs</h2>" + _table(["run", "size", "state", "steps", "bits per byte"], rows) if rows else ""


def _samples(report: dict[str, Any]) -> str:
    if not report.get("samples"):
        return ""
    items = "".join(f"<li><b>{html.escape(row['prompt'])}</b>{html.escape(row['continuation'])}</li>" for row in report["samples"])
    return f"<h2>Samples, none selected</h2><ul>{items}</ul>"
