"""Every format gives the same documents, and every damaged file one clear error."""

from __future__ import annotations

import gzip
import io
import json
import lzma
import sys
import tarfile
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from corpus.conftest import pack
from hypothesis import given, settings
from hypothesis import strategies as st

from tatar_llm.corpus import read_documents, readers
from tatar_llm.corpus.readers import layout, read_batches
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
    file.write_text("сүз\n\n" * 50_000, encoding="utf-8")
    assert layout(file) == "blank"


def test_numbers_of_an_unpacked_leipzig_list_are_taken_off(tmp_path: Path) -> None:
    file = tmp_path / "tat-sentences.txt"
    lines = [*LINES, "", "a\tb", "7 a\tb"]
    file.write_text("".join(f"{i}\t{line}\n" for i, line in enumerate(lines)) + "12\n٣\ta\n13\t5\ta", encoding="utf-8")
    assert list(read_documents(file)) == [[line] for line in [*lines, "12", "a", "5\ta"]]


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
    "plain.txt.gz": "it is plain text, not packed; rename it",
    "empty.txt.gz": "an empty file",
    "zip.txt": "a zip archive",
    "page.parquet": "is a web page",
    "noise.parquet": "no file of a known kind, not a Parquet file",
    "cut.parquet": "cut off",
    "gap.parquet": "damaged",
    "other.tar.gz": "sentences.txt",
    "cp1251.txt": "not UTF-8: byte 0",
    "late.txt": "byte 17",
    "late.jsonl": "byte 10",
    "broken.jsonl": "line 2: not valid JSON",
    "keyless.jsonl": 'line 3: the record has no field "text" (or content, sentence, body, raw_content)',
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
        "noise.txt.xz": bytes(range(256)) * 9,
        "plain.txt.gz": LINES[0].encode(),
        "empty.txt.gz": b"",
        "zip.txt": b"PK\x03\x04" + bytes(30),
        "page.parquet": b"\n<!doctype html><html>",
        "noise.parquet": bytes(range(256)) * 9,
        "cut.parquet": b"PAR1" + bytes(50),
        "gap.parquet": b"PAR1" + bytes(50) + b"PAR1",
        "other.tar.gz": leipzig(LINES, member="x/readme.md"),
        "cp1251.txt": "Бу файл\nкар ява".encode("cp1251"),
        "late.txt": "Бу файл\n".encode() + b"abc\xff",
        "late.jsonl": b'{"text": "\xff"}',
        "broken.jsonl": b'{"text": "a"}\n{"text": ',
        "keyless.jsonl": b'{"text": "a"}\n\n{"title": "b"}',
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


WORDS = st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Zl", "Zp")), max_size=30)
WRITERS: dict[str, Callable[[list[str]], bytes]] = {
    "a.txt": lambda lines: _text(lines),
    "dos.txt": lambda lines: "\r\n".join(lines).encode("utf-8-sig"),
    "notepad.txt": lambda lines: "\r\n".join(lines).encode("utf-16"),
    "a.txt.gz": lambda lines: gzip.compress(_text(lines)),
    "xz.txt.gz": lambda lines: lzma.compress(_text(lines)),
    "a.txt.xz": lambda lines: lzma.compress(_text(lines)),
    "a-sentences.txt": lambda lines: _text([f"{i}\t{line}" for i, line in enumerate(lines)]),
    "a.tar.gz": lambda lines: pack(lines),
    "plain.tar.gz": lambda lines: pack(lines, "w"),
    "gz.tar": lambda lines: pack(lines),
    "a.tar.xz": lambda lines: pack(lines, "w:xz"),
    "a.jsonl": lambda lines: "\n".join(json.dumps({"text": line}) for line in lines).encode(),
    "a.parquet": lambda lines: parquet({"text": lines}),
}


def _text(lines: list[str]) -> bytes:
    return "".join(f"{line}\n" for line in lines).encode()


