"""Every format gives the same documents, and every damaged file one clear error."""

from __future__ import annotations

import gzip
import json
import lzma
from collections.abc import Callable
from pathlib import Path

import pytest

from tatar_llm.corpus import read_documents
from tatar_llm.corpus.readers import layout
from tatar_llm.corpus.sources import Sample, resolve
from tatar_llm.errors import TatarLLMError
from tatar_llm.languages import load_language

Archive = Callable[..., bytes]
LINES = ["Бүген урамда кар ява.", "Әни базарга китте.", "Без тауга менәбез."]


@pytest.mark.parametrize(("name", "mode"), [("a.tar.gz", "w:gz"), ("a.tgz", "w:gz"), ("a.tar", "w"), ("a.tar.xz", "w:xz")])
def test_leipzig_archive(tmp_path: Path, leipzig: Archive, name: str, mode: str) -> None:
    (tmp_path / name).write_bytes(leipzig(LINES, mode))
    assert list(read_documents(tmp_path / name)) == [[line] for line in LINES]
    assert layout(tmp_path / name) == "line"
    assert sorted(path.name for path in tmp_path.iterdir()) == [name], "nothing is unpacked to disk"


@pytest.mark.parametrize("suffix", ["", ".gz", ".xz"])
def test_text_and_json_lines(tmp_path: Path, suffix: str) -> None:
    pack = {"": bytes, ".gz": gzip.compress, ".xz": lzma.compress}[suffix]
    text = tmp_path / f"список.txt{suffix}"
    text.write_bytes(pack("\r\n".join(LINES).encode("utf-8-sig")))
    assert list(read_documents(text)) == [[line] for line in LINES]
    assert layout(text) == "line"
    books = tmp_path / f"books.txt{suffix}"
    books.write_bytes(pack(f"\n\n{LINES[0]}\n{LINES[1]}\n \n\n{LINES[2]}\n\n".encode()))
    assert list(read_documents(books)) == [LINES[:2], LINES[2:]]
    assert layout(books) == "blank"
    records = tmp_path / f"a.jsonl{suffix}"
    rows = [{"text": "\n\n".join(LINES), "id": 1}, {"text": LINES[0]}, {"text": " "}]
    records.write_bytes(pack("\n".join(json.dumps(row) for row in rows).encode()))
    assert list(read_documents(records)) == [LINES, LINES[:1]]
    assert layout(records) == "blank"


def test_blank_lines_at_the_ends_and_a_stray_one_leave_a_list_a_list(tmp_path: Path) -> None:
    file = tmp_path / "a.txt"
    file.write_text("\n" + "\n".join(LINES) + "\n\n\n", encoding="utf-8")
    assert layout(file) == "line"
    file.write_text("\n".join(["сүз"] * 15_000 + [""] + ["сүз"] * 15_000), encoding="utf-8")
    assert layout(file) == "line"


def test_numbers_of_an_unpacked_leipzig_list_are_taken_off(tmp_path: Path) -> None:
    file = tmp_path / "tat-sentences.txt"
    file.write_text("".join(f"{i}\t{line}\n" for i, line in enumerate(LINES)), encoding="utf-8")
    assert list(read_documents(file)) == [[line] for line in LINES]


BAD = {
    "page.tar.gz": "web page",
    "page.txt.gz": "web page",
    "cut.txt.gz": "cut off",
    "cut.tar.gz": "cut off",
    "cut.tar": "cut off",
    "cut.txt.xz": "cut off",
    "noise.tar.gz": "damaged",
    "noise.tar": "damaged",
    "noise.txt.xz": "damaged",
    "other.tar.gz": "sentences.txt",
    "cp1251.txt": "not UTF-8: byte 0",
    "late.txt": "byte 17",
    "utf16.txt": "UTF-16",
    "late.jsonl": "byte 10",
    "broken.jsonl": "line 2: not valid JSON",
    "keyless.jsonl": 'line 3: the record has no field "text"',
    "number.jsonl": "line 1",
    "list.jsonl": "line 1",
}


