"""The tokenizer: nothing is lost, special tokens stand where everybody expects them, work is not done twice."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from made_up import tatar_lines, write_corpus
from tokenizers import Tokenizer

from tatar_llm.config import TokenizerConfig
from tatar_llm.errors import TatarLLMError
from tatar_llm.tokenizer import SPECIAL_TOKENS, encode_text, load_tokenizer, train_tokenizer
from tatar_llm.workspace import Workspace, read_json, sha256_file, write_json

ANY_TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=60)
TATAR = st.text("абвгәөүҗңһ АӘ\n\t \r'-«».,!?0123456789", max_size=80)
PARTS = st.lists(st.sampled_from([*SPECIAL_TOKENS, " ", "\n", "ә", "<", "|>"]), max_size=12).map("".join)
shared = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@shared
@given(text=ANY_TEXT | TATAR | PARTS)
def test_nothing_is_lost(tiny_tokenizer: tuple, text: str) -> None:
    tokenizer, _ = tiny_tokenizer
    ids = encode_text(tokenizer, text)
    assert tokenizer.decode(ids, skip_special_tokens=False) == text
    assert tokenizer.decode(ids) == text
    assert all(token >= len(SPECIAL_TOKENS) for token in ids), "typed text must never become a special token"


def test_a_lone_surrogate_does_not_stop_anything(tiny_tokenizer: tuple) -> None:
    tokenizer, _ = tiny_tokenizer
    assert tokenizer.decode(encode_text(tokenizer, "а\ud800б")) == "а?б"


def test_ids_of_the_special_tokens(tiny_tokenizer: tuple) -> None:
    tokenizer, config = tiny_tokenizer
    first = ["<pad>", "<unk>", "<bos>", "<eos>", "<|system|>", "<|user|>", "<|assistant|>", "<|end|>"]
    assert [tokenizer.id_to_token(number) for number in range(8)] == first
    assert len(SPECIAL_TOKENS) == 16 and config["special_tokens"] == list(SPECIAL_TOKENS)
    assert [tokenizer.token_to_id(token) for token in SPECIAL_TOKENS] == list(range(16))
    for number, name in enumerate(("pad", "unk", "bos", "eos")):
        assert config[f"{name}_token_id"] == number and config[f"{name}_token"] == f"<{name}>"
    assert config["model_type"] == "bpe"
    assert config["vocab_size"] == tokenizer.get_vocab_size() == 400
    assert tokenizer.normalizer is None and tokenizer.post_processor is None


def test_every_byte_has_its_token(tiny_tokenizer: tuple) -> None:
    single = {token for token, number in tiny_tokenizer[0].get_vocab().items() if number >= 16 and len(token) == 1}
    assert len(single) == 256


def test_no_token_reaches_over_a_line_or_into_the_next_word(tiny_tokenizer: tuple) -> None:
    tokenizer, config = tiny_tokenizer
    for number in range(16 + 256, config["vocab_size"]):
        text = tokenizer.decode([number])
        assert " " not in text[1:].strip() and "\n" not in text.strip("\n"), text


def test_frequent_words_are_one_token(tiny_tokenizer: tuple) -> None:
    assert len(encode_text(tiny_tokenizer[0], " бакчада")) == 1


@pytest.mark.parametrize("size", [-1, 0, 271, 65536])
def test_vocabulary_out_of_range(tmp_path: Path, size: int) -> None:
    with pytest.raises(TatarLLMError, match=f"vocab_size {size} is out of range.* 272 .*65535"):
        train_tokenizer(TokenizerConfig(vocab_size=size), Workspace(tmp_path))


def test_the_smallest_vocabulary_is_bytes(own_workspace: Workspace) -> None:
    facts = train_tokenizer(TokenizerConfig(vocab_size=272), own_workspace)
    tokenizer, _ = load_tokenizer(own_workspace.tokenizer)
    assert facts["vocab_size"] == 272
    assert len(encode_text(tokenizer, "әби")) == 6


def test_a_small_text_says_what_it_gave(own_workspace: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    facts = train_tokenizer(TokenizerConfig(vocab_size=8192), own_workspace)
    assert 400 < facts["vocab_size"] < 1000 and facts["requested_vocab_size"] == 8192
    captured = capsys.readouterr()
    assert f"too little for 8192 tokens; it gave {facts['vocab_size']}" in captured.err and not captured.out


def test_skipped_when_nothing_changed(own_workspace: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    file = own_workspace.tokenizer / "tokenizer.json"
    before = file.stat().st_mtime_ns
    facts = train_tokenizer(TokenizerConfig(vocab_size=400), own_workspace)
    assert "nothing changed" in capsys.readouterr().err and file.stat().st_mtime_ns == before
    assert facts["tokenizer_sha256"] == sha256_file(file)
    again = train_tokenizer(TokenizerConfig(vocab_size=400), own_workspace, force=True)
    assert "nothing changed" not in capsys.readouterr().err
    assert again["tokenizer_sha256"] == facts["tokenizer_sha256"], "the same text must give the same tokenizer"


def other_size(workspace: Workspace) -> TokenizerConfig:
    return TokenizerConfig(vocab_size=350)


def other_frequency(workspace: Workspace) -> TokenizerConfig:
    return TokenizerConfig(vocab_size=400, min_frequency=3)


def other_text(workspace: Workspace) -> TokenizerConfig:
    write_corpus(workspace, tatar_lines(300, seed=5), tatar_lines(10))
    return TokenizerConfig(vocab_size=400)


def damaged_file(workspace: Workspace) -> TokenizerConfig:
    (workspace.tokenizer / "tokenizer.json").write_text("{}", encoding="utf-8")
    return TokenizerConfig(vocab_size=400)


def exchanged_file(workspace: Workspace) -> TokenizerConfig:
    file = workspace.tokenizer / "tokenizer.json"
    file.write_text(file.read_text(encoding="utf-8") + "\n", encoding="utf-8")
    return TokenizerConfig(vocab_size=400)


@pytest.mark.parametrize("change", [other_size, other_frequency, other_text, damaged_file, exchanged_file])
def test_trained_again_when_something_changed(
    own_workspace: Workspace, capsys: pytest.CaptureFixture[str], change
) -> None:
    config = change(own_workspace)
    facts = train_tokenizer(config, own_workspace)
    assert "nothing changed" not in capsys.readouterr().err
    assert facts["tokenizer_sha256"] == sha256_file(own_workspace.tokenizer / "tokenizer.json")
    load_tokenizer(own_workspace.tokenizer)


def test_a_text_and_a_folder_of_ones_own(tmp_path: Path) -> None:
    text = tmp_path / "текст.txt"
    text.write_text("\n".join(tatar_lines(50)), encoding="utf-8")
    config = TokenizerConfig(vocab_size=300, train_file=str(text), output_dir=str(tmp_path / "out"))
    train_tokenizer(config, Workspace(tmp_path / "nothing here"))
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["config.json", "report.md", "tokenizer.json"]
    assert not (tmp_path / "nothing here").exists()


def test_the_report(tiny_workspace: Workspace) -> None:
    report = (tiny_workspace.tokenizer / "report.md").read_text(encoding="utf-8")
    lines = tiny_workspace.train_text.read_text(encoding="utf-8").splitlines()
    tokenizer, _ = load_tokenizer(tiny_workspace.tokenizer)
    tokens = sum(len(encode_text(tokenizer, line)) for line in lines)
    assert f"| characters per token | {sum(map(len, lines)) / tokens:.2f} |" in report
    assert f"| tokens per word | {tokens / sum(len(line.split()) for line in lines):.2f} |" in report
    assert lines[0] in report and "\ufffd" not in report.split("How lines are cut")[0].split("Longest")[0]


@pytest.mark.parametrize("content", ["Казан".encode("cp1251") * 20, "дөрес юл\n".encode() + b"\xff\xfe"])
def test_a_text_that_is_not_utf8(own_workspace: Workspace, content: bytes) -> None:
    own_workspace.train_text.write_bytes(content)
    before = sha256_file(own_workspace.tokenizer / "tokenizer.json")
    with pytest.raises(TatarLLMError, match="not UTF-8"):
        train_tokenizer(TokenizerConfig(vocab_size=300), own_workspace)
    assert sha256_file(own_workspace.tokenizer / "tokenizer.json") == before


def test_no_text_and_an_empty_one(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    with pytest.raises(TatarLLMError, match="tatar-llm prepare"):
        train_tokenizer(TokenizerConfig(), workspace)
    with pytest.raises(TatarLLMError, match=r"none\.txt does not exist"):
        train_tokenizer(TokenizerConfig(train_file=str(tmp_path / "none.txt")), workspace)
    (tmp_path / "empty.txt").touch()
    with pytest.raises(TatarLLMError, match="is empty"):
        train_tokenizer(TokenizerConfig(train_file=str(tmp_path / "empty.txt")), workspace)


# -- loading ---------------------------------------------------------------------------------------------------------


def test_no_tokenizer(tmp_path: Path) -> None:
    with pytest.raises(TatarLLMError, match="run `tatar-llm tokenizer` first"):
        load_tokenizer(tmp_path)


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("tokenizer.json", b"", "not a readable tokenizer"),
        ("tokenizer.json", b"{}", "not a readable tokenizer"),
        ("tokenizer.json", b"\xff", "not a readable tokenizer"),
        ("config.json", b"", "cannot be read"),
        ("config.json", b"\xff", "cannot be read"),
        ("config.json", b"3", "cannot be read"),
        ("config.json", b"[]", "lacks bos_token_id"),
        ("config.json", b'{"vocab_size": 500}', "lacks bos_token_id, eos_token_id"),
        ("config.json", b'{"vocab_size": 9, "bos_token_id": 2, "eos_token_id": 3}', "do not belong together"),
    ],
)
def test_damaged_files(own_workspace: Workspace, name: str, content: bytes, said: str) -> None:
    (own_workspace.tokenizer / name).write_bytes(content)
    with pytest.raises(TatarLLMError, match=said):
        load_tokenizer(own_workspace.tokenizer)


def test_without_a_config(own_workspace: Workspace) -> None:
    (own_workspace.tokenizer / "config.json").unlink()
    with pytest.raises(TatarLLMError, match="cannot be read"):
        load_tokenizer(own_workspace.tokenizer)


def test_a_whole_piece_is_looked_up_before_merging(own_workspace: Workspace) -> None:
    """As llama.cpp and tiktoken do: a piece in the vocabulary is one token, even where its merges lead elsewhere."""
    file = own_workspace.tokenizer / "tokenizer.json"
    content = read_json(file)
    assert content["model"]["ignore_merges"] is True
    content["model"]["vocab"]["zqx"] = len(content["model"]["vocab"])
    write_json(file, content)
    assert Tokenizer.from_file(str(file)).encode("zqx").tokens == ["zqx"]
