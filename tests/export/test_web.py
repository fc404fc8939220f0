"""The page: what it holds and refuses; and, in a headless Chromium, that it computes what the package computes."""

from __future__ import annotations

import base64
import contextlib
import dataclasses
import gzip
import http.server
import io
import json
import os
import random
import re
import shutil
import subprocess
import sys
import tarfile
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from chromium import Chromium
from little_chat import PAIRS, QUICK, make_ready
from test_hf import place_of
from test_onnx import needs_libraries

from tatar_llm import cli
from tatar_llm.chat import ANSWER_TOKENS, Speaker, Turn, tune
from tatar_llm.chat.template import prompt_ids
from tatar_llm.config import ChatConfig, GPTConfig
from tatar_llm.errors import TatarLLMError
from tatar_llm.export import export_web
from tatar_llm.export.source import Source, read_source
from tatar_llm.export.texts import CHECK_LINES, random_texts
from tatar_llm.export.web import page as page_module
from tatar_llm.export.web import proof, runtime
from tatar_llm.export.web.page import FOLDER, MODULES, characters, engine_source
from tatar_llm.export.web.runtime import Runtime
from tatar_llm.generation import Settings, Suggester, generate_text
from tatar_llm.model import GPT
from tatar_llm.tokenizer import encode_text
from tatar_llm.training import ModelPlace, find_model
from tatar_llm.workspace import Workspace, read_json, sha256_file


class Browser(Chromium):
    """Opens a page and waits until its model is there."""

    def open(self, address: str) -> None:
        super().open(address)
        self.wait("!document.getElementById('write').disabled")

    @property
    def schemes(self) -> set[str]:
        """Kinds of address asked for."""
        return {address.split(":", 1)[0] for address in self.requests}


ROOT = Path(__file__).parents[2]
needs_node = pytest.mark.skipif(not shutil.which("node"), reason="no node here")
MODULE = 'import(1);let a=import.meta.url,b=2;export{a as InferenceSession,b,a as default};\n//# sourceMappingURL=x.map\n'


@pytest.fixture
def place(tiny_model: GPT, tiny_workspace: Workspace, tmp_path: Path) -> ModelPlace:
    return place_of(tiny_model, tiny_workspace, tmp_path / "models")


@pytest.fixture
def source(place: ModelPlace) -> Source:
    return read_source(place)


@pytest.fixture
def chat_source(tiny_model: GPT, tiny_workspace: Workspace, tmp_path: Path) -> Source:
    return read_source(place_of(tiny_model, tiny_workspace, tmp_path / "chat models", chat=True))


def conversation(*texts: str) -> list[Turn]:
    """The user begins."""
    return [Turn(("user", "assistant")[number % 2], text) for number, text in enumerate(texts)]


def as_data(turns: list[Turn]) -> list[dict[str, str]]:
    return [dataclasses.asdict(turn) for turn in turns]


def in_node(folder: Path, code: str, given: Any) -> Any:
    """What `code`, after the engine, makes of `given`: it calls `tell`."""
    (folder / "given.json").write_text(json.dumps(given), encoding="utf-8")
    head = 'import { readFileSync } from "node:fs";\nconst given = JSON.parse(readFileSync("given.json", "utf-8"));\n'
    tell = "const tell = (value) => console.log(JSON.stringify(value));\n"
    (folder / "run.mjs").write_text(head + tell + engine_source() + "\n" + code, encoding="utf-8")
    done = subprocess.run(["node", "run.mjs"], cwd=folder, capture_output=True, text=True, encoding="utf-8", check=True)
    return json.loads(done.stdout)


