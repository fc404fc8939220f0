"""The stage as a whole: what it writes, when it skips, when it falls back, what it says about bad input."""

from __future__ import annotations

import gzip
import json
import os
import random
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tatar_llm.config import CorpusConfig
from tatar_llm.corpus import prepare, sources
from tatar_llm.corpus.download import Patience
from tatar_llm.corpus.preparation import corpus_name
from tatar_llm.corpus.sources import Sample
from tatar_llm.corpus.split import part, position
from tatar_llm.errors import TatarLLMError
from tatar_llm.grammar import generate
from tatar_llm.workspace import Workspace, read_json, sha256_file, write_json

OFFLINE = {"urls": ("http://127.0.0.1:9/",), "patience": Patience(connect=2.0, backoff=0.01)}
WORDS = [
    "китап", "урман", "елга", "әни", "көн", "төн", "кояш", "җил", "һава", "өй", "үрдәк", "таң",
    "сүз", "юл", "бала", "мәктәп", "шәһәр", "ак", "кара", "зур",
]


def sentences(count: int, seed: int = 0) -> list[str]:
    chance = random.Random(seed)
    return [" ".join(chance.choices(WORDS, k=8)).capitalize() + "." for _ in range(count)]


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path / "Минем эш")


def write(path: Path, lines: list[str]) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8", newline="\n")
    return str(path)


def config(*sources: str, **more: object) -> CorpusConfig:
    return CorpusConfig(source=sources, **more)  # type: ignore[arg-type]


def documents(path: Path, mode: str) -> set[str]:
    text = path.read_text(encoding="utf-8")
    return set(filter(None, text.split("\n" if mode == "line" else "\n\n")))


def test_a_list_of_sentences(workspace: Workspace, tmp_path: Path) -> None:
    lines = sentences(600)
    source = write(tmp_path / "а б.txt", [*lines, lines[5].upper(), "Кыска.", "hәм кар ява бүген урамда."])
    manifest = prepare(config(source), workspace)
    assert manifest == read_json(workspace.corpus_manifest)
    assert (manifest["stage"], manifest["document"], manifest["corpus"]) == ("prepare", "line", "а б.txt")
    assert manifest["small"] is True and manifest["fallback"] is None and manifest["language"] == "tat"
    train, val = documents(workspace.train_text, "line"), documents(workspace.val_text, "line")
    assert not train & val and train | val == {*lines, "һәм кар ява бүген урамда."}
    assert 0.05 < len(val) / 601 < 0.16, "a small corpus holds out a tenth"
    for name, path, found in (("train", workspace.train_text, train), ("val", workspace.val_text, val)):
        said = manifest[name]
        assert said["documents"] == said["lines"] == len(found)
        assert said["characters"] == sum(map(len, found)) and said["words"] == sum(len(line.split()) for line in found)
        assert said["bytes"] == path.stat().st_size and said["sha256"] == sha256_file(path)
        assert b"\r" not in path.read_bytes()
    row = manifest["sources"][0]
    assert (row["name"], row["file"], row["documents"], row["sha256"]) == ("а б.txt", "а б.txt", 601, sha256_file(source))
    assert row["bytes"] == manifest["train"]["bytes"] + manifest["val"]["bytes"]
    left = sorted(path.name for path in workspace.processed.iterdir())
    assert left == ["manifest.json", "report.json", "report.md", "report.png", "train.txt", "val.txt"]


def test_the_report(workspace: Workspace, tmp_path: Path) -> None:
    one = write(tmp_path / "one.txt", [*sentences(300), "Кыска."])
    two = write(tmp_path / "two" / "one.txt", [*sentences(300, 1), "This is | English *text*."])
    prepare(config(one, two), workspace)
    report = read_json(workspace.processed / "report.json")
    short = report["rules"]["too short"]
    assert (short["in"], short["out"], short["dropped"], short["examples"]) == (602, 601, 1, ["Кыска."])
    second = "two/one.txt"
    assert report["sources"][second]["rules"]["other script"]["dropped"] == 1
    assert report["totals"]["lines"] == 600 == sum(row["lines"] for row in report["line_lengths"])
    assert {row["letter"] for row in report["letters"] if row["own"]} == set("әөүҗң" + "һ")
    text = (workspace.processed / "report.md").read_text(encoding="utf-8")
    assert "cannot judge a model" in text and "This is \\| English" in text and "█" in text
    assert (workspace.processed / "report.png").read_bytes().startswith(b"\x89PNG")


