"""What a card tells beyond the model itself: text and licences, settings, figures. Read back as the Hub reads it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tatar_llm.config import GPTConfig
from tatar_llm.export.card import hf_card
from tatar_llm.export.record import Record, Text, read_record
from tatar_llm.training import ModelPlace
from tatar_llm.workspace import Workspace, write_json

FACTS: dict[str, Any] = {"step": 90, "val": {"bits_per_byte": 0.9}, "language": "tat", "corpus": "leipzig-mixed-2015-1m + өй|эш.txt"}
CONFIG = GPTConfig(n_layer=2, n_head=4, n_embd=64, block_size=32, vocab_size=400)
SETTINGS: dict[str, Any] = {
    "model": {"block_size": 32, "dropout": 0.1},
    "train": {"optimizer": "muon", "learning_rate": 0.004, "muon_rate": 0.02, "schedule": "linear", "warmup_iters": 5, "weight_decay": 0.1},
    "plan": {"micro_batch": 4, "accumulation": 2, "device": "cuda", "precision": "bf16"},
    "train_tokens": 1000, "train_tokens_sha256": "t", "baselines": {"bigram": 1.1, "unigram": 1.5}, "small": False,
}  # fmt: skip
PAIRS = {"name": "pairs", "title": "minimal pairs", "value": 0.75, "n": 1600, "interval": [0.73, 0.77], "chance": 0.5, "unit": "share"}
SHARDS = {"name": "fineweb2", "licence": "ODC-BY 1.0", "url": "https://huggingface.co/datasets/HuggingFaceFW/fineweb-2/tree/abc"}


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    """A run on two sources, measured."""
    found = Workspace(tmp_path)
    sources = [SHARDS, {"name": "tat_news_2005-2011_10K", "licence": "CC BY 4.0"}, {"name": "own|file.txt", "file": "own|file.txt"}]
    write_json(found.corpus_manifest, {"train": {"sha256": "c"}, "sources": sources, "settings": {"source": ["/home/sara/own|file.txt"]}})
    write_json(found.tokens_manifest, {"train": {"sha256": "t", "text_sha256": "c"}})
    write_json(found.runs / "001-x" / "settings.json", SETTINGS)
    write_json(found.runs / "001-x" / "status.json", {"tokens": 8000, "seconds": 3700})
    write_json(found.reports / "report.json", {"model": "001-x", "step": 90, "measures": [PAIRS], "copied": 0.031, "samples": [{}] * 20,
                                               "baselines": {"5-gram": 1.0, "bigram": 1.1}})  # fmt: skip
    return found


@pytest.fixture
def place(workspace: Workspace) -> ModelPlace:
    return ModelPlace("001-x", workspace.runs / "001-x" / "best_model.pt", workspace.tokenizer)


def metadata(card: str, tmp_path: Path) -> dict[str, Any]:
    """As the Hub's own library reads it."""
    hub = pytest.importorskip("huggingface_hub")
    (tmp_path / "card.md").write_text(card, encoding="utf-8", newline="\n")
    return hub.ModelCard.load(tmp_path / "card.md").data.to_dict()


def test_all_of_it_is_told(workspace: Workspace, place: ModelPlace, tmp_path: Path) -> None:
    record = read_record(workspace, place, FACTS)
    assert [text.dataset for text in record.texts] == ["HuggingFaceFW/fineweb-2", "", ""]
    assert [text.licence for text in record.texts] == ["ODC-BY 1.0", "CC BY 4.0", ""]
    assert record.licence == "" and record.unlicensed == ["own|file.txt"]
    card = hf_card(place, FACTS, CONFIG, record, "sara/x")
    for part in (
        "| [fineweb2](https://huggingface.co/datasets/HuggingFaceFW/fineweb-2/tree/abc) | the web, filtered; Common Crawl's terms of use "
        "hold too | ODC-BY 1.0 |",
        "| own\\|file.txt |  | not recorded |", "No licence is named for the model", "- D. Goldhahn", "- G. Penedo",
        "| minimal pairs | 75.0% | 73.0% to 77.0% | 1,600 | 50.0% |", "a Kneser-Ney 5-gram 1.000, a Kneser-Ney bigram 1.100",
        "| a step | 8 windows of 32 tokens |", "| tokens seen | 8,000, 8.0 passes over 1,000 |", "| time | 1 h 2 min on cuda, bf16 |",
        '"learning_rate": 0.004', "of the words in 20 samples 3.1% stood", "No licence is recorded for own\\|file.txt", 'name = "sara/x"',
    ):  # fmt: skip
        assert part in card, part
    assert "/home/sara" not in card and str(tmp_path) not in card
    told = metadata(card, tmp_path)
    assert told["language"] == ["tt"] and told["tags"] == ["tatar-llm"] and told["datasets"] == ["HuggingFaceFW/fineweb-2"]
    assert told["pipeline_tag"] == "text-generation" and told["library_name"] == "transformers" and "license" not in told
    index = told["model-index"][0]
    values = {row["dataset"]["type"]: row["metrics"][0] for row in index["results"]}
    assert index["name"] == "x" and values["held-out"]["value"] == 0.9 and values["pairs"]["type"] == "accuracy"
    assert metadata(hf_card(place, FACTS, CONFIG, record, "sara/x", "cc-by-4.0"), tmp_path)["license"] == "cc-by-4.0"


