"""Writing whole or not at all, and telling where nothing can be written."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from tatar_llm import workspace as workspace_module
from tatar_llm.errors import TatarLLMError
from tatar_llm.workspace import (
    Workspace,
    fingerprint,
    read_json,
    sha256_file,
    whole_file,
    whole_folder,
    write_json,
    write_text,
)


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


class Sudden(Exception):
    pass


def test_a_file_is_replaced_whole(tmp_path: Path) -> None:
    target = tmp_path / "new" / "татарча.txt"
    write_text(target, "беренче\n")
    with whole_file(target) as temporary:
        temporary.write_text("икенче", encoding="utf-8")
        assert target.read_text(encoding="utf-8") == "беренче\n"  # the old one until the very end
        assert temporary.parent == target.parent  # the same disk: a rename, not a copy
    assert target.read_text(encoding="utf-8") == "икенче"
    assert names(target.parent) == {"татарча.txt"}


@pytest.mark.parametrize("old", [None, "old"])
def test_an_error_in_the_middle_of_a_file(tmp_path: Path, old: str | None) -> None:
    target = tmp_path / "a.txt"
    if old:
        target.write_text(old)
    with pytest.raises(Sudden), whole_file(target) as temporary:
        temporary.write_text("half")
        raise Sudden
    assert names(tmp_path) == ({"a.txt"} if old else set())
    assert not old or target.read_text() == old


def test_a_rename_that_fails_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "a.json"
    write_json(target, {"old": 1})

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(workspace_module.os, "fsync", full)
    with pytest.raises(OSError):
        write_json(target, {"new": 2})
    assert read_json(target) == {"old": 1}
    assert names(tmp_path) == {"a.json"}


def test_a_folder_is_replaced_whole(tmp_path: Path) -> None:
    target = tmp_path / "tokenizer"
    with whole_folder(target) as temporary:
        (temporary / "a").write_text("1")
        (temporary / "deep").mkdir()
        (temporary / "deep" / "b").write_text("1")
    with whole_folder(target) as temporary:
        (temporary / "a").write_text("2")
        assert (target / "deep" / "b").is_file()
    assert names(tmp_path) == {"tokenizer"}
    assert names(target) == {"a"}  # nothing of the old folder shines through
    assert (target / "a").read_text() == "2"


@pytest.mark.parametrize("old", [False, True])
def test_an_error_in_the_middle_of_a_folder(tmp_path: Path, old: bool) -> None:
    target = tmp_path / "tokenizer"
    if old:
        target.mkdir()
        (target / "a").write_text("1")
    with pytest.raises(Sudden), whole_folder(target) as temporary:
        (temporary / "a").write_text("2")
        raise Sudden
    assert names(tmp_path) == ({"tokenizer"} if old else set())
    assert not old or (target / "a").read_text() == "1"


def test_the_old_folder_comes_back_when_the_last_rename_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "tokenizer"
    target.mkdir()
    (target / "a").write_text("1")
    real = os.replace

    def fails_once(source: Path, goal: Path) -> None:
        if Path(source).suffix == ".tmp":
            raise PermissionError(errno.EACCES, "a virus scanner holds it")
        real(source, goal)

    monkeypatch.setattr(workspace_module.os, "replace", fails_once)
    with pytest.raises(PermissionError), whole_folder(target) as temporary:
        (temporary / "a").write_text("2")
    assert (target / "a").read_text() == "1"
    assert names(tmp_path) == {"tokenizer"}


def test_ensure_writable_makes_the_folder_and_leaves_nothing(tmp_path: Path) -> None:
    place = Workspace(tmp_path / "минем эш" / "deep")
    place.ensure_writable()
    assert names(place.root) == set()


def test_ensure_writable_on_a_file(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("mine")
    with pytest.raises(TatarLLMError, match="is a file, not a folder"):
        Workspace(file).ensure_writable()
    with pytest.raises(TatarLLMError, match="cannot be written"):
        Workspace(file / "below").ensure_writable()
    assert file.read_text() == "mine"


@pytest.mark.skipif(os.name == "nt" or getattr(os, "geteuid", lambda: 1)() == 0, reason="such a user may write anywhere")
def test_ensure_writable_on_a_read_only_folder(tmp_path: Path) -> None:
    place = tmp_path / "closed"
    place.mkdir(mode=0o555)
    with pytest.raises(TatarLLMError, match=r"no permission to write.*--workspace"):
        Workspace(place).ensure_writable()


def test_need_names_the_command(tmp_path: Path) -> None:
    place = Workspace(tmp_path)
    with pytest.raises(TatarLLMError, match=r"train\.txt does not exist yet: run `tatar-llm prepare` first"):
        place.need(place.train_text, "tatar-llm prepare")
    write_text(place.train_text, "x")
    assert place.need(place.train_text, "tatar-llm prepare") == place.train_text


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b"\xff\xfe", b"null"])
def test_a_damaged_manifest_is_no_manifest(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "manifest.json"
    path.write_bytes(content)
    assert Workspace(tmp_path).manifest(path) is None
    assert Workspace(tmp_path).manifest(tmp_path / "absent") is None


def test_fingerprint_is_stable() -> None:
    value = {"a": 1, "б": ["әни", 2.5, None]}
    assert fingerprint(value) == fingerprint({"б": ["әни", 2.5, None], "a": 1})
    assert fingerprint(value) != fingerprint({"a": 1, "б": ["әни", 2.5, 0]})
    assert fingerprint({"a": 1}) == "f9d86028c6e0d64e"  # across versions: a new value would redo every stage


def test_json_is_readable_utf8_with_unix_ends(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"телле": "татар"})
    content = (tmp_path / "a.json").read_bytes()
    assert "татар".encode() in content and b"\r" not in content and content.endswith(b"}\n")


def test_sha256(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"abc")
    assert sha256_file(tmp_path / "a") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
