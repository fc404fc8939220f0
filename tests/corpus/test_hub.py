"""Hugging Face data sets from a local server that speaks as the site does, as far as we ask it."""

from __future__ import annotations

import hashlib
import importlib.util
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import fake_hub
import pytest

pyarrow = pytest.importorskip("pyarrow")
pytest.importorskip("huggingface_hub")

from pyarrow import parquet  # noqa: E402

from tatar_llm.config import CorpusConfig  # noqa: E402
from tatar_llm.corpus import hub, prepare  # noqa: E402
from tatar_llm.corpus.download import Patience, SourceUnavailable  # noqa: E402
from tatar_llm.corpus.inputs import Input, gather, identities  # noqa: E402
from tatar_llm.corpus.sources import Shards, resolve  # noqa: E402
from tatar_llm.errors import TatarLLMError  # noqa: E402
from tatar_llm.languages import load_language  # noqa: E402
from tatar_llm.workspace import Workspace  # noqa: E402

TATAR = load_language("tat")
QUICK = Patience(connect=5.0, stall=5.0, backoff=0.01, longest=0.05, retries=2, poll=0.01)
TEXTS = [[f"{shard} нче файлның {row} нче тексты.\nИкенче юл бар." for row in range(3)] for shard in range(3)]


def texts_of(given: Input) -> list[list[str]]:
    return [document for batch in given.batches() for document in batch]


class Site(fake_hub.Hub):
    """One data set of a few files."""

    def __init__(self, folder: Path) -> None:
        super().__init__(Handler)
        self.dataset = "HuggingFaceFW/fineweb-2"
        self.commit = "a" * 40
        self.files: dict[str, bytes] = {}
        for number, texts in enumerate(TEXTS):
            path = folder / "x.parquet"
            parquet.write_table(pyarrow.table({"id": list(map(str, range(3))), "text": texts}), path)
            self.files[f"data/tat_Cyrl/train/000_0000{number}.parquet"] = path.read_bytes()
        self.files["data/tat_Cyrl/train/README.md"] = b"no text"
        self.files["data/tat_Cyrl/test/000_00000.parquet"] = b"not to be read"
        self.files["data/tah_Latn/train/000_00000.parquet"] = b"nor this"
        self.files["data/rus_Cyrl/train/000_00000.parquet"] = b"nor this"

    @property
    def downloads(self) -> list[str]:
        return [path.rpartition("/")[2] for path, _ in self.seen if "/resolve/" in path]


class Handler(fake_hub.HubHandler):
    server: Site

    def do_GET(self) -> None:
        site = self.server
        path = unquote(urlsplit(self.path).path)
        site.seen.append((path, self.headers.get("Authorization")))
        if path == f"/api/datasets/{site.dataset}":
            if site.broken == "busy":
                site.broken = ""
                return self.answer(429, b"", {"Retry-After": "0"})
            if site.broken in ("401", "404", "429"):
                return self.answer(int(site.broken), b'{"error": "no"}', {"X-Error-Message": "no"})
            return self.json({"id": site.dataset, "sha": site.commit, "author": "x"})
        if path.startswith(f"/api/datasets/{site.dataset}/tree/"):
            folder = path.split("/tree/", 1)[1].partition("/")[2]
            return self.tree(folder)
        if path.startswith(f"/datasets/{site.dataset}/resolve/{site.commit}/"):
            data = site.files[path.split(f"/resolve/{site.commit}/", 1)[1]]
            if site.broken == "gated":
                return self.answer(403, b"Access to dataset is restricted", {"X-Error-Code": "GatedRepo"})
            if site.broken == "changed":
                data = data[:-20] + b"?" * 16 + data[-4:]
            return self.answer(200, data, {})
        return self.answer(404, b'{"error": "not found"}', {"X-Error-Code": "EntryNotFound"})

    def tree(self, folder: str) -> None:
        inside = [path for path in self.server.files if not folder or path.startswith(f"{folder}/")]
        rows: dict[str, dict[str, Any]] = {}
        for path in inside:
            name, *deeper = path.removeprefix(f"{folder}/" if folder else "").split("/")
            whole = f"{folder}/{name}" if folder else name
            if deeper:
                rows[whole] = {"type": "directory", "oid": "0", "size": 0, "path": whole}
            else:
                data = self.server.files[path]
                lfs = {"oid": hashlib.sha256(data).hexdigest(), "size": len(data), "pointerSize": 134}
                rows[whole] = {"type": "file", "oid": "0", "size": len(data), "path": whole, "lfs": lfs}
        if not rows:
            return self.answer(404, b'{"error": "no such folder"}', {"X-Error-Code": "EntryNotFound"})
        return self.json(list(reversed(rows.values())))


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    server = Site(tmp_path)
    with fake_hub.at_work(server, tmp_path / "hf", monkeypatch):
        yield server


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path / "Минем эш")


