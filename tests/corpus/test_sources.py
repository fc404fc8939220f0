"""The list of sources, and what a name or path stands for."""

from __future__ import annotations

import json
import re
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tatar_llm import cli
from tatar_llm.config import DEFAULT_SOURCE
from tatar_llm.corpus.sources import (
    SAMPLE,
    URLS_VARIABLE,
    Local,
    Remote,
    Sample,
    Shards,
    catalogue,
    known_sources,
    leipzig_urls,
    listing,
    resolve,
)
from tatar_llm.errors import TatarLLMError
from tatar_llm.languages import language_codes, load_language

TATAR = load_language("tat")


def test_the_list_holds_what_it_should() -> None:
    rows = {row["name"]: row for row in listing(TATAR)}
    archives = {source.archive for source in known_sources(TATAR).values() if isinstance(source, Remote)}
    sizes = {"mixed_2015": 5, "news_2015": 5, "web_2018": 5, "news_2005-2011": 4, "wikipedia_2016": 3, "wikipedia_2021": 3}
    steps = ("10K", "30K", "100K", "300K", "1M")
    assert archives == {
        f"tat_{corpus}_{size}.tar.gz" for corpus, count in sizes.items() for size in steps[:count]
    } | {"tat_community_2017.tar.gz"}
    assert {"fineweb2", "wikipedia", "tt-crawl", "tt-books", SAMPLE, DEFAULT_SOURCE} <= rows.keys()
    assert rows[DEFAULT_SOURCE]["bytes"] == 200_822_852 and rows[DEFAULT_SOURCE]["what"] == "1,000,000 sentences: mixed, 2015"
    assert rows["leipzig-web-2018-10k"]["bytes"] is None and rows["leipzig-web-2018-10k"]["sha256"] is None
    assert len(rows["leipzig-web-2018-1m"]["urls"]) == 2
    assert rows["fineweb2"]["licence"] == "ODC-BY 1.0" and rows["tt-crawl"]["licence"] == "Apache-2.0"
    assert "copyright" in rows["tt-books"]["what"]


@pytest.mark.parametrize("code", language_codes())
def test_every_row_is_complete(code: str) -> None:
    for row in listing(load_language(code)):
        assert row["licence"] and row["what"] and row["citation"] and row["reader"] in ("leipzig", "parquet", "text")
        assert row["urls"] or row["name"] == SAMPLE
        assert all(urlsplit(url).scheme == "https" for url in row["urls"])
        assert row["bytes"] is None or row["bytes"] > 0
        assert not row["sha256"] or re.fullmatch("[0-9a-f]{64}", row["sha256"])


def test_pinned_archives_are_listed() -> None:
    archives = {source.archive for source in known_sources(TATAR).values() if isinstance(source, Remote)}
    assert archives >= catalogue()["leipzig"]["pinned"].keys()


def test_data_sets_follow_the_language() -> None:
    tatar, kazakh = known_sources(TATAR), known_sources(load_language("kaz"))
    assert isinstance(tatar["fineweb2"], Shards) and isinstance(kazakh["fineweb2"], Shards)
    assert tatar["fineweb2"].files == "data/tat_Cyrl/train/*.parquet" and tatar["fineweb2"].bytes
    assert kazakh["fineweb2"].files == "data/kaz_Cyrl/train/*.parquet" and kazakh["fineweb2"].bytes is None
    assert tatar["wikipedia"].files == "20231101.tt/train-*.parquet"
    assert not {"tt-crawl", "tt-books", SAMPLE, DEFAULT_SOURCE} & kazakh.keys()
    assert "leipzig-newscrawl-2016-1m" in kazakh


def test_mirrors_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    assert len(leipzig_urls()) == 2
    monkeypatch.setenv(URLS_VARIABLE, "http://a/ , http://b/x")
    assert leipzig_urls() == ("http://a/", "http://b/x")