def bad_file(name: str, leipzig: Archive) -> bytes:
    long = gzip.compress("".join(f"{i} нче юлда кар ява.\n" for i in range(9000)).encode())
    archive = leipzig([f"{i} нче юлда кар ява." for i in range(5000)])
    return {
        "page.tar.gz": b"<!DOCTYPE html><html>",
        "page.txt.gz": b"<html>",
        "cut.txt.gz": long[: len(long) // 2],
        "cut.tar.gz": archive[: len(archive) // 2],
        "cut.tar": leipzig(LINES * 500, "w")[:30_000],
        "cut.txt.xz": lzma.compress("кар ява\n".encode() * 500)[:60],
        "noise.tar.gz": bytes(range(256)) * 9,
        "noise.tar": b"\x01" * 5000,
        "noise.txt.xz": b"no xz at all" * 9,
        "other.tar.gz": leipzig(LINES, member="x/readme.md"),
        "cp1251.txt": "Бу файл\nкар ява".encode("cp1251"),
        "late.txt": "Бу файл\n".encode() + b"abc\xff",
        "utf16.txt": "Бу файл".encode("utf-16"),
        "late.jsonl": b'{"text": "\xff"}',
        "broken.jsonl": b'{"text": "a"}\n{"text": ',
        "keyless.jsonl": b'{"text": "a"}\n\n{"body": "b"}',
        "number.jsonl": b'{"text": 5}',
        "list.jsonl": b"[1]",
    }[name]


@pytest.mark.parametrize("name", BAD)
def test_bad_files(tmp_path: Path, leipzig: Archive, name: str) -> None:
    (tmp_path / name).write_bytes(bad_file(name, leipzig))
    with pytest.raises(TatarLLMError) as caught:
        list(read_documents(tmp_path / name))
    assert BAD[name] in str(caught.value) and name in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_line_that_would_fill_the_memory_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tatar_llm.corpus.readers.LONGEST_LINE", 100)
    (tmp_path / "a.txt").write_text("а" * 200, encoding="utf-8")
    with pytest.raises(TatarLLMError, match="does not look like text"):
        list(read_documents(tmp_path / "a.txt"))


def test_missing_file_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(TatarLLMError, match="cannot be read"):
        list(read_documents(tmp_path / "gone.txt"))


def test_names_and_paths(tmp_path: Path) -> None:
    tatar = load_language("tat")
    for name in ("б.txt", "a.jsonl.xz", "sub/c.txt.gz", "picture.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")

    def found(*names: str) -> list[str]:
        return [source.name for source in resolve(names, tatar)]

    assert found(str(tmp_path)) == ["a.jsonl.xz", "c.txt.gz", "б.txt"]
    assert found(str(tmp_path / "*.txt"), str(tmp_path / "б.txt"), "sample") == ["б.txt", "sample"]
    assert found("leipzig-news-2015-30k") == ["leipzig-news-2015-30k"]
    mixed = resolve(("leipzig-mixed-2015-1m",), tatar)[0]
    assert (mixed.archive, mixed.bytes) == ("tat_mixed_2015_1M.tar.gz", 200_822_852)
    for wrong, said in {
        "leipzig-mixd-2015-1m": "did you mean leipzig-mixed-2015-1m?",
        str(tmp_path / "none*.txt"): "matches no file",
        str(tmp_path / "picture.png"): "cannot be read",
    }.items():
        with pytest.raises(TatarLLMError) as caught:
            resolve((wrong,), tatar)
        assert said in str(caught.value)
    (tmp_path / "empty").mkdir()
    with pytest.raises(TatarLLMError, match="holds no file"):
        resolve((str(tmp_path / "empty"),), tatar)
    with pytest.raises(TatarLLMError, match="no source was given"):
        resolve((), tatar)


def test_the_package_brings_sample_texts() -> None:
    files = Sample().files()
    assert files
    assert all(file.read_text(encoding="utf-8").strip() for file in files)
