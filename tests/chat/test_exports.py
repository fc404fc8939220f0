"""A chat model says the same in transformers, in llama.cpp and here."""

from __future__ import annotations

from pathlib import Path

import pytest

from tatar_llm.chat import Speaker, Turn
from tatar_llm.chat.template import encode_turns
from tatar_llm.export import export_gguf, export_hf
from tatar_llm.generation import Settings
from tatar_llm.training import ModelPlace
from tatar_llm.workspace import Workspace, read_json

QUESTIONS = (
    [Turn("user", "Урман нәрсә ул?")],
    [Turn("user", "Син кем?"), Turn("assistant", "Мин модель."), Turn("user", "Күл нәрсә ул?")],
)
TOKENS = 24


def messages(turns: list[Turn]) -> list[dict[str, str]]:
    return [{"role": turn.role, "content": turn.text} for turn in turns]


def test_transformers(chat_place: ModelPlace, tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    folder = export_hf(Workspace(tmp_path), chat_place)
    assert read_json(folder / "generation_config.json")["eos_token_id"] == [3, 7]
    model, tokenizer = transformers.AutoModelForCausalLM.from_pretrained(folder).eval(), transformers.AutoTokenizer.from_pretrained(folder)
    speaker = Speaker.load(chat_place, "cpu")
    for turns in QUESTIONS:
        ids = tokenizer.apply_chat_template(messages(turns), add_generation_prompt=True, return_tensors="pt", return_dict=True)
        made = model.generate(**ids, do_sample=False, max_new_tokens=TOKENS)[0, ids["input_ids"].shape[1] :]
        assert tokenizer.decode(made, skip_special_tokens=True).strip() == speaker.answers([turns], Settings(TOKENS, temperature=0))[0]
    told = [*QUESTIONS[0], Turn("assistant", "Агачлар.")]
    found = tokenizer.apply_chat_template(messages(told), return_dict=True, return_assistant_tokens_mask=True)
    ids, learnt = encode_turns(speaker.tokenizer, speaker.tok_config, told, 64)
    assert (found["input_ids"], [bool(one) for one in found["assistant_masks"]]) == (ids, learnt)
    assert "apply_chat_template" in (folder / "README.md").read_text(encoding="utf-8")
    again = Speaker.load(ModelPlace("hf", folder, folder), "cpu")  # the folder is a chat model here too
    assert again.chat and again.answers(QUESTIONS, Settings(TOKENS, temperature=0)) == speaker.answers(QUESTIONS, Settings(TOKENS, temperature=0))


def test_llama_cpp(chat_place: ModelPlace, tmp_path: Path) -> None:
    pytest.importorskip("xllamacpp")
    import json
    import subprocess
    import sys

    folder = export_gguf(Workspace(tmp_path), chat_place, dtype="f32")
    [file] = folder.glob("*.gguf")
    speaker = Speaker.load(chat_place, "cpu")
    wanted = speaker.answers(QUESTIONS, Settings(TOKENS, temperature=0))
    code = (  # in a process of its own, as the export's check
        "import json, os, sys; from tatar_llm.export.llama_cpp import LlamaCpp; out = os.dup(1); os.dup2(2, 1)\n"
        f"llama = LlamaCpp(sys.argv[1], 64); asked = json.load(sys.stdin)\n"
        f"found = [llama.ask('/v1/chat/completions', {{'messages': one, 'temperature': 0, 'max_tokens': {TOKENS}}}) for one in asked]\n"
        "os.write(out, json.dumps([one['choices'][0]['message']['content'] for one in found]).encode()); os._exit(0)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(file)], input=json.dumps([messages(turns) for turns in QUESTIONS]), capture_output=True,
                          text=True, encoding="utf-8", timeout=300, check=False)  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    assert [one.strip() for one in json.loads(done.stdout)] == wanted
    assert "PARAMETER stop <|end|>" in (folder / "Modelfile").read_text(encoding="utf-8")