def test_documents(workspace: Workspace, tmp_path: Path) -> None:
    long = "Бу озын юл ике документта да бар, шуңа күрә икенчесендә төшеп кала инде."
    pages = [[f"{i} нче бит.", "Әйе.", *sentences(3, i)] for i in range(200)]
    pages[10].append(long)
    pages[20].append(long)
    pages += [pages[3], ["1", "***"], ["abc def"]]
    source = tmp_path / "a.jsonl.gz"
    source.write_bytes(gzip.compress("\n".join(json.dumps({"text": "\n".join(page)}) for page in pages).encode()))
    manifest = prepare(config(str(source)), workspace)
    assert manifest["document"] == "blank"
    train, val = (documents(path, "blank") for path in (workspace.train_text, workspace.val_text))
    assert not train & val and len(train | val) == 200
    assert sum(long in page for page in train | val) == 1 and all("Әйе." in page for page in train | val)
    report = read_json(workspace.processed / "report.json")
    assert report["rules"]["repeated document"]["dropped"] == 5 and report["rules"]["repeated line"]["dropped"] == 1
    assert workspace.train_text.read_text(encoding="utf-8").endswith(".\n\n")


def test_lists_and_documents_together_and_a_folder(
    workspace: Workspace, tmp_path: Path, leipzig: Callable[..., bytes]
) -> None:
    lines = sentences(400)
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.tar.gz").write_bytes(leipzig(lines))
    write(tmp_path / "in" / "b.txt", ["Беренче бит.", "Икенче юл.", "", "Икенче бит."])
    manifest = prepare(config(str(tmp_path / "in")), workspace)
    assert manifest["document"] == "blank" and manifest["corpus"] == "a.tar.gz + b.txt"
    both = documents(workspace.train_text, "blank") | documents(workspace.val_text, "blank")
    assert {"Беренче бит.\nИкенче юл.", "Икенче бит.", lines[0]} <= both and len(both) == 402
    assert corpus_name(list("abcdef")) == "a + b + c + 3 more"


def test_the_split_stays_when_a_source_is_added(tmp_path: Path) -> None:
    one, two = write(tmp_path / "1.txt", sentences(500)), write(tmp_path / "2.txt", sentences(500, 1))
    alone, both = Workspace(tmp_path / "x"), Workspace(tmp_path / "y")
    prepare(config(one), alone)
    prepare(config(two, one), both)
    for name in ("train_text", "val_text"):
        assert documents(getattr(alone, name), "line") <= documents(getattr(both, name), "line")


def test_a_large_corpus_holds_out_what_was_asked(workspace: Workspace, tmp_path: Path) -> None:
    source = write(tmp_path / "a.txt", sentences(34_000))
    manifest = prepare(config(source, val_share=0.03), workspace)
    assert not manifest["small"]
    assert 0.025 < manifest["val"]["documents"] / manifest["sources"][0]["documents"] < 0.035
    assert all(part(position(line), 0.03) == "val" for line in documents(workspace.val_text, "line"))


def test_limit(workspace: Workspace, tmp_path: Path) -> None:
    source = write(tmp_path / "a.txt", sentences(3000))
    manifest = prepare(config(source, limit_bytes=50_000), workspace)
    assert 50_000 <= manifest["train"]["bytes"] + manifest["val"]["bytes"] < 50_200


