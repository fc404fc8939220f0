"""Tokenizers compared: what is asked for, what is measured, what is kept, what is recommended and how sure that is."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from made_up import tatar_lines, write_corpus

from tatar_llm import cli
from tatar_llm.config import GPTConfig
from tatar_llm.errors import TatarLLMError, UsageError
from tatar_llm.evaluation import tokenizers as module
from tatar_llm.evaluation.tokenizer_report import recommend
from tatar_llm.evaluation.tokenizers import Candidate, compare_tokenizers, part_of, read_candidates
from tatar_llm.tokenizer import encode_text, load_tokenizer
from tatar_llm.training.stop import Interrupted
from tatar_llm.workspace import Workspace, read_json, write_json, write_text

SMALL = GPTConfig(n_layer=1, n_head=2, n_embd=32, block_size=32)
FOUR = read_candidates("300,350")


@pytest.fixture
def few_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PROBE_STEPS", 4)
    monkeypatch.setattr(module, "PROBE_ROUNDS", 1)
    monkeypatch.setattr(module, "NETWORK", SMALL)


# -- what is asked for -------------------------------------------------------------------------------------------------


def test_sizes_and_types() -> None:
    assert [candidate.size for candidate in read_candidates("16K, 4k,5000,4k", "bpe")] == [4096, 5000, 16384]
    assert read_candidates("64k", "unigram") == [Candidate("unigram", 65535)]
    assert [candidate.name for candidate in read_candidates("272")] == ["bpe-272", "unigram-272"]
    assert read_candidates("4k", "unigram,bpe") == [Candidate("unigram", 4096), Candidate("bpe", 4096)]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--compare", "viele"], "--compare viele: a size is a number of tokens, as in 8192 or 8k"),
        (["--compare", "4k,k"], "--compare k: a size is a number"),
        (["--compare", "271"], "--compare 271: a vocabulary has 272 .* to 65535 tokens"),
        (["--compare", "65537"], "--compare 65537: a vocabulary has 272 .* to 65535 tokens"),
        (["--compare", "65k"], "--compare 65k: a vocabulary has"),
        (["--compare", ","], "--compare needs sizes of vocabularies"),
        (["--compare", "4k", "--types", "bpe,unigrma"], r"--types unigrma: there are bpe, unigram \(did you mean unigram\?\)"),
        (["--compare", "4k", "--vocab_size", "500"], "leave out --vocab_size"),
        (["--types", "bpe"], "--types belongs to --compare SIZES"),
        (["--minutes", "3"], "--minutes belongs to --compare SIZES"),
        (["--compare", "4k", "--minutes", "0"], "0 minutes are no time"),
    ],
)
def test_wrong_usage_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], said: str) -> None:
    assert cli.main(["tokenizer", "--workspace", str(tmp_path / "none"), *arguments]) == UsageError.exit_code
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert re.search(said, error)
    assert not (tmp_path / "none").exists()


def test_no_text(tmp_path: Path) -> None:
    with pytest.raises(TatarLLMError, match="run `tatar-llm prepare` first"):
        compare_tokenizers(Workspace(tmp_path), FOUR)


# -- the whole of it ---------------------------------------------------------------------------------------------------


def test_two_sizes_of_two_types(own_workspace: Workspace, few_steps: None, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["tokenizer", "--workspace", str(own_workspace.root), "--compare", "300,350", "--minutes", "0.02", "--json"]
    assert cli.main(command) == 0
    shown = capsys.readouterr()
    report = json.loads(shown.out)
    assert report == read_json(own_workspace.reports / "tokenizers.json")
    assert "two trainings with each" in shown.err and "about 1 s together" in shown.err
    assert [(row["type"], row["requested"]) for row in report["rows"]] == [("bpe", 300), ("bpe", 350), ("unigram", 300), ("unigram", 350)]
    lines = own_workspace.val_text.read_text(encoding="utf-8").splitlines()
    text = "\n".join(lines)
    for row in report["rows"]:
        tokenizer, config = load_tokenizer(own_workspace.comparison / f"{row['type']}-{row['requested']}")
        assert config["vocab_size"] == row["vocab_size"] and config["model_type"] == row["type"]
        assert row["characters_per_token"] == pytest.approx(len(text) / len(encode_text(tokenizer, text)))
        assert 0 < row["morpheme_agreement"] < 1 < row["tokens_per_word"]
        assert 0 < row["unused_tokens"] < row["tokens_seen_under_100_times"] < row["vocab_size"]
        assert min(row["encode_megabytes_per_second"], row["train_megabytes_per_second"]) > 0
        assert 0 < row["bigram"] < min(row[kind]["bits_per_byte"] for kind in ("equal_text", "equal_time")) < 8
        assert row["parameters"] == GPTConfig(n_layer=1, n_head=2, n_embd=32, block_size=32, vocab_size=row["vocab_size"]).parameters()
    assert "too short to tell tokenizers apart" in report["certainty"]
    told = (own_workspace.reports / "tokenizers.md").read_text(encoding="utf-8")
    assert report["reason"] in told and "| unigram | 350 |" in told
    assert (own_workspace.reports / "tokenizers.png").read_bytes().startswith(b"\x89PNG")
    assert own_workspace.tokenizer.joinpath("config.json").is_file(), "the workspace's own tokenizer stays"

    kept = (own_workspace.comparison / "rows.jsonl").read_bytes()
    assert cli.main(command[:-1]) == 0, "a second time nothing is measured"
    again = capsys.readouterr()
    assert again.out.startswith("type ") and report["reason"] in again.out
    assert read_json(own_workspace.reports / "tokenizers.json") == report
    assert (own_workspace.comparison / "rows.jsonl").read_bytes() == kept


def test_a_stop_loses_only_the_training_it_meets(
    own_workspace: Workspace, few_steps: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    trained: list[int] = []
    real = module._result

    def stopped_once(one: Any, steps: int) -> dict[str, Any]:
        if len(trained) == 2:
            trained.append(-1)
            raise Interrupted(2)
        trained.append(steps)
        return real(one, steps)

    monkeypatch.setattr(module, "_result", stopped_once)
    monkeypatch.setattr(module, "make_plan", lambda *_: {"speeds": [1e4, 1e4], "equal_text": [5, 6], "equal_time": [7, 8]})
    command = ["tokenizer", "--workspace", str(own_workspace.root), "--compare", "300,350", "--types", "bpe", "--minutes", "0.02"]
    assert cli.main(command) == 130
    assert "the same command goes on from there" in capsys.readouterr().err
    with open(own_workspace.comparison / "rows.jsonl", "a", encoding="utf-8") as file:
        file.write('{"key": "torn')
    assert cli.main(command) == 0
    assert trained == [5, 7, -1, 6, 8]


def test_another_text_is_measured_anew(own_workspace: Workspace, few_steps: None) -> None:
    def rows() -> int:
        compare_tokenizers(own_workspace, FOUR[:1], minutes=0.01, network=SMALL)
        return len((own_workspace.comparison / "rows.jsonl").read_text(encoding="utf-8").splitlines())

    assert rows() == rows() == 3, "measures, the plan, and one training: alone, the same text takes the same time"
    write_corpus(own_workspace, tatar_lines(300, seed=7), tatar_lines(30, seed=8))
    assert rows() == 6


def test_the_same_tokenizer_is_measured_once(own_workspace: Workspace, few_steps: None, capsys: pytest.CaptureFixture[str]) -> None:
    report = compare_tokenizers(own_workspace, read_candidates("2k,4k", "bpe"), minutes=0.01)
    assert [row["requested"] for row in report["rows"]] == [2048]
    assert "bpe-4096 is left out: this text gives the same tokenizer" in capsys.readouterr().err
    size = report["rows"][0]["vocab_size"]
    told = (own_workspace.reports / "tokenizers.md").read_text(encoding="utf-8")
    assert f"- bpe {size}: 2048 tokens were asked for, the text repeats itself too little" in told


def test_morphemes_are_tatar_alone(own_workspace: Workspace, few_steps: None, capsys: pytest.CaptureFixture[str]) -> None:
    write_json(own_workspace.corpus_manifest, read_json(own_workspace.corpus_manifest) | {"language": "sah"})
    report = compare_tokenizers(own_workspace, FOUR[:1], minutes=0.01, network=SMALL)
    assert "morpheme_agreement" not in report["rows"][0]
    assert "morpheme ends are left out: the grammar knows Tatar alone, and this text is sah" in capsys.readouterr().err
    assert "this text is sah" in (own_workspace.reports / "tokenizers.md").read_text(encoding="utf-8")


def test_a_long_text_gives_a_part(tmp_path: Path) -> None:
    lines = tatar_lines(2000)
    write_text(tmp_path / "text", "".join(f"{line}\n" for line in lines))
    part = part_of(tmp_path / "text", "line", 20_000)
    assert 15_000 < sum(len(line.encode()) + 1 for line in part) < 25_000
    assert part == part_of(tmp_path / "text", "line", 20_000) and set(part) <= set(lines)
    assert part_of(tmp_path / "text", "line", 10**6) == lines


def test_equal_time_and_equal_text(monkeypatch: pytest.MonkeyPatch) -> None:
    """Speeds of 1,000 and 4,000 bytes a second: four times the text in the same time, the same text in a quarter."""
    import numpy as np

    from tatar_llm.tokenizer import TokenFile

    tokens = TokenFile(np.zeros(100_000, np.uint16), np.array([100_000]), np.array([500_000]), {})
    one = module.Encoded(tokens, tokens, GPTConfig(n_layer=1, n_head=2, n_embd=32, vocab_size=300), 2)
    monkeypatch.setattr(module, "measure_speeds", lambda encoded: [1000.0, 4000.0])
    plan = module.make_plan([one, one], 1000.0)
    step = 1024 * 5  # bytes
    assert plan["equal_time"] == [round(250 * 1000 / step), round(250 * 4000 / step)]
    assert plan["equal_text"] == [round(500 / (1 / 1000 + 1 / 4000) / step)] * 2
    endless = module.make_plan([one, one], 1e9)
    assert endless["equal_time"][1] == pytest.approx(4 * endless["equal_time"][0], rel=0.01), "a limit for one is a limit for all"


# -- what it comes to --------------------------------------------------------------------------------------------------


def row(type: str, size: int, time: float, text: float = 0.0, steps: int = 1000) -> dict[str, Any]:
    return {"type": type, "vocab_size": size, "requested": size, "equal_time": {"bits_per_byte": time, "steps": steps},
            "equal_text": {"bits_per_byte": text or time, "steps": steps}}  # fmt: skip


@pytest.mark.parametrize(
    ("rows", "chosen"),
    [
        ([row("bpe", 4096, 1.2), row("bpe", 8192, 1.1), row("unigram", 8192, 1.3)], ("bpe", 8192)),
        ([row("bpe", 4096, 1.2), row("unigram", 4096, 1.1)], ("unigram", 4096)),
        ([row("unigram", 4096, 1.2), row("bpe", 8192, 1.215), row("bpe", 16384, 1.201)], ("bpe", 8192)),
        ([row("unigram", 8192, 1.2), row("unigram", 4096, 1.21), row("bpe", 4096, 1.23)], ("unigram", 4096)),
    ],
)
def test_the_recommendation(rows: list[dict[str, Any]], chosen: tuple[str, int]) -> None:
    found = recommend(rows)
    assert found["recommended"] == {"type": chosen[0], "vocab_size": chosen[1]}
    assert found["reason"].startswith(f"Take {chosen[0]} {chosen[1]}: ") and "one seed" in found["certainty"]
    assert "too short" not in found["certainty"]


def test_the_recommendation_says_what_it_does_not_know() -> None:
    found = recommend([row("bpe", 4096, 1.2, 1.2, steps=50), row("unigram", 4096, 1.21, 1.1)])
    assert "unigram 4096 is within 2.0% of the lowest" in found["reason"]
    assert "After the same text unigram 4096 is ahead (1.100 against 1.200)" in found["reason"]
    assert "shorter than 200 steps" in found["certainty"]
