"""Token files: exactly the text, found again to the byte, and torn ones are noticed."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from made_up import tatar_lines, write_corpus

from tatar_llm.config import TokenizerConfig
from tatar_llm.errors import TatarLLMError
from tatar_llm.tokenizer import encode as encode_module
from tatar_llm.tokenizer import encode_corpus, encode_text, encode_texts, load_tokenizer, read_tokens, train_tokenizer
from tatar_llm.workspace import Workspace, read_json, sha256_file, write_json

shared = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def split(file) -> list[list[int]]:
    edges = np.concatenate(([0], np.cumsum(file.document_tokens)))
    return [file.ids[a:b].tolist() for a, b in itertools.pairwise(edges)]


def test_every_document_between_bos_and_eos(tiny_workspace: Workspace, tiny_tokenizer: tuple) -> None:
    tokenizer, _ = tiny_tokenizer
    for name, path in (("train", tiny_workspace.train_text), ("val", tiny_workspace.val_text)):
        lines = path.read_text(encoding="utf-8").splitlines()
        file = read_tokens(tiny_workspace.tokens / f"{name}.bin")
        assert file.ids.dtype == np.uint16
        assert split(file) == [[2, *encode_text(tokenizer, line), 3] for line in lines]
        assert file.document_bytes.tolist() == [len(line.encode()) + 1 for line in lines]
        assert file.bytes == path.stat().st_size
        assert file.facts["sha256"] == sha256_file(tiny_workspace.tokens / f"{name}.bin")
        assert file.facts["text_sha256"] == sha256_file(path)
        assert file.facts["tokenizer_sha256"] == sha256_file(tiny_workspace.tokenizer / "tokenizer.json")
        assert file.facts["characters"] == len(path.read_text(encoding="utf-8"))


def test_documents_that_end_at_a_blank_line(own_workspace: Workspace) -> None:
    documents = ["Бер.\nИке.", "Өч.", "Дүрт.\nБиш.\nАлты."]
    write_corpus(own_workspace, documents, documents[:1], document="blank")
    own_workspace.train_text.write_bytes(b"\n\n" + own_workspace.train_text.read_bytes().rstrip(b"\n"))
    encode_corpus(own_workspace)
    tokenizer, _ = load_tokenizer(own_workspace.tokenizer)
    file = read_tokens(own_workspace.tokens / "train.bin")
    assert [tokenizer.decode(ids) for ids in split(file)] == documents
    assert all(ids[0] == 2 and ids[-1] == 3 for ids in split(file))


def test_odd_line_ends_stay_inside_their_line(own_workspace: Workspace) -> None:
    lines = ["бер\u2028ике", "өч\u0085дүрт", "биш\x0bалты", "җиде\rсигез"]
    write_corpus(own_workspace, lines, lines[:1])
    encode_corpus(own_workspace)
    tokenizer, _ = load_tokenizer(own_workspace.tokenizer)
    assert [tokenizer.decode(ids) for ids in split(read_tokens(own_workspace.tokens / "train.bin"))] == lines


@shared
@given(
    text=st.text("аәңҗ Bz\n\r\t .,!?-'«»12٣\u00a0\u0301_", max_size=200) | st.text(st.characters(exclude_categories=["Cs"])),
    length=st.integers(1, 30),
)
def test_a_book_cut_has_the_ids_of_the_whole(tiny_tokenizer: tuple, text: str, length: int) -> None:
    tokenizer, config = tiny_tokenizer
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(encode_module, "LONG_DOCUMENT", length)
        parts = encode_module.cut(text)
        assert "".join(parts) == text
        found = encode_texts(tokenizer, config, ["ә", text])
    assert split(found) == [[2, *encode_text(tokenizer, "ә"), 3], [2, *encode_text(tokenizer, text), 3]]
    assert found.document_bytes.tolist() == [3, len(text.encode()) + 1]


def test_a_book_is_cut_at_all(tiny_tokenizer: tuple) -> None:
    book = "\n".join(tatar_lines(4000))
    parts = encode_module.cut(book)
    assert len(parts) > 1 and "".join(parts) == book
    assert split(encode_texts(*tiny_tokenizer, [book])) == [[2, *encode_text(tiny_tokenizer[0], book), 3]]
    assert encode_module.cut("ә" * 200_000) == ["ә" * 200_000]


def test_batches_leave_nothing_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encode_module, "BATCH_BYTES", 50)
    lines = tatar_lines(30)
    batches = list(encode_module._batches(iter(lines)))
    assert len(batches) > 5 and [line for batch in batches for line in batch] == lines


def test_skipped_when_nothing_changed(own_workspace: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    before = (own_workspace.tokens / "train.bin").stat().st_mtime_ns
    facts = encode_corpus(own_workspace)
    assert "nothing changed" in capsys.readouterr().err
    assert (own_workspace.tokens / "train.bin").stat().st_mtime_ns == before
    assert facts == read_json(own_workspace.tokens_manifest)
    encode_corpus(own_workspace, force=True)
    assert "nothing changed" not in capsys.readouterr().err


def new_tokenizer(workspace: Workspace) -> None:
    train_tokenizer(TokenizerConfig(vocab_size=300), workspace)


def new_text(workspace: Workspace) -> None:
    workspace.val_text.write_text("Башка җөмлә.\n", encoding="utf-8")


def torn_file(workspace: Workspace) -> None:
    path = workspace.tokens / "train.bin"
    path.write_bytes(path.read_bytes()[:-100])


def changed_file(workspace: Workspace) -> None:
    path = workspace.tokens / "val.bin"
    path.write_bytes(b"\1\0" + path.read_bytes()[2:])


def lost_facts(workspace: Workspace) -> None:
    (workspace.tokens / "val.json").unlink()


def other_documents(workspace: Workspace) -> None:
    write_json(workspace.corpus_manifest, read_json(workspace.corpus_manifest) | {"document": "blank"})


@pytest.mark.parametrize("change", [new_tokenizer, new_text, torn_file, changed_file, lost_facts, other_documents])
def test_encoded_again_when_something_changed(
    own_workspace: Workspace, capsys: pytest.CaptureFixture[str], change
) -> None:
    change(own_workspace)
    capsys.readouterr()
    facts = encode_corpus(own_workspace)
    assert "nothing changed" not in capsys.readouterr().err
    for name in ("train", "val"):
        file = read_tokens(own_workspace.tokens / f"{name}.bin")
        assert facts[name]["sha256"] == sha256_file(own_workspace.tokens / f"{name}.bin")
        assert facts[name]["tokens"] == len(file.ids) and int(file.ids.max()) < facts["vocab_size"]


@pytest.mark.parametrize("cut", [1, 2, 100])
def test_torn_files_are_noticed(own_workspace: Workspace, cut: int) -> None:
    path = own_workspace.tokens / "train.bin"
    path.write_bytes(path.read_bytes()[:-cut])
    with pytest.raises(TatarLLMError, match=r"torn|cannot be read"):
        read_tokens(path)


@pytest.mark.parametrize("content", [b"", b"{}", b"[]", b"\xff", b'{"document_tokens": [3]}'])
def test_damaged_facts_are_noticed(own_workspace: Workspace, content: bytes) -> None:
    (own_workspace.tokens / "train.json").write_bytes(content)
    with pytest.raises(TatarLLMError, match="run `tatar-llm tokenizer` again"):
        read_tokens(own_workspace.tokens / "train.bin")


def test_a_missing_file_is_named(tmp_path) -> None:
    with pytest.raises(TatarLLMError, match="cannot be read"):
        read_tokens(tmp_path / "train.bin")


def test_what_must_be_there_first(tmp_path, own_workspace: Workspace) -> None:
    with pytest.raises(TatarLLMError, match="tatar-llm prepare"):
        encode_corpus(Workspace(tmp_path / "empty"))
    own_workspace.corpus_manifest.write_text("{", encoding="utf-8")
    with pytest.raises(TatarLLMError, match="damaged"):
        encode_corpus(own_workspace)


def test_a_text_that_is_not_utf8(own_workspace: Workspace) -> None:
    own_workspace.val_text.write_bytes("Казан каласы\n".encode("cp1251"))
    with pytest.raises(TatarLLMError, match="not UTF-8"):
        encode_corpus(own_workspace)
    assert not list(own_workspace.tokens.glob(".*"))