def parquet(columns: dict[str, Any], **more: Any) -> bytes:
    pyarrow = pytest.importorskip("pyarrow")
    buffer = io.BytesIO()
    pytest.importorskip("pyarrow.parquet").write_table(pyarrow.table(columns), buffer, **more)
    return buffer.getvalue()


def read(name: str, raw: bytes) -> list[list[str]]:
    """The documents of a file, which read_documents and read_batches must find alike."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / name
        file.write_bytes(raw)
        documents = list(read_documents(file))
        assert [document for batch in read_batches(file) for document in batch] == documents
        assert [document for batch in read_batches(file, layout(file)) for document in batch] == documents
    return documents


@pytest.mark.parametrize("name", WRITERS)
@settings(max_examples=25, deadline=None)
@given(lines=st.lists(WORDS.filter(str.strip), min_size=1, max_size=20))
def test_any_lines_come_back_from_every_format(name: str, lines: list[str]) -> None:
    lines[0] = "а" + lines[0]  # no mark-up, no byte order mark
    assert read(name, WRITERS[name](lines)) == [[line] for line in lines]


@settings(max_examples=150, deadline=None)
@given(
    raw=st.one_of(
        st.binary(max_size=300), st.text("аб .\r\n\u2026\t1", max_size=150).map(str.encode),
        st.text("аб .\r\n\u2026", max_size=150).map(lambda text: text.encode("utf-16")),
    ),
    name=st.sampled_from(["a.txt", "a-sentences.txt"]),
    block=st.integers(1, 40),
    longest=st.integers(8, 60),
)
def test_blocks_and_batches_change_nothing(raw: bytes, name: str, block: int, longest: int) -> None:
    found = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tatar_llm.corpus.lines.LONGEST_LINE", longest)
        for size in (block, 1 << 16):
            patch.setattr("tatar_llm.corpus.lines.BLOCK", size)
            patch.setattr(readers, "BATCH", size)
            try:
                found.append(read(name, raw))
            except TatarLLMError as error:
                found.append([[str(error).rpartition("/")[2]]])
    assert found[0] == found[1]


def test_batches_are_small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tatar_llm.corpus.lines.BLOCK", 100)
    monkeypatch.setattr(readers, "BATCH", 300)
    (tmp_path / "a.txt").write_text("".join(f"{i} нче юл.\n" for i in range(500)), encoding="utf-8")
    sizes = [sum(len(line) for lines in batch for line in lines) for batch in read_batches(tmp_path / "a.txt")]
    assert len(sizes) > 10 and all(300 <= size < 400 for size in sizes[:-1])


LONG = "Бүген урамда кар ява. Әни базарга китте! " * 20


@pytest.mark.parametrize("name", ["a.txt", "blank.txt", "a.tar", "a.jsonl", "a.parquet"])
def test_a_long_line_comes_in_pieces(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tatar_llm.corpus.lines.LONGEST_LINE", 500)
    record = {"text": f"{LONG}\nсоңгы"}
    raw = {
        "a.tar": pack([LONG, "соңгы"], "w"), "a.jsonl": json.dumps(record).encode(),
        "blank.txt": f"{LONG}\nсоңгы\n\nюл".encode(), "a.txt": f"{LONG}\nсоңгы".encode(),
    }
    found = read(name, raw[name] if name in raw else parquet({"text": [record["text"]]}))
    if name in ("a.txt", "a.tar"):
        assert all(len(document) == 1 for document in found), "each piece is a document"
        found = [[line for document in found for line in document]]
    *pieces, last = found[0]
    assert last == "соңгы" and "".join(pieces) == LONG
    assert all(450 < len(piece.encode()) <= 500 for piece in pieces[:-1])
    assert all(piece.endswith((". ", "! ")) for piece in pieces[::2])


@pytest.mark.parametrize(("text", "cuts"), [("ә" * 700, {499, 500}), ("кар" + " ява" * 300, set(range(493, 501)))])
def test_a_cut_falls_between_words_or_at_least_letters(
    text: str, cuts: set[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tatar_llm.corpus.lines.LONGEST_LINE", 500)
    pieces = [line for line, in read("a.txt", f"1{text}".encode())]
    assert "".join(pieces) == f"1{text}"
    assert {len(piece.encode()) for piece in pieces[:-1]} <= cuts
    assert " " not in text or all(piece.endswith(" ") for piece in pieces[:-1])


def test_a_record_cannot_be_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readers, "LONGEST_RECORD", 1000)
    with pytest.raises(TatarLLMError, match="does not look like text"):
        read("a.jsonl", json.dumps({"text": "a" * 2000}).encode())


def test_zero_bytes_pass_on() -> None:
    assert read("a.txt", b"a\0b\nc") == [["a\0b"], ["c"]]


@pytest.mark.parametrize(("good", "bad"), [(1000, 10), (100, 1), (20, 2), (19, 2), (10, 1), (9, 1), (3, 1), (1000, 11), (27, 3)])
def test_a_few_broken_bytes_do_not_spoil_a_file(good: int, bad: int) -> None:
    raw = ["кар ява".encode()] * good
    for place in range(bad):
        raw[place * 3] = b"bad \xff\xd0"
    # More than two lines may be bad only if they are at most 1 in 100, two or one if they are at most 1 in 10
    fine = bad * 100 <= good if bad > 2 else bad * 10 <= good
    if not fine:
        with pytest.raises(TatarLLMError, match="byte 4 cannot be read"):
            read("a.txt", b"\n".join(raw))
        return
    found = read("a.txt", b"\n".join(raw))
    assert len(found) == good and found.count(["bad \ufffd\ufffd"]) == bad
    records = b"\n".join(b'{"text": "%s"}' % line for line in raw)
    assert read("a.jsonl", records) == found


def test_what_is_not_utf8_is_refused_before_its_end(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("tatar_llm.corpus.lines.JUDGED_FROM", 200)
    monkeypatch.setattr("tatar_llm.corpus.lines.BLOCK", 100)
    file = tmp_path / "a.txt"
    file.write_bytes("Бүген урамда кар ява.\n".encode("koi8-r", "replace") * 100_000)
    read_lines = 0
    with pytest.raises(TatarLLMError, match="byte 0 cannot be read; convert the file first, for example"):
        for _ in read_documents(file):
            read_lines += 1
    assert read_lines < 250


def test_windows_1251_is_recognised() -> None:
    with pytest.raises(TatarLLMError, match="looks like Windows-1251, convert it with: iconv -f WINDOWS-1251"):
        read("a.txt", "Бу файл\nкар ява".encode("cp1251"))
    with pytest.raises(TatarLLMError, match="for example with: iconv"):
        read("a.txt", "кар ява".encode()[:-1])


def test_utf16_as_windows_writes_it(monkeypatch: pytest.MonkeyPatch) -> None:
    text = "Бу файл\r\nУ+0A0A: \u0a0a 😀\r\n"
    for mark, encoding in ((b"\xff\xfe", "utf-16-le"), (b"\xfe\xff", "utf-16-be")):
        assert read("a.txt", mark + text.encode(encoding)) == [["Бу файл"], ["У+0A0A: \u0a0a 😀"]]
    assert read("a.txt", b"\xff\xfe" + "а\n\nб".encode("utf-16-le") + b"\0") == [["а"], ["б\ufffd"]]
    monkeypatch.setattr("tatar_llm.corpus.lines.LONGEST_LINE", 60)
    assert read("a.txt", ("а\n" + "…" * 25 + "\nб").encode("utf-16")) == [["а"], ["…" * 20], ["…" * 5], ["б"]]


def test_parquet(monkeypatch: pytest.MonkeyPatch) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    texts = ["Бер\n\nИке", None, "", " \n", "Өч"]
    wanted = [["Бер", "Ике"], ["Өч"]]
    monkeypatch.setattr(readers, "_ROWS", 2)
    for name in readers.TEXT_FIELDS:
        assert read("a.parquet", parquet({"id": range(5), name: texts})) == wanted
    assert read("a.parquet", parquet({"body": ["x"] * 5, "text": texts}, compression="zstd", row_group_size=2)) == wanted
    for kind in (pyarrow.large_string(), pyarrow.dictionary(pyarrow.int32(), pyarrow.string())):
        assert read("a.parquet", parquet({"text": pyarrow.array(texts).cast(kind)})) == wanted
    broken = pyarrow.StringArray.from_buffers(1, pyarrow.array([0, 3], pyarrow.int32()).buffers()[1], pyarrow.py_buffer(b"a\xffb"))
    assert read("a.parquet", parquet({"text": broken})) == [["a\ufffdb"]]
    for columns, said in {
        ("id", "title"): 'has no column "text" .*; its columns are: id, title',
        ("id", "text"): 'the column "text" holds no text but int64',
    }.items():
        with pytest.raises(TatarLLMError, match=said):
            read("a.parquet", parquet({name: [1, 2] for name in columns}))


def test_parquet_needs_pyarrow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(TatarLLMError, match="pip install pyarrow"):
        read("a.parquet", b"PAR1")


def test_the_text_of_a_record_may_have_another_name() -> None:
    records = [{"body": "а", "content": "б"}, {"text": None}, {"raw_content": "в"}, {"text": "г", "content": "д"}]
    assert read("a.jsonl", "\n".join(map(json.dumps, records)).encode()) == [["б"], ["в"], ["г"]]


def archive(*members: tarfile.TarInfo, mode: str = "w") -> bytes:
    """A tar whose plain files hold one numbered sentence each."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as tar:
        for member in members:
            text = f"1\t{member.name}\n".encode()
            member.size = len(text) if member.isreg() else 0
            tar.addfile(member, io.BytesIO(text))
    return buffer.getvalue()