def test_names_of_archives() -> None:
    sakha = load_language("sah")
    assert resolve(("sah_wikipedia_2021_30K",), sakha) == resolve(("sah_wikipedia_2021_30K.tar.gz",), sakha)
    (remote,) = resolve(("sah_wikipedia_2021_30K",), sakha)
    assert isinstance(remote, Remote) and remote.archive == "sah_wikipedia_2021_30K.tar.gz" and remote.sha256 is None
    assert remote.name == "sah_wikipedia_2021_30K" and remote.licence == "CC BY 4.0"
    assert resolve(("sah-ru_web-public_2019_1M",), sakha)[0].name == "sah-ru_web-public_2019_1M"
    assert resolve(("sah_community_2017",), sakha)[0].archive == "sah_community_2017.tar.gz"  # type: ignore[union-attr]
    listed = resolve(("tat_mixed_2015_1M", DEFAULT_SOURCE), TATAR)
    assert [source.name for source in listed] == [DEFAULT_SOURCE], "the same archive twice, once by each of its names"
    with pytest.raises(TatarLLMError, match="not of Tatar: add --language sah"):
        resolve(("sah_wikipedia_2021_30K",), TATAR)


def test_a_file_goes_before_an_archive_of_that_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("sah_wikipedia_2021_30K.tar.gz").write_bytes(b"")
    assert isinstance(resolve(("sah_wikipedia_2021_30K.tar.gz",), TATAR)[0], Local)


@pytest.mark.parametrize(
    ("code", "name", "said"),
    [
        ("tat", "leipzig-mixed-2015-2m", "did you mean leipzig-mixed-2015-1"),
        ("tat", "finweb2", "did you mean fineweb2"),
        ("tat", "absent.txt", "no source or file 'absent.txt'"),
        ("kaz", DEFAULT_SOURCE, "for Kazakh"),
        ("kaz", "tt-books", "`tatar-llm prepare --list --language kaz` shows the names; or give --source PATH"),
        ("kaz", "sample", "the sample corpus is Tatar; for Kazakh give --source PATH"),
        ("tat", "tat_web", "no source or file"),
        ("tat", "", "--source is empty"),
    ],
)
def test_unknown_names(code: str, name: str, said: str) -> None:
    with pytest.raises(TatarLLMError) as caught:
        resolve((name,), load_language(code))
    assert said in str(caught.value) and "\n" not in str(caught.value)


def test_a_language_that_does_not_name_its_part(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    text = (Path(cli.__file__).parent / "languages" / "kaz.toml").read_text(encoding="utf-8")
    path.write_text(re.sub(r"(?m)^(fineweb2|leipzig) = .*$", "", text), encoding="utf-8")
    language = load_language(str(path))
    assert [name for name in known_sources(language)] == ["wikipedia"]
    with pytest.raises(TatarLLMError, match=r'add fineweb2 = "\.\.\." to it'):
        resolve(("fineweb2",), language)
    assert resolve(("kaz_newscrawl_2016_1M",), language)[0].name == "kaz_newscrawl_2016_1M"


def test_two_files_with_one_name(tmp_path: Path) -> None:
    paths = [tmp_path / folder / "news.txt" for folder in ("2019", "2020", "x/2020")]
    for path in [*paths, tmp_path / "only.txt"]:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("сүз")
    given = (*map(str, paths), str(tmp_path / "only.txt"), str(tmp_path), str(tmp_path / "2019" / ".." / "2019" / "news.txt"))
    found = resolve(given, TATAR)
    assert [source.name for source in found] == ["2019/news.txt", "2020/news.txt", "2020/news.txt (2)", "only.txt"]
    assert [source.path for source in found if isinstance(source, Local)][:3] == paths


def test_many_sources_in_one_call(tmp_path: Path) -> None:
    (tmp_path / "a.parquet").write_bytes(b"")
    found = resolve((SAMPLE, "wikipedia", str(tmp_path / "a.parquet"), "leipzig-news-2015-10k", SAMPLE), TATAR)
    assert [type(source) for source in found] == [Sample, Shards, Local, Remote]


def test_the_list_on_the_command_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli.main(["prepare", "--list", "--workspace", "new"]) == 0
    captured = capsys.readouterr()
    lines = captured.out.splitlines()
    assert lines[0].split() == ["name", "download", "licence", "kind", "what"]
    assert any(line.startswith("fineweb2 ") and "489.2 MiB" in line for line in lines)
    assert any(line.startswith("leipzig-web-2018-10k ") and " ? " in line for line in lines)
    assert "tat_wikipedia_2021_30K" in captured.err and "pyarrow" in captured.err
    assert cli.main(["prepare", "--list", "--language", "sah", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told == {"language": "sah", "sources": listing(load_language("sah"))}
    assert not list(tmp_path.iterdir()), "looking makes nothing"