def test_the_flores_bits_stand_beside_the_report(workspace: Workspace, place: ModelPlace) -> None:
    bits = PAIRS | {"name": "goldfish", "title": "FLORES bits", "value": 101.5}
    write_json(workspace.reports / "goldfish.json", {"model": "001-x", "step": 90, "measures": [bits]})
    assert [one["name"] for one in read_record(workspace, place, FACTS).report["measures"]] == ["pairs", "goldfish"]
    write_json(workspace.reports / "goldfish.json", {"model": "000-other", "step": 90, "measures": [bits]})
    assert [one["name"] for one in read_record(workspace, place, FACTS).report["measures"]] == ["pairs"]


def test_a_text_prepared_since_is_not_taken_for_the_model_s(workspace: Workspace, place: ModelPlace) -> None:
    write_json(workspace.corpus_manifest, {"train": {"sha256": "other"}, "sources": [SHARDS]})
    texts = read_record(workspace, place, FACTS | {"generated_bytes": 5}).texts
    assert [(text.name, text.licence) for text in texts] == [("leipzig-mixed-2015-1m", "CC BY 4.0"), ("өй|эш.txt", ""), ("grammar", "MIT")]


@pytest.mark.parametrize("other", [{"model": "002-y"}, {"step": 91}, {"measures": [{"name": "pairs"}]}, {"measures": [3]}], ids=str)
def test_another_model_s_report_is_not_this_one_s(workspace: Workspace, place: ModelPlace, other: dict[str, Any]) -> None:
    mine = {"model": "001-x", "step": 90, "measures": [PAIRS]}
    write_json(workspace.reports / "report.json", mine | other)
    assert read_record(workspace, place, FACTS).report == {}
    write_json(workspace.reports / "comparison.json", {"models": [mine | other, mine]})
    assert read_record(workspace, place, FACTS).report == mine


@pytest.mark.parametrize("content", ["", "[]", "{", '{"model": 3}', '{"model": {}, "train": {}, "plan": {}}'])
def test_damaged_or_older_files_are_left_out(workspace: Workspace, place: ModelPlace, content: str) -> None:
    for path in (*workspace.root.rglob("*.json"),):
        path.write_text(content, encoding="utf-8")
    record = read_record(workspace, place, FACTS)
    assert (record.settings, record.report) == ({}, {})
    assert "## Training\n" not in hf_card(place, FACTS, CONFIG, record)


def test_nothing_known(tmp_path: Path) -> None:
    place = ModelPlace("x", tmp_path / "x.pt", tmp_path)
    record = read_record(Workspace(tmp_path), place, {})
    assert record == Record()
    assert "license" not in metadata(hf_card(place, {}, CONFIG, record), tmp_path)
    assert metadata(hf_card(place, {}, CONFIG, record, licence="mit"), tmp_path)["license"] == "mit"


def test_strange_names_stay_texts(tmp_path: Path) -> None:
    place = ModelPlace("ә: [x\n---", tmp_path / "x.pt", tmp_path)
    facts = FACTS | {"corpus": 'a: "b"\n---\n- {c', "language": "no"}
    told = metadata(hf_card(place, facts, CONFIG, Record((Text("<b>\n|x", "y\n---\n"),))), tmp_path)
    assert told["language"] == ["no"] and told["model-index"][0]["name"] == place.name
    assert told["model-index"][0]["results"][0]["dataset"]["name"] == 'held-out part of a: "b"\n---\n- {c'


@pytest.mark.parametrize(
    ("licences", "found"), [(["MIT", "MIT"], "mit"), (["MIT (label)"], ""), (["MIT", ""], ""), (["CC BY-SA 4.0"], "cc-by-sa-4.0"), ([], "")]
)
def test_the_model_takes_over_the_one_licence_of_its_text(licences: list[str], found: str) -> None:
    assert Record(tuple(Text(str(number), licence=licence) for number, licence in enumerate(licences))).licence == found
