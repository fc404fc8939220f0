"""The unigram tokenizer: over bytes, so that nothing is lost either; refused by name where its kind is not known."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_up import tatar_lines
from tokenizers import pre_tokenizers

from tatar_llm.config import TokenizerConfig
from tatar_llm.errors import TatarLLMError
from tatar_llm.tokenizer import SPECIAL_TOKENS, encode_corpus, encode_text, load_tokenizer, train, train_tokenizer
from tatar_llm.workspace import Workspace, read_json, write_json, write_text


@pytest.fixture(scope="module")
def unigram(tmp_path_factory: pytest.TempPathFactory) -> tuple[Workspace, tuple]:
    workspace = Workspace(tmp_path_factory.mktemp("unigram"))
    for path, lines in ((workspace.train_text, tatar_lines(400)), (workspace.val_text, tatar_lines(40, seed=1))):
        write_text(path, "\n".join(lines) + "\n")
    write_json(workspace.corpus_manifest, {"document": "line", "corpus": "made-up", "language": "tat", "fallback": None})
    train_tokenizer(TokenizerConfig(vocab_size=350, type="unigram"), workspace)
    return workspace, load_tokenizer(workspace.tokenizer)


@settings(max_examples=150, deadline=None)
@given(text=st.text(st.characters(exclude_categories=["Cs"]), max_size=60) | st.text("абвгәөүҗңһ \n\t'-«»,.!?09", max_size=80))
def test_nothing_is_lost(unigram: tuple, text: str) -> None:
    tokenizer, _ = unigram[1]
    ids = encode_text(tokenizer, text)
    assert tokenizer.decode(ids, skip_special_tokens=False) == text
    assert all(token >= len(SPECIAL_TOKENS) for token in ids), "typed text must never become a special token, nor unknown"


def test_the_same_places_as_bpe(unigram: tuple) -> None:
    tokenizer, config = unigram[1]
    assert config["model_type"] == "unigram" and config["vocab_size"] == tokenizer.get_vocab_size() <= 350
    assert [tokenizer.id_to_token(number) for number in range(16)] == list(SPECIAL_TOKENS)
    assert all(tokenizer.token_to_id(letter) is not None for letter in pre_tokenizers.ByteLevel.alphabet())
    assert "Unigram" in (unigram[0].tokenizer / "report.md").read_text(encoding="utf-8")


def test_a_word_is_cut_into_few_pieces(unigram: tuple) -> None:
    tokenizer, _ = unigram[1]
    lines = tatar_lines(40, seed=1)
    assert sum(len(encode_text(tokenizer, line)) for line in lines) < 0.5 * sum(len(line.encode()) for line in lines)


def test_token_files_are_made_with_it(unigram: tuple, capsys: pytest.CaptureFixture[str]) -> None:
    workspace, (_, config) = unigram
    assert encode_corpus(workspace)["vocab_size"] == config["vocab_size"]
    train_tokenizer(TokenizerConfig(vocab_size=350, type="unigram"), workspace)
    assert "nothing changed" in capsys.readouterr().err
    made = read_json(workspace.tokenizer / "config.json")["fingerprint"]
    train_tokenizer(TokenizerConfig(vocab_size=350, type="bpe", output_dir=str(workspace.root / "bpe")), workspace)
    assert read_json(workspace.root / "bpe" / "config.json")["fingerprint"] != made


def test_a_tiny_text_says_what_it_gave(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    workspace = Workspace(tmp_path)
    write_text(workspace.train_text, "а б в\n")
    facts = train_tokenizer(TokenizerConfig(vocab_size=2000, type="unigram"), workspace)
    assert 272 <= facts["vocab_size"] < 300
    assert "repeats itself too little for 2000 tokens" in capsys.readouterr().err
    load_tokenizer(workspace.tokenizer)


@pytest.mark.parametrize("size", [272, 273, 300])
def test_never_more_tokens_than_asked_for(unigram: tuple, tmp_path: Path, size: int) -> None:
    """Asked for the bytes alone, the library's trainer gives every word that it has found."""
    config = TokenizerConfig(vocab_size=size, type="unigram", train_file=str(unigram[0].train_text), output_dir=str(tmp_path))
    assert train_tokenizer(config, Workspace(tmp_path))["vocab_size"] == size
    tokenizer, _ = load_tokenizer(tmp_path)
    assert [tokenizer.id_to_token(number) for number in range(16)] == list(SPECIAL_TOKENS)
    text = "Әби бүген <eos> 😀\x00"
    assert tokenizer.decode(encode_text(tokenizer, text), skip_special_tokens=False) == text


def test_of_a_large_text_a_part_is_learnt_from(unigram: tuple, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    text = unigram[0].train_text
    config = TokenizerConfig(vocab_size=300, type="unigram", train_file=str(text), output_dir=str(tmp_path / "part"))
    whole = train_tokenizer(config, Workspace(tmp_path))["fingerprint"]
    monkeypatch.setattr(train, "UNIGRAM_BYTES", text.stat().st_size // 4)
    assert train_tokenizer(config, Workspace(tmp_path))["fingerprint"] != whole
    assert "from 25% of the lines of" in capsys.readouterr().err
    lines = text.read_text(encoding="utf-8").splitlines(keepends=True)
    part = list(train._lines(text, 0.25))
    assert part == lines[3::4], "evenly spread"
    assert list(train._lines(text)) == lines


def test_a_lone_surrogate_does_not_stop_anything(unigram: tuple) -> None:
    tokenizer, _ = unigram[1]
    assert tokenizer.decode(encode_text(tokenizer, "а\ud800б")) == "а?б"


def test_a_model_without_all_bytes_is_refused(unigram: tuple, tmp_path: Path) -> None:
    told = read_json(unigram[0].tokenizer / "tokenizer.json")
    told["model"]["vocab"] = [row for row in told["model"]["vocab"] if row[0] != "Ð"]
    write_json(tmp_path / "tokenizer.json", told)
    write_json(tmp_path / "config.json", read_json(unigram[0].tokenizer / "config.json"))
    with pytest.raises(TatarLLMError, match="by other rules"):
        load_tokenizer(tmp_path)


def test_there_are_two_types() -> None:
    with pytest.raises(TatarLLMError, match="it must be bpe or unigram"):
        TokenizerConfig(type="wordpiece")