def test_skipping(workspace: Workspace, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = write(tmp_path / "a.txt", sentences(300))

    def runs(given: CorpusConfig, **more: bool) -> bool:
        capsys.readouterr()
        prepare(given, workspace, **more)
        captured = capsys.readouterr()
        assert captured.out == ""
        return "nothing to do" not in captured.err

    given = config(source)
    assert runs(given) and not runs(given)
    assert runs(given, force=True)
    assert runs(config(source, min_chars=20)) and runs(given)
    workspace.val_text.write_text("өстәлгән юл\n", encoding="utf-8")
    assert runs(given) and not runs(given)
    workspace.corpus_manifest.write_text("{", encoding="utf-8")
    assert runs(given) and not runs(given)
    write(Path(source), sentences(301))
    assert runs(given)


def test_an_interrupted_run_leaves_the_old_result(
    workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = prepare(config(write(tmp_path / "a.txt", sentences(300))), workspace)

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("tatar_llm.corpus.worker.Worker.__call__", interrupt)
    with pytest.raises(KeyboardInterrupt):
        prepare(config(write(tmp_path / "b.txt", sentences(300, 1))), workspace)
    assert read_json(workspace.corpus_manifest) == first and sha256_file(workspace.train_text) == first["train"]["sha256"]
    assert len(list(workspace.processed.iterdir())) == 6


def test_the_result_does_not_depend_on_the_number_of_processes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tatar_llm.corpus.readers.BATCH", 1 << 15)
    lines = sentences(6_000)
    long = " ".join(lines[:3])
    lines[100:100] = ["hәм  кар ява бүген урамда.", "Она не может, она сейчас заплачет...", lines[50].upper(), long, "Ә " + long]
    source = write(tmp_path / "a.txt", lines)
    found = []
    for processes in (1, 2, 3):
        workspace = Workspace(tmp_path / str(processes))
        manifest = prepare(config(source, processes=processes), workspace)
        report = read_json(workspace.processed / "report.json")
        rules = {name: (row["in"], row["changed"], row["dropped"], row["examples"]) for name, row in report["rules"].items()}
        found.append((manifest["train"], manifest["val"], manifest["fingerprint"], rules))
        assert not list(workspace.processed.glob(".*"))
    assert found[0] == found[1] == found[2] and found[0][3]["near repeat"][2] >= 1


def test_near_repeats_across_sources(workspace: Workspace, tmp_path: Path) -> None:
    lines = sentences(400)
    long = "Казан шәһәрендә бүген иртән иртүк яңа китапханә ачылды, анда балалар өчен дә, олылар өчен дә урын бар."
    changed = long.replace("иртән иртүк", "иртән иртүк бик")
    one, two = write(tmp_path / "1.txt", [*lines, long]), write(tmp_path / "2.txt", [*sentences(100, 1), changed, long.upper()])
    prepare(config(one, two), workspace)
    text = workspace.train_text.read_text(encoding="utf-8") + workspace.val_text.read_text(encoding="utf-8")
    assert long in text and changed not in text and long.upper() not in text
    rules = read_json(workspace.processed / "report.json")["sources"]["2.txt"]["rules"]
    assert rules["near repeat"]["dropped"] == 1 and rules["repeated line"]["dropped"] == 1
    prepare(config(one, two, near_threshold=0.0), workspace)
    assert changed in workspace.train_text.read_text(encoding="utf-8") + workspace.val_text.read_text(encoding="utf-8")


def test_page_furniture_of_documents(workspace: Workspace, tmp_path: Path) -> None:
    pages = [["Иске шәһәр хәбәрләре", *sentences(4, i), "Уртага салып сөйләш"] for i in range(40)]
    pages[7].insert(3, "Иске шәһәр хәбәрләре")
    source = write(tmp_path / "a.txt", [line for page in pages for line in [*page, ""]])
    prepare(config(source), workspace)
    text = workspace.train_text.read_text(encoding="utf-8") + workspace.val_text.read_text(encoding="utf-8")
    assert text.count("Иске шәһәр хәбәрләре") == 1 and "Уртага салып" not in text
    report = read_json(workspace.processed / "report.json")
    assert report["rules"]["boilerplate"]["dropped"] == 80


def test_mixed_and_foreign_documents(workspace: Workspace, tmp_path: Path) -> None:
    russian = ["Она сегодня не пришла, потому что очень устала.", "Мы думали, что он уже уехал в город.", "Ага."]
    pages = [sentences(5, i) for i in range(100)]
    pages[3].insert(2, russian[0])
    pages[50] = russian
    source = write(tmp_path / "a.txt", [line for page in pages for line in [*page, ""]])
    prepare(config(source), workspace)
    text = workspace.train_text.read_text(encoding="utf-8") + workspace.val_text.read_text(encoding="utf-8")
    assert not any(line in text for line in russian) and all(line in text for line in sentences(5, 3))
    report = read_json(workspace.processed / "report.json")
    assert report["rules"]["foreign language"]["dropped"] == 1 and report["rules"]["foreign document"]["dropped"] == 3
    assert report["details"]["foreign document"] == {"Russian": 3}
    assert "| Russian | 4 |" in (workspace.processed / "report.md").read_text(encoding="utf-8")


def test_a_document_in_a_broken_font_is_dropped_and_reported(workspace: Workspace, tmp_path: Path) -> None:
    sample = [file.read_text(encoding="utf-8").replace("\n\n", "\n") for file in Sample().files()]
    broken = "".join(sample[:8]).translate(str.maketrans("әүӘҮ", "€¥€¥"))
    source = tmp_path / "a.jsonl"
    source.write_text("\n".join(json.dumps({"text": text}) for text in [*sample[8:60], broken]), encoding="utf-8")
    prepare(config(str(source)), workspace)
    report = read_json(workspace.processed / "report.json")
    assert report["broken_fonts"][0]["letters"] == {"ә": "€", "ү": "¥"} and report["rules"]["broken font"]["dropped"] > 50
    assert "ә as €, ү as ¥" in (workspace.processed / "report.md").read_text(encoding="utf-8")
    assert "€" not in workspace.train_text.read_text(encoding="utf-8")


def test_holdout(workspace: Workspace, tmp_path: Path) -> None:
    lines = [" ".join(random.Random(i).choices(WORDS, k=16)) + "." for i in range(500)]
    asked = write(tmp_path / "eval.txt", [lines[3].upper(), "сүз " + lines[7] + " тагын", "кыска юл", "бүтән текст анда юк бу сүзләр"])
    source = write(tmp_path / "a.txt", lines)
    manifest = prepare(config(source, holdout=(asked,)), workspace)
    assert manifest["holdout"] == [{"file": "eval.txt", "texts": 3, "lines_removed": 2}]
    text = workspace.train_text.read_text(encoding="utf-8") + workspace.val_text.read_text(encoding="utf-8")
    assert lines[3] not in text and lines[7] not in text and lines[4] in text
    assert "eval.txt | 3 | 2" in (workspace.processed / "report.md").read_text(encoding="utf-8")


def test_a_killed_run_leaves_nothing_for_long(workspace: Workspace, tmp_path: Path) -> None:
    left = workspace.processed / ".spool.999999.tmp"
    left.mkdir(parents=True)
    (left / "text").write_text("x")
    os.utime(left / "text", (0, 0))
    prepare(config(write(tmp_path / "a.txt", sentences(300))), workspace)
    assert not left.exists()


def test_the_sample(workspace: Workspace) -> None:
    manifest = prepare(config("sample", sample_size=0), workspace)
    assert manifest["corpus"] == "sample" and manifest["document"] == "blank" and manifest["fallback"] is None
    assert manifest["train"]["lines"] > manifest["train"]["documents"] > 10 and manifest["generated_bytes"] == 0


def test_generated_text_goes_to_training_alone(workspace: Workspace, tmp_path: Path) -> None:
    """The held-out text is the same hand-written one whatever the grammar adds, and the corpus stays a small one."""
    prepare(config("sample", sample_size=0), workspace)
    held_out, written = workspace.val_text.read_bytes(), workspace.train_text.read_bytes()
    other = Workspace(tmp_path / "other")
    manifest = prepare(config("sample", sample_size=300_000), other)
    assert other.val_text.read_bytes() == held_out and other.train_text.read_bytes().startswith(written[:-1000])
    assert manifest["corpus"] == "sample" and manifest["small"] and manifest["generated_bytes"] > 250_000
    names = {source["name"]: source["bytes"] for source in manifest["sources"]}
    assert set(names) == {"sample", "grammar"} and names["grammar"] == manifest["generated_bytes"]
    made = "\n\n".join("\n".join(document) for document in generate.documents(300_000))
    kept = other.train_text.read_text(encoding="utf-8")[len(written.decode()) :]
    assert len(kept) > 0.95 * len(made)  # nearly nothing of it is taken for a repeat or a fault
    assert prepare(config("sample", sample_size=300_000), other) == manifest
    assert prepare(config("sample", sample_size=310_000), other) != manifest


def test_fallback(workspace: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(TatarLLMError, match="leipzig-mixed-2015-1m could not be downloaded"):
        prepare(CorpusConfig(), workspace, **OFFLINE)
    manifest = prepare(CorpusConfig(sample_size=0), workspace, fallback=True, **OFFLINE)
    assert manifest["corpus"] == "sample" and "leipzig-mixed-2015-1m could not be downloaded" in manifest["fallback"]
    assert manifest["fallback"] in capsys.readouterr().err
    assert "sample corpus stands in" in (workspace.processed / "report.md").read_text(encoding="utf-8")
    again = prepare(CorpusConfig(sample_size=0), workspace, fallback=True, **OFFLINE)
    said = capsys.readouterr().err
    assert again == manifest and "nothing to do" in said and "could not be downloaded" in said, "it was tried again"
    with pytest.raises(TatarLLMError, match="could not be downloaded"):
        prepare(config("leipzig-news-2015-1m"), workspace, fallback=True, **OFFLINE)


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[Path, str]]:
    folder = tmp_path / "served"
    folder.mkdir()
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder)))
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    yield folder, f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()
    server.server_close()