def member(name: str, kind: bytes = tarfile.REGTYPE, target: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


ODD = [
    member("a-sentences.txt", tarfile.SYMTYPE, "/etc/passwd"), member("b-sentences.txt", tarfile.LNKTYPE, "x/readme"),
    member("c-sentences.txt", tarfile.CHRTYPE), member("d-sentences.txt", tarfile.FIFOTYPE),
    member("e-sentences.txt", tarfile.DIRTYPE), member("/abs/f-sentences.txt"), member("x/../../g-sentences.txt"),
    member("line\nend-sentences.txt"), member("x/readme"),
]


def test_only_plain_members_of_an_archive_are_read() -> None:
    assert read("a.tar", archive(*ODD, member("x/x-sentences.txt"))) == [["x/x-sentences.txt"]]
    with pytest.raises(TatarLLMError, match=r"holds no file whose name ends in -sentences.txt \(a link is not followed\)"):
        read("a.tar", archive(*ODD))


def test_a_hole_in_a_file_is_not_read() -> None:
    sparse = member("s-sentences.txt")
    sparse.pax_headers = {"GNU.sparse.size": str(1 << 40), "GNU.sparse.numblocks": "0"}
    assert read("a.tar", archive(sparse, member("x-sentences.txt"))) == [["x-sentences.txt"]]


def test_a_member_that_claims_to_be_endless_is_not_sought() -> None:
    endless = member("words.txt")
    endless.size = 1 << 80
    with pytest.raises(TatarLLMError, match="more than 200 times its size"):
        read("a.tar", endless.tobuf(tarfile.GNU_FORMAT) + archive(member("x-sentences.txt")))


@pytest.mark.parametrize("name", ["a.txt.gz", "a.txt.xz", "a.jsonl.gz", "a.tar.gz", "a.tar.xz"])
def test_a_bomb_is_not_unpacked(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tatar_llm.corpus.unpacking.BOMB_SLACK", 1 << 20)
    compress = gzip.compress if name.endswith("gz") else lzma.compress
    raw = pack([" " * (16 << 20)], "w") if ".tar" in name else b" " * (16 << 20)
    with pytest.raises(TatarLLMError, match="no text: it unpacks to more than 200 times its size"):
        read(name, compress(raw))


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
