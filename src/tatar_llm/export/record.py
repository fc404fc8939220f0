"""What is known of how a model was made: its text with licences, its settings, what was measured. For the model card."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tatar_llm.corpus.inputs import GENERATED
from tatar_llm.corpus.sources import Local, Sample, Shards, known_sources, resolve
from tatar_llm.errors import TatarLLMError
from tatar_llm.languages import find_language
from tatar_llm.training.runs import ModelPlace
from tatar_llm.workspace import Workspace, read_json

LICENCE_IDS = {
    "CC BY 4.0": "cc-by-4.0",
    "CC BY-SA 4.0": "cc-by-sa-4.0",
    "ODC-BY 1.0": "odc-by",
    "Apache-2.0": "apache-2.0",
    "MIT": "mit",
}
"""A licence as sources.toml names it -> the Hub's identifier. A label that is not the authors' own has none."""
SETTINGS = {
    "model": {"block_size", "dropout"},
    "train": {"optimizer", "learning_rate", "muon_rate", "schedule", "warmup_iters", "weight_decay"},
    "plan": {"micro_batch", "accumulation", "device", "precision"},
}
MEASURE = {"name", "title", "value", "unit", "n", "interval", "chance"}
"""What the card reads of settings.json and of a measure; a file of another version may lack some of it."""


@dataclass(frozen=True)
class Text:
    """A source of training text."""

    name: str
    what: str = ""
    licence: str = ""
    """Empty: nobody has recorded one."""
    citation: str = ""
    url: str = ""
    dataset: str = ""
    """Its name on the Hugging Face Hub, where it comes from there."""


@dataclass(frozen=True)
class Record:
    """What the workspace tells about a model; each part empty where it tells nothing."""

    texts: tuple[Text, ...] = ()
    settings: dict[str, Any] = field(default_factory=dict)
    """settings.json of its run."""
    status: dict[str, Any] = field(default_factory=dict)
    """status.json of its run."""
    report: dict[str, Any] = field(default_factory=dict)
    """What `tatar-llm evaluate` measured of this very model."""

    @property
    def licence(self) -> str:
        """The Hub's identifier of the one licence that all its text has; empty where there are several or one is not known."""
        found = {LICENCE_IDS.get(text.licence, "") for text in self.texts}
        return found.pop() if len(found) == 1 else ""

    @property
    def unlicensed(self) -> list[str]:
        """Names of the texts of which no licence is recorded."""
        return [text.name for text in self.texts if not text.licence]


def read_record(workspace: Workspace, place: ModelPlace, facts: dict[str, Any]) -> Record:
    """Gather what the model's run and the workspace tell about the model at `place`, whose file says `facts`."""
    settings = _read(place.model.parent / "settings.json", SETTINGS)
    return Record(
        texts=_texts(workspace, place, settings, facts),
        settings=settings,
        status=_read(place.model.parent / "status.json"),
        report=_report(workspace, place, facts),
    )


def _texts(
    workspace: Workspace, place: ModelPlace, settings: dict[str, Any], facts: dict[str, Any]
) -> tuple[Text, ...]:
    """The sources: from the corpus's manifest where the model was trained on that corpus, else by the names it remembers."""
    rows = _corpus_rows(workspace, settings)
    if not rows:
        rows = [{"name": name} for name in (facts.get("corpus") or "").split(" + ") if name]
        rows += [{"name": GENERATED}] if facts.get("generated_bytes") else []
    return tuple(_text(row, place, facts.get("language") or "") for row in rows)


def _corpus_rows(workspace: Workspace, settings: dict[str, Any]) -> list[dict[str, Any]]:
    """Sources in data/processed/manifest.json, if the run's token files were made from the text that lies there now."""
    corpus = workspace.manifest(workspace.corpus_manifest) or {}
    tokens = workspace.manifest(workspace.tokens_manifest) or {}
    with contextlib.suppress(KeyError, TypeError):
        same = tokens["train"]["sha256"] == settings["train_tokens_sha256"]
        if same and tokens["train"]["text_sha256"] == corpus["train"]["sha256"]:
            return list(corpus["sources"])
    return []


def _text(row: dict[str, Any], place: ModelPlace, code: str) -> Text:
    name = row["name"]
    if name == GENERATED:
        return Text(name, "sentences that the grammar of tatar-llm makes", "MIT", "The tatar-llm developers")
    told = Text(name, licence=row.get("licence", ""), url=row.get("url", ""))
    try:
        language = find_language(code, place.model.parent)
        source = known_sources(language).get(name) or (resolve((name,), language)[0] if told.licence else None)
    except (TatarLLMError, OSError):
        return told
    if source is None or isinstance(source, Local):
        return told
    dataset = source.dataset if isinstance(source, Shards) else ""
    what = source.what.partition(";")[0] if isinstance(source, Sample) else source.what  # the rest is about our own flags
    return Text(name, what, told.licence or source.licence, source.citation, told.url, dataset)


def _report(workspace: Workspace, place: ModelPlace, facts: dict[str, Any]) -> dict[str, Any]:
    """The newest report on this model, with its FLORES bits; a run is never overwritten, so its name and step tell it from any other."""

    def mine(report: Any) -> bool:
        return (
            isinstance(report, dict) and (report.get("model"), report.get("step")) == (place.name, facts.get("step"))
            and all(isinstance(one, dict) and one.keys() >= MEASURE for one in _list(report.get("measures")))
        )  # fmt: skip

    found = [_read(workspace.reports / "report.json"), *_list(_read(workspace.reports / "comparison.json").get("models"))]
    report: dict[str, Any] = next(filter(mine, found), {})
    if mine(goldfish := _read(workspace.reports / "goldfish.json")):
        report = report | {"measures": _list(report.get("measures")) + _list(goldfish.get("measures"))}
    return report


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _read(path: Path, needed: dict[str, set[str]] | None = None) -> dict[str, Any]:
    """A JSON file's content; empty where it is missing, damaged, or lacks what is needed of its parts."""
    with contextlib.suppress(OSError, ValueError, AttributeError, KeyError):
        found = read_json(path)
        if isinstance(found, dict) and all(keys <= found[part].keys() for part, keys in (needed or {}).items()):
            return found
    return {}