def test_a_download_replaces_the_fallback_and_is_not_needed_again(
    workspace: Workspace,
    served: tuple[Path, str],
    leipzig: Callable[..., bytes],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder, url = served
    monkeypatch.setitem(sources.catalogue()["leipzig"], "pinned", {})
    assert prepare(CorpusConfig(sample_size=0), workspace, fallback=True, **OFFLINE)["fallback"]
    (folder / "tat_mixed_2015_1M.tar.gz").write_bytes(leipzig(sentences(500)))
    monkeypatch.setenv("TATAR_LLM_LEIPZIG_URLS", url)
    manifest = prepare(CorpusConfig(sample_size=0), workspace, fallback=True)
    assert manifest["corpus"] == "leipzig-mixed-2015-1m" and manifest["fallback"] is None
    assert manifest["sources"][0]["url"] == url + "tat_mixed_2015_1M.tar.gz"
    (workspace.raw / "tat_mixed_2015_1M.tar.gz").unlink()
    capsys.readouterr()
    assert prepare(CorpusConfig(sample_size=0), workspace, fallback=True, **OFFLINE) == manifest
    assert "nothing to do" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ([], "is empty"),
        (["", " "], "is empty"),
        (["Бүген урамда кар ява."], "too small: after cleaning it gives"),
        (["This is English text."] * 5 + ["кыска"], "all 6 lines were dropped, most of them (5) by the rule 'other script'"),
    ],
)
def test_too_little_text(workspace: Workspace, tmp_path: Path, lines: list[str], said: str) -> None:
    with pytest.raises(TatarLLMError) as caught:
        prepare(config(write(tmp_path / "a.txt", lines)), workspace)
    assert said in str(caught.value) and "\n" not in str(caught.value)
    assert not list(workspace.processed.iterdir())