@pytest.fixture
def archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A runtime of a few bytes that passes for the one that is asked for."""
    file = tmp_path / "elsewhere" / "runtime.tgz"
    file.parent.mkdir()
    with tarfile.open(file, "w:gz") as made:
        for name, content in ((runtime.SCRIPT, MODULE.encode()), (runtime.WASM, b"\0asm")):
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            made.addfile(entry, io.BytesIO(content))
    monkeypatch.setattr(runtime, "SHA256", sha256_file(file))
    return file


def no_npm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtime.shutil, "which", lambda _: None)


# -- the runtime


def test_without_npm_one_line_says_what_to_do(place: ModelPlace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    no_npm(monkeypatch)
    monkeypatch.setattr(page_module, "need_libraries", lambda _: None)
    with pytest.raises(TatarLLMError, match=r"there is no npm here: .*npm pack onnxruntime-web@[\d.]+` .*--runtime") as told:
        export_web(Workspace(tmp_path), place)
    assert "\n" not in str(told.value)
    assert not (tmp_path / "exports").exists()


def test_what_is_not_that_archive_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    no_npm(monkeypatch)
    workspace, other = Workspace(tmp_path), tmp_path / "other.tgz"
    other.write_bytes(b"something else")
    with pytest.raises(TatarLLMError, match=r"other.tgz is not the archive of onnxruntime-web"):
        runtime.read_runtime(workspace, str(other))
    with pytest.raises(TatarLLMError, match=r"does not exist: `npm pack"):
        runtime.read_runtime(workspace, str(tmp_path / "none.tgz"))
    workspace.raw.mkdir(parents=True)
    (workspace.raw / runtime.ARCHIVE).write_bytes(b"damaged")
    with pytest.raises(TatarLLMError, match="no npm"):
        runtime.read_runtime(workspace)


def test_an_archive_given_once_is_kept(archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    no_npm(monkeypatch)
    workspace = Workspace(tmp_path)
    first = runtime.read_runtime(workspace, str(archive))
    archive.unlink()
    assert runtime.read_runtime(workspace) == first
    assert runtime.read_runtime(workspace, str(workspace.raw / runtime.ARCHIVE)) == first
    assert first.wasm == b"\0asm"


def test_npm_is_asked_once(archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def npm(command: list[str], cwd: str, **_: Any) -> subprocess.CompletedProcess:
        asked.append(command)
        shutil.copyfile(archive, Path(cwd) / runtime.ARCHIVE)
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(runtime.shutil, "which", lambda _: "npm")
    monkeypatch.setattr(runtime.subprocess, "run", npm)
    for _ in range(2):
        assert runtime.read_runtime(Workspace(tmp_path)).wasm == b"\0asm"
    assert [command[:3] for command in asked] == [["npm", "pack", runtime.PACKAGE]]


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        ("npm error code E404\nnpm error 404 Not Found - GET it\nnpm error 404", "404 Not Found - GET it"),
        ("npm ERR! code ECONNREFUSED\nnpm ERR! syscall connect\nnpm ERR! FetchError: request failed, reason: no route", "no route"),
        ("", "no reason given"),
    ],
)
def test_why_npm_failed(said: str, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtime.shutil, "which", lambda _: "npm")
    monkeypatch.setattr(runtime.subprocess, "run", lambda command, **_: subprocess.CompletedProcess(command, 1, "", said))
    with pytest.raises(TatarLLMError, match=re.escape(f"npm could not fetch {runtime.PACKAGE} ({reason})")):
        runtime.read_runtime(Workspace(tmp_path))


@needs_node
def test_a_module_becomes_a_script() -> None:
    code = f"{runtime.as_script(MODULE.replace('import(1);', ''))}\nonnxruntime.then((made) => console.log(JSON.stringify(made)));"
    done = subprocess.run(["node", "-e", code], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == {"InferenceSession": "blob:", "b": 2, "default": "blob:"}


# -- the page


def test_what_the_page_holds(source: Source) -> None:
    html = page_module.page(source, b"the model", Runtime("const onnxruntime = 1;", b"the wasm"), {"ids": []})
    assert not re.findall(r"\{\{\w+\}\}|https?:|//[\w-]+\.\w|import\(|@import|url\(", html), "a place to fill, or something from outside"
    assert set(re.findall(r'(?:src|href)="([^"]*)"', html)) == {"data:,"}
    parts = dict(re.findall(r'<script type="[^"]+" id="(\w+)">(.*?)</script>', html, re.S))
    assert list(parts) == ["about", "words", "runtime", "engine", "tokenizer", "model", "wasm", "expected"]
    unpacked = {name: gzip.decompress(base64.b64decode(parts[name])) for name in ("tokenizer", "model", "wasm", "expected")}
    assert (unpacked["model"], unpacked["wasm"]) == (b"the model", b"the wasm")
    assert json.loads(unpacked["tokenizer"])["tokens"][2:4] == ["<bos>", "<eos>"]
    about = json.loads(parts["about"])
    assert about["keyboard"] == "әөүҗңһ"
    assert about["interface"] == "tt"
    assert (about["corpus"], about["bits"], about["model"]) == ("made-up", 1.234, "001-tiny")
    assert "<title>Татар теле</title>" in html
    assert about["chat"] is False
    assert "marks" not in json.loads(unpacked["tokenizer"])
    assert re.search(r'<section id="chat"[^>]* hidden>', html), "the card is shown where the model chats, by page.js"


def test_what_the_page_of_a_chat_model_holds(chat_source: Source) -> None:
    html = page_module.page(chat_source, b"", Runtime("", b""), {})
    assert page_module.about_model(chat_source)["chat"] is True
    assert page_module.tokenizer_data(chat_source)["marks"] == {"user": 5, "assistant": 6, "end": 7}
    chosen = re.findall(r'<input type="range" id="chat\w+" name="(\w+)" [^>]*value="([^"]+)"', html)
    assert chosen == [("temperature", "0.3"), ("topK", "40"), ("length", str(ANSWER_TOKENS))]


def test_what_is_proved_of_a_chat_model(chat_source: Source, source: Source) -> None:
    assert "chats" not in proof.expectations(source)
    made = proof.expectations(chat_source)["chats"]
    room = chat_source.config.block_size - min(proof.STEPS, chat_source.config.block_size // 2)
    sizes = [len(one["turns"]) for one in made]
    assert (sizes[:3], sizes[4]) == ([1, 5, 3], 3) and sizes[3] > 5
    for one in made:
        turns = [Turn(**turn) for turn in one["turns"]]
        assert turns[-1].role == "user"
        assert one["ids"] == prompt_ids(chat_source.tokenizer, chat_source.tok_config, turns, room)
        assert len(one["ids"]) <= room and len(one["margins"]) >= len(one["tokens"]) > 0
    assert made[4]["ids"][:2] == [2, 5] and len(made[4]["ids"]) == room, "a question that is too long keeps its end"


def test_a_name_that_looks_like_mark_up(source: Source) -> None:
    source.facts["corpus"] = '</script><script>alert("1")</script>'
    source.facts["language"] = "<b>"
    html = page_module.page(source, b"", Runtime("", b""), {})
    assert "alert" in html
    assert "</script><script>alert" not in html
    assert "<title>b</title>" in html


def test_every_word_in_three_languages() -> None:
    words = json.loads((FOLDER / "words.json").read_text(encoding="utf-8"))
    assert list(words) == ["tt", "ru", "en"]
    html, script = ((FOLDER / name).read_text(encoding="utf-8") for name in ("page.html", "page.js"))
    used = set(re.findall(r'data-(?:text|label)="(\w+)"', html)) | set(re.findall(r'(?:say|show|halt|fail)\((?:[^()"]*, )?"(\w+)"', script))
    used |= set(re.findall(r'(?:nothing: |dataset\.text = |(?:made|ready) \? )"(\w+)"', script))
    assert {"talk", "send", "restart", "answers", "chatLead", "silent", "messageHint", "you", "written", "broken"} <= used
    for name, table in words.items():
        assert used <= table.keys(), name
        assert table.keys() == words["en"].keys(), name
        assert {key for key, text in table.items() if "{n}" in text} == {key for key, text in words["en"].items() if "{n}" in text}


def test_the_modules_become_one_script() -> None:
    joined = engine_source()
    assert not re.search(r"^(import|export) ", joined, re.M)
    names = re.findall(r"^(?:async )?(?:function\*?|class|const|let) (\w+)", joined, re.M)
    assert len(names) == len(set(names)), "a name of one module stands in another"
    for number, name in enumerate(MODULES):
        wanted = re.findall(r'from "\./(\w+\.js)"', (FOLDER / name).read_text(encoding="utf-8"))
        assert set(wanted) <= set(MODULES[:number])


@needs_node
def test_ids_in_node(source: Source, tmp_path: Path) -> None:
    """Apostrophes, spaces of all kinds, new letters, very long words, whole Unicode."""
    (tmp_path / "tokenizer.mjs").write_text((FOLDER / "tokenizer.js").read_text(encoding="utf-8"), encoding="utf-8")
    odd = [chr(number) for number in (*range(0x250), 0x17F, 0x85, 0xA0, 0x2028, 0x212A, 0x3000, 0xFEFF, 0xFB05, 0x1E030)]
    texts = [*CHECK_LINES, *random_texts(300), "әни" * 2000, " " * 3000, *(f"a'{one}e 'l{one}{one} 1{one}\n" for one in odd)]
    (tmp_path / "given.json").write_text(json.dumps([page_module.tokenizer_data(source), texts]), encoding="utf-8")
    (tmp_path / "run.mjs").write_text(
        'import { readFileSync } from "node:fs"; import { Tokenizer } from "./tokenizer.mjs";\n'
        'const [data, texts] = JSON.parse(readFileSync("given.json", "utf-8")); const made = new Tokenizer(data);\n'
        'const all = (ids) => { const step = made.decoder(); return ids.map(step).join("") + step(null); };\n'
        'console.log(JSON.stringify(texts.map((text) => [made.encode(text), all(made.encode(text)) === text])));', encoding="utf-8",
    )  # fmt: skip
    done = subprocess.run(["node", "run.mjs"], cwd=tmp_path, capture_output=True, text=True, encoding="utf-8", check=True)
    for text, (ids, same) in zip(texts, json.loads(done.stdout), strict=True):
        assert ids == encode_text(source.tokenizer, text), repr(text)
        assert same, repr(text)


@needs_node
def test_ids_of_conversations_in_node(chat_source: Source, tmp_path: Path) -> None:
    """Every way to fill a room: turns leave, the last one is cut; blanks around a text, marks in it."""
    tokenizer, config = chat_source.tokenizer, chat_source.tok_config
    source = random.Random(0)
    texts = [*CHECK_LINES, *random_texts(60), "<|user|>", "<|end|><|assistant|>", " \x1c\x1f\x85\xa0 \u2003ә\ufeff\u3000\v ", "\u180e\u200b", "  "]
    asked = [(conversation(*source.choices(texts, k=source.randint(1, 9))), source.randint(4, 90)) for _ in range(400)]
    asked += [(conversation("Сәлам!", "Исәнмесез!", "Ә хәзер?"), room) for room in range(1, 40)]
    asked += [([*conversation("Сәлам!"), *conversation("Сәлам!", "Исәнмесез!", "Ә?")], room) for room in range(5, 30)]  # two questions in a row
    found = in_node(tmp_path, "const made = new Tokenizer(given[0]); tell(given[1].map(([turns, room]) => promptIds(made, turns, room)));",
                    [page_module.tokenizer_data(chat_source), [[as_data(turns), room] for turns, room in asked]])  # fmt: skip
    for (turns, room), ids in zip(asked, found, strict=True):
        assert ids == prompt_ids(tokenizer, config, turns, room), (turns, room)


@needs_node
def test_the_room_for_an_answer_in_node(chat_source: Source, tmp_path: Path) -> None:
    turns = conversation(*["Бүген һава бик матур."] * 9)
    speaker = Speaker(chat_source.model, chat_source.tokenizer, chat_source.tok_config, chat=True)
    context = chat_source.config.block_size
    lengths = [1, 5, context // 2, context, ANSWER_TOKENS]
    code = "const made = new Tokenizer(given[0]); tell(given[3].map((length) => chatPrompt(made, given[1], given[2], length)));"
    found = in_node(tmp_path, code, [page_module.tokenizer_data(chat_source), as_data(turns), context, lengths])
    for length, prompt in zip(lengths, found, strict=True):
        wanted = speaker.prompt(turns, length)
        assert prompt == {"ids": wanted.ids, "heal": wanted.heal, "end": wanted.end}


@needs_node
def test_what_ends_an_answer_in_node(chat_source: Source, tmp_path: Path) -> None:
    """<|end|> alone; <eos> prints nothing there, and ends a continuation."""
    letters = [chat_source.tokenizer.token_to_id(letter) for letter in "ab"]
    eos, end = chat_source.tok_config["eos_token_id"], 7
    code = """
      const tokenizer = new Tokenizer(given[0]);
      async function made(prompt, script) {
        const shape = { layers: 1, heads: 1, width: 1, context: 32, vocabulary: tokenizer.bytes.length };
        const read = async (ids, cache) => {
          const [next, length] = [script.shift(), cache.length + ids[0].length];
          return { logits: [tokenizer.bytes.map((_, id) => Number(id === next))], cache: new Cache(shape, 1, length, [], []) };
        };
        let text = "";
        for await (const step of continued({ shape, read }, tokenizer, prompt, { length: 9, temperature: 0, topK: 0 })) text += step.text;
        return text;
      }
      const asked = chatPrompt(tokenizer, [{ role: "user", text: "ab" }], 32, 9);
      tell([await made(asked, [...given[1]]), await made(readPrompt(tokenizer, "ab"), [...given[1]])]);
    """
    script = [letters[0], eos, letters[1], end, letters[0], eos]
    assert in_node(tmp_path, code, [page_module.tokenizer_data(chat_source), script]) == ["ab", "a"]


def test_letters_as_the_tokenizer_knows_them() -> None:
    assert characters(r"[a-cxәө]") == "61-63 78 4d9 4e9"
    assert characters(r"\s").startswith("9-d 20 85 a0 ")


def test_a_byte_a_weight(tiny_model: GPT) -> None:
    stored = page_module.rounded(tiny_model)
    for (name, before), after in zip(tiny_model.state_dict().items(), stored.state_dict().values(), strict=True):
        if before.dim() == 1:
            assert torch.equal(before, after), name
        else:
            step = before.abs().amax(dim=1, keepdim=True) / 127
            assert 0 < float(((before - after).abs() / step).max()) <= 0.501, name


def test_without_the_libraries(place: ModelPlace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(TatarLLMError, match=r"export web needs .*pip install .tatar-llm\[onnx\]"):
        export_web(Workspace(tmp_path), place)


def test_runtime_belongs_to_the_page(capsys: pytest.CaptureFixture) -> None:
    assert cli.main(["export", "onnx", "--runtime", "x.tgz"]) == 2
    assert "--runtime belongs to export web" in capsys.readouterr().err


# -- in node and in a browser

ARCHIVE = ROOT / "data" / "raw" / runtime.ARCHIVE
needs_runtime = pytest.mark.skipif(not ARCHIVE.is_file(), reason="run `tatar-llm export web` in this checkout once: tests fetch nothing")
needs_browser = pytest.mark.skipif(os.name == "nt" or not proof.find_browser(), reason="no Chromium here")


@pytest.fixture(scope="module")
def exported(tiny_workspace: Workspace, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Source]:
    """The page of a small network, and what it holds."""
    torch.manual_seed(0)
    config = GPTConfig(n_layer=2, n_head=4, n_kv_head=2, n_embd=64, block_size=48, vocab_size=400)
    model = GPT(config).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.dim() == 2:
                parameter.mul_(3 if name == "embedding.weight" else 5)
    folder = tmp_path_factory.mktemp("бит")
    place = place_of(model, tiny_workspace, folder / "models")
    made = export_web(Workspace(folder), place, runtime=str(ARCHIVE))
    source = read_source(place)
    return made, dataclasses.replace(source, model=page_module.rounded(source.model))


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[Browser]:
    made = Browser(tmp_path / "profile")
    yield made
    made.close()


def offered(browser: Browser) -> list[str]:
    return browser.run("[...document.querySelectorAll('#suggestions button:enabled')].map((one) => one.textContent)")


@pytest.mark.slow
@needs_libraries
@needs_runtime
@needs_browser
def test_the_page_in_a_browser(exported: tuple[Path, Source], browser: Browser) -> None:
    """Opened as a file: the self-test, suggestions, a continuation, letters, languages; no complaint, nothing from outside."""
    folder, source = exported
    assert sorted(path.name for path in folder.iterdir()) == ["README.md", "export.json", "index.html"]
    assert read_json(folder / "export.json")["tatar_llm"]["dtype"] == "int8"
    browser.open(f"{(folder / 'index.html').as_uri()}#selftest")
    browser.wait("document.getElementById('result').textContent.length > 15")
    assert re.fullmatch(r"Барысы да туры килә: \d{3}\.", browser.run("document.getElementById('result').textContent"))

    suggester = Suggester(source.model, source.tokenizer, source.tok_config)
    browser.press("#text")
    for text in ("Минем әни", " китап", "лар укый, ә абы", "й"):
        browser.type(text)
        typed = browser.run("document.getElementById('text').value")
        wanted = [one.word for one in suggester.suggest(typed, 3)]
        browser.wait("JSON.stringify([...document.querySelectorAll('#suggestions button:enabled')].map((one) => one.textContent))"
                     f" === JSON.stringify({json.dumps(wanted)})", 20)  # fmt: skip
    before, word = typed, offered(browser)[1]
    browser.key("2", "Digit2", modifiers=1)
    assert browser.wait("document.getElementById('text').value.endsWith(' ') && document.getElementById('text').value") == (
        before[: before.rindex(" ") + 1] + word + " ")  # fmt: skip
    assert not browser.run("document.getElementById('chat').checkVisibility()")
    browser.press("#letters .shift")
    browser.press("#letters button:nth-child(2)")
    browser.press("#letters button:nth-child(7)")
    assert browser.run("document.getElementById('text').value").endswith(" Әһ")

    browser.run("document.getElementById('text').value = 'Бүген һава '")
    browser.run("document.getElementById('temperature').value = 0")
    browser.press("#write")
    browser.wait("!document.getElementById('take').hidden")
    made = browser.run("document.getElementById('made').textContent")
    assert made == generate_text(source.model, source.tokenizer, source.tok_config, "Бүген һава ", 60, 0.0)
    browser.press("#take")
    assert browser.run("document.getElementById('text').value") == made

    browser.run("document.getElementById('length').max = 100000, document.getElementById('length').value = 100000")
    browser.press("#write")
    browser.wait("document.getElementById('new').textContent.length > 20")
    browser.press("#stop")
    length = browser.wait("!document.getElementById('write').hidden && document.getElementById('new').textContent.length")
    time.sleep(0.3)
    assert browser.run("document.getElementById('new').textContent.length") == length

    for language, told in (("ru", "Модель выдумывает факты"), ("en", "The model invents facts"), ("tt", "Модель фактларны уйлап чыгара")):
        browser.press(f"[data-language={language}]")
        shown = browser.run("document.body.innerText")
        assert told in shown
        assert "001-tiny" in shown and "made-up" in shown
        assert browser.run("document.documentElement.lang") == language
    assert browser.problems == []
    assert browser.schemes <= {"file", "blob", "data"}


@pytest.fixture(scope="module")
def chatting(tiny_workspace: Workspace, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Speaker]:
    """The page of a model that was taught a few answers, and the speaker that it holds."""
    folder = tmp_path_factory.mktemp("әңгәмә")
    workspace, data = make_ready(Workspace(shutil.copytree(tiny_workspace.root, folder / "workspace")), folder / "own.jsonl")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tune, "measure_flops", lambda *_: 1e9)
        tune.finetune(workspace, find_model(workspace), ChatConfig(data=(str(data),), builtin=False), QUICK, minutes=0)
    place = find_model(workspace, chat=True)
    made = export_web(Workspace(folder), place, runtime=str(ARCHIVE))
    source = read_source(place)
    return made, Speaker(page_module.rounded(source.model), source.tokenizer, source.tok_config, chat=True)


@pytest.mark.slow
@needs_libraries
@needs_runtime
@needs_browser
def test_the_page_chats_in_a_browser(chatting: tuple[Path, Speaker], browser: Browser) -> None:
    """A conversation until its first turns leave the context: the speaker's answers; letters, keys, stopping, beginning anew."""
    folder, speaker = chatting
    browser.open(f"{(folder / 'index.html').as_uri()}#selftest")
    told = browser.wait("document.getElementById('result').textContent.length > 15 && document.getElementById('result').textContent")
    assert re.fullmatch(r"Барысы да туры килә: \d{3}\.", told)
    assert "Кечкенә тел моделе сорауларга җавап бирә" in browser.run("document.body.innerText")

    def shown() -> list[list[str]]:
        return browser.run("[...document.querySelectorAll('#turns .turn')].map((one) => [one.classList[1], one.lastElementChild.textContent])")

    def enter(modifiers: int = 0) -> None:
        for kind, text in (("keyDown", "\r"), ("keyUp", "")):
            browser.ask("Input.dispatchKeyEvent", type=kind, key="Enter", code="Enter", text=text, modifiers=modifiers)

    def ended(turns: int) -> None:
        browser.wait(f"!document.getElementById('send').hidden && document.querySelectorAll('#turns .turn').length === {turns}", 20)

    assert browser.run("document.getElementById('chatTemperature').value") == "0.3"
    browser.run("document.getElementById('chatTemperature').value = 0")
    browser.press("#message")
    turns: list[Turn] = []
    questions = [*PAIRS, *PAIRS]
    for number, asked in enumerate(questions):
        browser.type(asked)
        if number % 2:
            browser.press("#send")
        else:
            enter()
        turns.append(Turn("user", asked))
        [answer] = speaker.answers([turns], Settings(ANSWER_TOKENS, temperature=0, top_k=40))
        turns += [Turn("assistant", answer)] if answer else []
        ended(2 * number + 2)
        assert shown()[-2:] == [["user", asked], ["assistant", answer]]
        assert browser.run("document.activeElement.id") == "message" and browser.run("document.getElementById('message').value") == ""
    assert shown()[1] == ["assistant", PAIRS[shown()[0][1]]]
    ids = speaker.prompt(turns[:-1]).ids
    assert len(ids) < 64 and ids.count(7) < len(turns) - 1, "all turns have room: nothing was tried"

    browser.press(".letters[data-field=message] .shift")
    browser.press(".letters[data-field=message] button:nth-child(2)")
    browser.press(".letters[data-field=message] button:nth-child(7)")
    enter(modifiers=8)
    browser.type("җ")
    assert browser.run("document.getElementById('message').value") == "Әһ\nҗ" and len(shown()) == 2 * len(questions)
    enter()
    ended(2 * len(questions) + 2)
    assert shown()[-2] == ["user", "Әһ\nҗ"]
    browser.press("#restart")
    assert shown() == [] and "Әңгәмә монда күренер." in browser.run("document.body.innerText")

    browser.type("Күл нәрсә ул?")
    browser.run("document.getElementById('send').click(), document.getElementById('stopAnswer').click()")
    assert shown() == [["user", "Күл нәрсә ул?"], ["assistant", "Туктатылды."]]
    browser.run("new MutationObserver((_, self) => { if (!document.querySelector('#talk > .turn .said')?.textContent) return; self.disconnect();"
                "window.barred = document.getElementById('write').disabled; document.getElementById('stopAnswer').focus();"
                "document.getElementById('stopAnswer').click(); }).observe(document.getElementById('talk'), {subtree: true, childList: true})")  # fmt: skip
    browser.type("Син кем?")
    enter()
    ended(4)
    [*_, [_, said]] = shown()
    assert PAIRS["Син кем?"].startswith(said) and 0 < len(said) < len(PAIRS["Син кем?"])
    assert browser.run("window.barred"), "one text at a time"
    time.sleep(0.3)
    assert shown()[-1][1] == said and browser.run("document.activeElement.id") == "send"
    browser.press("#message")
    browser.type("Урман нәрсә ул?")
    enter()
    ended(6)  # what was not answered is no part of it, what was begun is
    turns = conversation("Син кем?", said, "Урман нәрсә ул?")
    assert shown()[-1][1] == speaker.answers([turns], Settings(ANSWER_TOKENS, temperature=0))[0]

    for language, words in (("ru", "Модель маленькая и часто ошибается"), ("en", "The model is small and often wrong"), ("tt", "Модель кечкенә һәм еш ялгыша")):
        browser.press(f"[data-language={language}]")
        assert words in browser.run("document.body.innerText")
    assert browser.run("[...document.querySelectorAll('#turns .unseen')].map((one) => one.textContent)") == ["Сез:", "Модель:"] * 3
    browser.screen(360, 740, phone=True)
    assert browser.run("document.documentElement.scrollWidth") <= 360
    assert browser.problems == []
    assert browser.schemes <= {"file", "blob", "data"}