def read(workspace: Workspace, limit_bytes: int = 0) -> Input:
    config = CorpusConfig(source=("fineweb2",), limit_bytes=limit_bytes)
    sources = resolve(config.source, TATAR)
    (given,), why = gather(config, TATAR, sources, workspace, False, None, QUICK)
    assert why is None and given.kind == "blank" and given.where["licence"] == "ODC-BY 1.0"
    return given


ALL = [text.split("\n") for texts in TEXTS for text in texts]


def test_shards_are_read_in_order_and_then_without_network(
    site: Site, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = read(workspace)
    assert texts_of(given) == ALL == texts_of(given)
    assert site.downloads == ["000_00000.parquet", "000_00001.parquet", "000_00002.parquet"]
    assert given.where["url"] == f"{site.url}/datasets/{site.dataset}/tree/{site.commit}"
    folder = workspace.raw / "fineweb2" / "tat_Cyrl"
    noted = json.loads((folder / hub.LIST).read_text())
    assert noted["commit"] == site.commit and [row["bytes"] for row in noted["shards"]] == [
        len(site.files[f"data/tat_Cyrl/train/{name}"]) for name in site.downloads
    ]
    asked = len(site.seen)
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    again = read(workspace)
    assert texts_of(again) == ALL and again.sha256 == given.sha256 and len(site.seen) == asked


def test_a_later_run_keeps_to_the_version_of_the_first(site: Site, workspace: Workspace) -> None:
    read(workspace)
    site.commit = "b" * 40
    asked = len(site.seen)
    assert texts_of(read(workspace)) == ALL and len(site.seen) == asked


def test_a_version_that_is_gone_is_replaced_by_the_newest(
    site: Site, workspace: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    read(workspace)
    site.commit = "b" * 40
    (workspace.raw / "fineweb2" / "tat_Cyrl" / "000_00001.parquet").unlink()
    assert texts_of(read(workspace)) == ALL
    assert "version aaaaaaaa cannot be had any more, taking bbbbbbbb" in capsys.readouterr().err
    assert site.downloads[3:] == ["000_00001.parquet"] * 2, "what has not changed is not fetched again"


def test_a_limit_spares_downloads(site: Site, workspace: Workspace) -> None:
    size = len(site.files["data/tat_Cyrl/train/000_00000.parquet"])
    few = read(workspace, limit_bytes=size // 4)
    assert texts_of(few) == ALL[:3] and len(site.downloads) == 1
    assert texts_of(read(workspace, limit_bytes=size // 2)) == ALL[:6]
    whole = read(workspace)
    assert texts_of(whole) == ALL and whole.sha256 != few.sha256 and len(site.downloads) == 3


def test_a_damaged_shard_is_refused_and_a_damaged_copy_repaired(site: Site, workspace: Workspace) -> None:
    site.broken = "changed"
    with pytest.raises(SourceUnavailable, match="SHA-256"):
        read(workspace)
    assert not list(workspace.raw.rglob("*.parquet")) and not list(workspace.raw.rglob("*.part"))
    site.broken = ""
    read(workspace)
    (workspace.raw / "fineweb2" / "tat_Cyrl" / "000_00002.parquet").write_bytes(b"PAR1 and so on PAR1")
    assert texts_of(read(workspace)) == ALL


def test_a_token_is_sent(site: Site, workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    read(workspace)
    assert {token for _, token in site.seen} == {"Bearer hf_secret"}


def test_without_one_nothing_is_sent(site: Site, workspace: Workspace) -> None:
    read(workspace)
    assert {token for _, token in site.seen} == {None}


@pytest.mark.parametrize(
    ("broken", "said"),
    [
        ("401", "does not exist on .* or is one which asks for a login: accept the terms on .* set it as HF_TOKEN"),
        ("gated", "HTTP 403 .*, which asks for a login: accept the terms on .*/datasets/HuggingFaceFW/fineweb-2, make a token"),
        ("404", "has no data set HuggingFaceFW/fineweb-2"),
        ("429", "answered HTTP 429; try again later"),
    ],
)
def test_what_the_site_refuses(site: Site, workspace: Workspace, broken: str, said: str) -> None:
    site.broken = broken
    with pytest.raises(SourceUnavailable, match=said) as caught:
        read(workspace)
    assert "\n" not in str(caught.value)


def test_a_busy_site_is_asked_again(site: Site, workspace: Workspace) -> None:
    site.broken = "busy"
    assert texts_of(read(workspace)) == ALL


def test_a_missing_part_names_those_there_are(site: Site, workspace: Workspace) -> None:
    source = Shards("fineweb2", site.dataset, "data/tat_Cyr/train/*.parquet", "tat_Cyr")
    with pytest.raises(TatarLLMError) as caught:
        hub.fetch_shards(source, workspace.raw, 0, QUICK)
    said = str(caught.value)
    assert "it has no part 'tat_Cyr' (did you mean tat_Cyrl?), but tah_Latn, tat_Cyrl and 1 more" in said
    moved = Shards("tt-books", site.dataset, "default/train/*.parquet")
    with pytest.raises(TatarLLMError, match="its authors have moved them"):
        hub.fetch_shards(moved, workspace.raw, 0, QUICK)
    assert not workspace.raw.exists()


def test_no_network(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(SourceUnavailable, match=r"could not be listed .*check the connection") as caught:
        read(workspace)
    assert "\n" not in str(caught.value)


def test_without_the_extra(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(TatarLLMError, match=r"needs two more libraries: pip install huggingface_hub pyarrow"):
        read(workspace)


def test_a_finished_corpus_needs_neither_site_nor_files(
    site: Site, workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["китап", "урман", "елга", "әни", "көн", "төн", "кояш", "җил", "һава", "өй", "үрдәк", "таң", "сүз", "юл", "бала", "ак"]
    for number, path in enumerate(sorted(site.files)[-4:-1]):
        texts = [" ".join(words[(i * 7 + j * (number + 3)) % 16] for j in range(9)).capitalize() + f" {i}." for i in range(200)]
        parquet.write_table(pyarrow.table({"text": texts}), tmp_path / "y.parquet")
        site.files[path] = (tmp_path / "y.parquet").read_bytes()
    own = tmp_path / "own.txt"
    own.write_text("".join(f"Бу минем үз текстым, {i} нче җөмлә.\n" for i in range(50)), encoding="utf-8")
    config = CorpusConfig(source=("fineweb2", str(own)))
    manifest = prepare(config, workspace, patience=QUICK)
    assert [row["name"] for row in manifest["sources"]] == ["fineweb2", "own.txt"], "the report keeps them apart"
    assert manifest["sources"][0]["licence"] == "ODC-BY 1.0"
    assert identities(resolve(config.source, TATAR), workspace, sample_size=0)
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    for path in workspace.raw.rglob("*.parquet"):
        path.unlink()
    capsys.readouterr()
    assert prepare(config, workspace, patience=QUICK) == manifest
    assert "nothing to do" in capsys.readouterr().err