def test_an_empty_file(workspace: Workspace, tmp_path: Path) -> None:
    (tmp_path / "a.txt").touch()
    with pytest.raises(TatarLLMError, match=r"a\.txt is empty: it holds no line of text"):
        prepare(config(str(tmp_path / "a.txt")), workspace)


def test_a_line_of_many_megabytes_is_cut_at_sentence_ends(workspace: Workspace, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text(" ".join(sentences(30_000)), encoding="utf-8")
    prepare(config(str(tmp_path / "a.txt"), max_chars=200), workspace)
    text = workspace.train_text.read_text(encoding="utf-8")
    assert len(text) > 1_000_000 and max(map(len, text.splitlines())) <= 200
    assert sum(line.endswith(".") for line in text.splitlines()) > 0.99 * len(text.splitlines())
    rules = read_json(workspace.processed / "report.json")["rules"]
    assert rules["long line"]["changed"] > 5000 and rules["wrong decoding"]["in"] > 5000


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"val_share": 0.0}, "val_share"),
        ({"val_share": 0.9}, "val_share"),
        ({"min_cyrillic": 2.0}, "min_cyrillic"),
        ({"min_chars": 50, "max_chars": 10}, "leave no line"),
        ({"limit_bytes": -1}, "limit_bytes"),
        ({"near_threshold": 0.3}, "near_threshold"),
        ({"processes": -1}, "processes"),
        ({"sample_size": -1}, "sample_size"),
        ({"holdout": ("нет.txt",)}, "holdout"),
        ({"language": "zzz"}, "no language"),
    ],
)
def test_wrong_settings(workspace: Workspace, settings: dict[str, object], said: str) -> None:
    with pytest.raises(TatarLLMError, match=said):
        prepare(config("sample", **settings), workspace)


def test_a_manifest_of_another_kind_does_not_disturb(workspace: Workspace) -> None:
    write_json(workspace.corpus_manifest, {"sources": "x", "train": 5})
    assert prepare(config("sample", sample_size=0), workspace)["corpus"] == "sample"


def test_importing_is_light() -> None:
    code = "import sys, tatar_llm.corpus, tatar_llm.corpus.preparation; print([m for m in ('torch', 'ssl', 'rich', 'matplotlib', 'ftfy', 'pyarrow', 'pycld2', 'huggingface_hub') if m in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
