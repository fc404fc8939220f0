"""Conversations of the user's own: the forms, and what is said of what is none."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tatar_llm.chat.load import load_conversations
from tatar_llm.chat.template import Turn
from tatar_llm.errors import TatarLLMError

WANTED = [[Turn("user", "Нәрсә ул күл?"), Turn("assistant", "Су.")]]
ROWS: dict[str, dict[str, Any]] = {
    "messages": {"messages": [{"role": "user", "content": "Нәрсә ул күл?"}, {"role": "assistant", "content": [{"type": "text", "text": "Су."}]}]},
    "alpaca": {"instruction": "Нәрсә ул күл?", "input": "", "output": "Су."},
    "sharegpt": {"conversations": [{"from": "human", "value": "Нәрсә ул күл?"}, {"from": "gpt", "value": " Су.\n"}]},
}


@pytest.mark.parametrize("form", ROWS)
@pytest.mark.parametrize("ending", ["jsonl", "json"])
def test_forms(tmp_path: Path, form: str, ending: str) -> None:
    text = json.dumps(ROWS[form], ensure_ascii=False)
    file = tmp_path / f"a.{ending}"
    file.write_text(f"\ufeff{text}\r\n\n" if ending == "jsonl" else f"[{text}]", encoding="utf-8")
    assert load_conversations(str(file)).conversations == WANTED
    assert load_conversations(str(tmp_path)).conversations == WANTED


def test_parquet(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    parquet.write_table(pyarrow.Table.from_pylist([ROWS["sharegpt"]]), tmp_path / "a.parquet")
    assert load_conversations(str(tmp_path / "a.parquet")).conversations == WANTED
    (tmp_path / "a.parquet").write_bytes(b"PAR1 and then nothing")
    with pytest.raises(TatarLLMError, match="no readable parquet"):
        load_conversations(str(tmp_path / "a.parquet"))


def test_an_input_stands_below_the_instruction(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"instruction": "Тәрҗемә ит:", "input": "кот", "output": "мәче"}', encoding="utf-8")
    assert load_conversations(str(tmp_path / "a.jsonl")).conversations[0][0].text == "Тәрҗемә ит:\nкот"


GOOD = json.dumps(ROWS["messages"])


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "is empty"),
        (f'{GOOD}\n{{"messages": [', "line 2: not valid JSON"),
        (f"{GOOD}\n[]", "line 2: an object is wanted, not list"),
        ('{"text": "Су."}', "line 1: no conversation in a known form .* its keys are text"),
        ('{"messages": [{"role": "user", "content": "?"}]}', "line 1: it ends without an answer"),
        ('{"messages": [{"role": "assistant", "content": "!"}, {"role": "user", "content": "?"}]}', "line 1: roles in the wrong order"),
        ('{"messages": [{"role": "user", "content": " "}, {"role": "assistant", "content": "!"}]}', "line 1: turn 1 is empty"),
        ('{"messages": [{"role": "user"}]}', "line 1: each turn needs 'role' and 'content'"),
        ('{"instruction": 5, "output": "!"}', "line 1: 'instruction' must be text, not int"),
        ('{"messages": []}', "line 1: it has no turns"),
        ("<html>", "line 1: not valid JSON"),
        ("[1, 2", "not valid JSON"),
        ("[1, 2]", "number 1: an object is wanted"),
    ],
)
def test_what_is_no_conversation(tmp_path: Path, text: str, told: str) -> None:
    (tmp_path / "a.jsonl").write_text(text, encoding="utf-8")
    with pytest.raises(TatarLLMError, match=f"a.jsonl.*{told}"):
        load_conversations(str(tmp_path / "a.jsonl"))


def test_other_bytes(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(GOOD.encode() + b"\n\xff\xfe")
    with pytest.raises(TatarLLMError, match="line 2: not UTF-8"):
        load_conversations(str(tmp_path / "a.jsonl"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(TatarLLMError, match=r"holds no \.jsonl"):
        load_conversations(str(tmp_path / "empty"))


def test_a_data_set_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("huggingface_hub")
    with pytest.raises(TatarLLMError, match=r"no file or folder nowhere\.jsonl"):
        load_conversations("nowhere.jsonl")
    with pytest.raises(TatarLLMError, match="no file someone/something here, and the data set someone/something cannot be had"):
        load_conversations("someone/something")