@pytest.mark.slow
@needs_libraries
@needs_runtime
@needs_browser
def test_the_page_from_a_server(exported: tuple[Path, Source], browser: Browser) -> None:
    class Quiet(http.server.SimpleHTTPRequestHandler):
        asked: ClassVar[list[str]] = []

        def log_message(self, *_: Any) -> None:
            self.asked.append(self.path)

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(exported[0])))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        browser.open(f"http://127.0.0.1:{server.server_port}/index.html")
        browser.press("#text")
        browser.type("Минем ")
        browser.wait("document.querySelectorAll('#suggestions button:enabled').length")
        assert browser.problems == []
        assert Quiet.asked == ["/index.html"]
    finally:
        server.shutdown()


@pytest.mark.slow
@needs_libraries
@needs_runtime
def test_what_is_not_equal_is_not_written(chat_source: Source, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    place = chat_source.place

    def wrong(source: Source) -> dict[str, Any]:
        made = proof.expectations(source)
        return made | {"ids": [["сүз", [1, 2]]]}

    def different(source: Source) -> dict[str, Any]:
        made = proof.expectations(source)
        text, words = made["suggestions"][-2].values()
        return made | {"suggestions": [{"text": text, "words": [[word[::-1] + "а", p] for word, p in words]}]}

    def other(source: Source) -> dict[str, Any]:
        made = proof.expectations(source)
        made["continuations"][2]["tokens"][3] += 1
        return made

    def longer(source: Source) -> dict[str, Any]:
        made = proof.expectations(source)
        made["chats"][3]["ids"].insert(1, 5)
        return made

    def ended(source: Source) -> dict[str, Any]:
        made = proof.expectations(source)
        made["chats"][0]["tokens"].pop()
        return made

    monkeypatch.setattr(page_module, "write_onnx", remembering(page_module.write_onnx))
    for kind, lie in (("ids", wrong), ("suggestions", different), ("continuations", other), ("chats", longer), ("chats", ended)):
        monkeypatch.setattr(page_module, "expectations", lie)
        with pytest.raises(TatarLLMError, match=f"the page does not compute the same in .*: {kind} of .*; nothing was written"):
            export_web(Workspace(tmp_path), place, runtime=str(ARCHIVE), dtype="f32")
        assert not (tmp_path / "exports" / "web").exists()
    monkeypatch.setattr(page_module, "expectations", lambda source: proof.expectations(source) | {"ids": []})
    monkeypatch.setattr(proof.shutil, "which", lambda _: None)
    monkeypatch.setattr(proof, "INSTALLED", ())
    export_web(Workspace(tmp_path), place, runtime=str(ARCHIVE), dtype="f32")
    assert "note: neither node nor a Chromium is here, so the page itself was not tried" in capsys.readouterr().err


@pytest.mark.slow
@needs_libraries
@needs_runtime
@needs_browser
def test_where_there_is_no_node_the_browser_proves_it(exported: tuple[Path, Source], monkeypatch: pytest.MonkeyPatch) -> None:
    which = shutil.which
    monkeypatch.setattr(proof.shutil, "which", lambda name: None if name == "node" else which(name))
    assert re.match(r"the page's own code in chrom.*: equal ids of 312 texts, 8 equal continuations", proof.prove(exported[0] / "index.html"))
    with contextlib.chdir(exported[0]):
        assert "equal ids" in proof.prove(Path("index.html"))


def remembering(write: Callable[..., None]) -> Callable[..., None]:
    """Trace a network once: that takes most of the time."""
    made: list[bytes] = []

    def again(file: Path, *values: Any) -> None:
        if not made:
            write(file, *values)
            made.append(file.read_bytes())
        file.write_bytes(made[0])

    return again
