"""The page for people: its texts, its HTML, what it asks of the model; and, in a headless Chromium, all that a visitor does."""

from __future__ import annotations

import asyncio
import contextlib
import html.parser
import itertools
import json
import math
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from chromium import Chromium

from tatar_llm.chat import Turn
from tatar_llm.export.web import proof
from tatar_llm.generation import Prompt, Settings, Suggestion, TokenScore, read_prompt, stream
from tatar_llm.model import GPT, save_model
from tatar_llm.serving import Limits, Worker
from tatar_llm.serving.worker import Busy, Closed, Piece
from tatar_llm.training import ModelPlace
from tatar_llm.workspace import Workspace

pytest.importorskip("fastapi")
from tatar_llm.serving.web import answers, markup, words
from tatar_llm.serving.web import page as page_module
from tatar_llm.serving.web.gate import Gate

ROOT = Path(__file__).resolve().parents[2]
FOLDER = Path(page_module.__file__).parent
HOSTILE = "<img src=x onerror=alert(1)> \"'&amp; {{value}} ${1} </script> \x00 😀 ә"


# -- texts --------------------------------------------------------------------------------------------------------


def test_all_languages_say_the_same() -> None:
    tatar, *others = words.all_words().values()
    assert len(others) == 2
    for texts in (tatar, *others):
        assert texts.keys() == tatar.keys() and all(text.strip() == text != "" for text in texts.values())
        for key, text in texts.items():
            assert set(re.findall(r"{\w+}", text)) == set(re.findall(r"{\w+}", tatar[key])), key
    assert [texts["stop"] for texts in (tatar, *others)] == ["Туктату", "Остановить", "Stop"]


def test_every_text_is_there_and_is_used() -> None:
    source = "".join((FOLDER / name).read_text(encoding="utf-8") for name in ("page.py", "markup.py", "words.py"))
    own = json.loads((FOLDER / "words.json").read_text(encoding="utf-8"))["tt"]
    for key in own:
        assert f'"{key}"' in source, f"nobody says {key}"
    for key in re.findall(r'words\["(\w+)"\]', source):
        assert key in words.words_of("tt"), key
    for mapping in re.findall(r'_spoken\([\w.]+, ({.*?})', source):
        assert all(key in words.words_of("tt") for key in re.findall(r': "(\w+)"', mapping)), mapping


def test_an_unknown_language_is_the_first() -> None:
    assert words.words_of("xx") is words.words_of("tt")
    assert words.amount(1.168, 3, "tt") == "1,168" and words.amount(4.03, 1, "en") == "4.0"


def test_errors_are_told_in_the_language_of_the_page() -> None:
    for language in words.LANGUAGES:
        texts = words.words_of(language)
        assert words.line_of(Busy("256 texts are waiting"), texts) == texts["busy"]
        assert words.line_of(Closed("going down"), texts) == texts["closing"]
        assert words.line_of(RuntimeError("/home/secret"), texts) == texts["error"]


# -- HTML ---------------------------------------------------------------------------------------------------------


class Reader(html.parser.HTMLParser):
    """Tags and text as a browser understands them."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.mark.parametrize(
    "made",
    [
        markup.spans_html([(HOSTILE, 0.3)]),
        markup.samples_html(HOSTILE, [markup.Written([(HOSTILE, 0.001)])], '"><script>'),
        markup.talk_html([{"role": "user", "content": HOSTILE}, {"role": "assistant", "content": HOSTILE}], "tt"),
        markup.suggestions_html("", [Suggestion(HOSTILE, 0.5)], "tt"),
        markup.examples_html([HOSTILE], "tt", words.words_of("tt")),
        markup.letters_html(HOSTILE, '"', words.words_of("tt")),
        markup.error_html(HOSTILE),
        markup.facts_html({"model": HOSTILE, "parameters": 1, "corpus": HOSTILE, "generated": 1, "bits": 1.0, "fallback": HOSTILE}, words.words_of("tt"), "tt"),
        markup.head_html({"title": HOSTILE, "language": HOSTILE, "shipped": True}, words.words_of("tt")),
    ],
)  # fmt: skip
def test_nothing_from_outside_is_html(made: str) -> None:
    read = Reader(made)
    assert not {"img", "script"} & {tag for tag, _ in read.tags}
    assert not any(name.startswith("on") for _, attributes in read.tags for name in attributes)
    assert "{{" not in made and "${" not in made, "Gradio would take it for a template"
    values = [value or "" for _, attributes in read.tags for value in attributes.values()]
    assert HOSTILE in read.text or any(HOSTILE in one for one in values) or "<" in read.text


def test_colours_follow_probability() -> None:
    sample = markup.Written([("Казан", 0.9), (" <b>", 0.5), (" шәһәре", 0.3), (" 1", 0.05), (" ?", 0.02), ("\n", 0.001)])
    read = Reader(markup.spans_html(sample.spans))
    assert read.text == sample.text == "Казан <b> шәһәре 1 ?\n"
    assert [attributes["class"] for _, attributes in read.tags] == ["p0", "p0", "p1", "p2", "p3", "p4"]
    assert [attributes["title"] for _, attributes in read.tags] == ["90 %", "50 %", "30 %", "5 %", "2 %", "< 1 %"]
    assert len(markup.LEVEL_NAMES) == len(markup.LEVELS) + 1


def test_tokens_with_a_character_in_common_are_one() -> None:
    sample = markup.Written()
    sample.add(Piece(0, "", [TokenScore(5, math.log(0.5), [])]))
    sample.add(Piece(0, "ә", [TokenScore(6, math.log(0.2), [])]))
    sample.add(Piece(0, "", [], "stop"))
    assert sample.spans == [("ә", pytest.approx(0.1))]


def test_suggestions_know_what_was_typed() -> None:
    read = Reader(markup.suggestions_html("Мин мәк", [Suggestion("мәктәп", 0.6), Suggestion("мәче", 0.001)], "tt"))
    first, second, third = (attributes for tag, attributes in read.tags if tag == "button")
    assert (first["data-word"], first["data-typed"], second["data-word"]) == ("мәктәп", "мәк", "мәче")
    assert "disabled" in third and "60 %" in read.text
    for text, typed in (("", ""), ("мин ", ""), ("5а", "а"), ("«Ә", "Ә"), ("а" * 500, "а" * 500)):
        assert markup.last_letters(text) == typed


# -- what is asked of the model -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ((60, 0.8, 40), (60, 0.8, 40)),
        ((10**9, 99, 10**9), (200, 2.0, 100)),
        ((-1, -1, -1), (10, 0.1, 1)),
        ((math.nan, math.inf, "x"), (10, 2.0, 1)),
        ((None, [], {}), (10, 0.1, 1)),
    ],
)
def test_settings_stay_in_their_range(asked: tuple[Any, ...], expected: tuple[Any, ...]) -> None:
    made = answers.chosen(*asked)
    assert (made.max_new_tokens, made.temperature, made.top_k) == expected
    assert answers.chosen(*asked, most=5).max_new_tokens == 5


def test_a_field_holds_any_text() -> None:
    assert answers.clean("\ud800ә") == "?ә" and answers.clean(None) == answers.clean({"a": 1}) == ""
    assert len(answers.clean("ә" * 10**6)) == answers.LONGEST_TEXT


def test_answers_without_a_word_are_left_out_of_a_conversation() -> None:
    told = [{"role": "user", "content": "Исәнме!"}, {"role": "assistant", "content": ""}, {"role": "user", "content": "Кая?"}]
    assert answers.turns_of(told) == [Turn("user", "Исәнме!"), Turn("user", "Кая?")]


@pytest.fixture
def worker(tiny_model: GPT, tiny_tokenizer: tuple) -> Iterator[Worker]:
    made = Worker(tiny_model, *tiny_tokenizer, Limits(rows=3, waiting=4, tokens=200))
    yield made
    made.close()


def prompt_of(worker: Worker, text: str) -> Prompt:
    return read_prompt(worker.model, worker.tokenizer, worker.tok_config, text)


def test_texts_grow_with_their_probabilities(worker: Worker) -> None:
    settings = Settings(max_new_tokens=20, seed=1, logprobs=0)

    async def pictures() -> list[list[str]]:
        return [[text.text for text in texts] async for texts in answers.written(worker, prompt_of(worker, "Кичә"), [settings, settings])]

    found = asyncio.run(pictures())
    for before, after in itertools.pairwise(found):
        assert all(new.startswith(old) for old, new in zip(before, after, strict=True))
    assert found[-1][0] == found[-1][1] != "", "the same seed"
    assert found[-1][0] == "".join(stream(worker.model, worker.tokenizer, worker.tok_config, "Кичә", settings))


def test_who_stops_reading_stops_the_writing(worker: Worker) -> None:
    worker.tok_config = worker.tok_config | {"eos_token_id": -1}

    async def leave() -> None:
        growing = answers.written(worker, prompt_of(worker, "Ә"), [Settings(max_new_tokens=200)] * 3)
        async with contextlib.aclosing(growing):
            async for _ in growing:
                assert worker.load()["running"] == 3
                return

    asyncio.run(leave())
    end = time.monotonic() + 10
    while worker.load()["running"] and time.monotonic() < end:
        time.sleep(0.01)
    assert worker.load() == {"running": 0, "waiting": 0}


def test_too_much_is_told(worker: Worker) -> None:
    worker.tok_config = worker.tok_config | {"eos_token_id": -1}
    settings = [Settings(max_new_tokens=200)] * 3

    async def one() -> str:
        try:
            async with contextlib.aclosing(answers.written(worker, prompt_of(worker, "Ә"), settings)) as growing:
                async for _ in growing:
                    pass
        except Busy:
            return "busy"
        return "written"

    async def all_at_once() -> list[str]:
        return await asyncio.gather(*(one() for _ in range(6)))

    told = asyncio.run(all_at_once())
    assert "busy" in told and "written" in told


# -- the gate -----------------------------------------------------------------------------------------------------


def through_gate(path: str, body: list[bytes], app: Any) -> list[dict[str, Any]]:
    """What a client hears."""
    sent: list[dict[str, Any]] = []
    parts = [{"type": "http.request", "body": part, "more_body": True} for part in body] + [{"type": "http.request", "body": b""}]

    async def receive() -> dict[str, Any]:
        return parts.pop(0)

    async def send(message: Any) -> None:
        sent.append(message)

    asyncio.run(Gate(app)({"type": "http", "path": path, "method": "POST"}, receive, send))
    return sent


async def reading(scope: Any, receive: Any, send: Any) -> None:
    """Reads a body, as Gradio does."""
    while (await receive()).get("more_body"):
        pass
    await send({"type": "http.response.start", "status": 200, "headers": []})


def test_the_gate(capsys: pytest.CaptureFixture[str]) -> None:
    for closed in ("upload", "upload?x", "deep_link", "proxy=http://a", "stream/1"):
        assert through_gate(f"/gradio_api/{closed}", [], reading)[0]["status"] == 404
    [start] = through_gate("/gradio_api/queue/join", [b"{}"], reading)
    assert start["status"] == 200 and b"default-src 'self'" in dict(start["headers"])[b"content-security-policy"]
    assert through_gate("/v1/models", [b"x" * 2**19] * 3, reading)[0]["headers"] == [], "the API has its own rules"
    assert through_gate("/gradio_api/queue/join", [b"x" * 2**19] * 3, reading) == [] and "longer than" in capsys.readouterr().err


# -- the page itself ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("language", ["tat", "sah", "xxx"])
@pytest.mark.slow
def test_a_page_for_any_model(tiny_model: GPT, tiny_tokenizer: tuple, tiny_workspace: Workspace, tmp_path: Path, language: str) -> None:
    gradio = pytest.importorskip("gradio")
    from fastapi import FastAPI

    save_model(tmp_path / "m.pt", tiny_model, language=language, corpus="<made up>", fallback="This is <the> sample.")
    worker = Worker(tiny_model, *tiny_tokenizer, Limits(tokens=5))
    try:
        app = page_module.add_page(FastAPI(), ModelPlace(str(tmp_path / "m.pt"), tmp_path / "m.pt", tiny_workspace.tokenizer), worker)
        blocks = app.routes[-1].app.get_blocks()
        config = json.dumps(blocks.config, ensure_ascii=False, default=str)
        assert str(tmp_path) not in config and "&lt;made up&gt;" in config and "&lt;the&gt;" in config
        assert {"tat": "data-letter=\\\"ә", "sah": "data-letter=\\\"ҕ"}.get(language, "") in config
        assert ("data-letter=" in config) == (language != "xxx")
        sliders = [one for one in blocks.blocks.values() if isinstance(one, gradio.Slider) and one.maximum == 5]
        assert len(sliders) == 2, "no longer than the server allows"
    finally:
        worker.close()


needs_browser = pytest.mark.skipif(os.name == "nt" or not proof.find_browser(), reason="no Chromium here")
VISIBLE = "[...document.querySelectorAll({})].find(e => e.offsetParent)"


def visible(selector: str) -> str:
    return VISIBLE.format(json.dumps(selector))


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, subprocess.Popen]]:
    """`python app.py` where nothing has been trained, and its address."""
    pytest.importorskip("gradio")
    if not (ROOT / "app.py").is_file():
        pytest.skip("not a checkout")
    command = [sys.executable, str(ROOT / "app.py"), "--port", "0", "--workspace", str(tmp_path_factory.mktemp("эш урыны"))]
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("GRADIO_", "SPACE_"))}
    process = subprocess.Popen(command, stderr=subprocess.PIPE, encoding="utf-8", env=environment | {"PYTHONIOENCODING": "utf-8"})
    try:
        lines = []
        for line in process.stderr:
            lines.append(line)
            if found := re.search(r"listening on (\S+):", line):
                yield found[1], process
                return
        raise AssertionError("".join(lines))
    finally:
        process.kill()
        process.wait()


@pytest.fixture
def browser(served: tuple[str, subprocess.Popen], tmp_path: Path) -> Iterator[Chromium]:
    made = Chromium(tmp_path / "profile")
    made.screen(1200, 900)
    made.open(served[0])
    made.wait("!!document.querySelector('.letters button') && document.documentElement.lang === 'tt'")
    made.wait("performance.getEntriesByType('resource').filter(one => one.name.endsWith('/run/predict') && one.responseEnd).length > 1")
    time.sleep(0.3)  # until what was answered is drawn: a button that moves is hard to hit
    yield made
    problems, requests = list(made.problems), list(made.requests)
    made.close()
    assert problems == []
    assert all(request.startswith((served[0], "data:")) for request in requests), requests


def tab(browser: Chromium, number: int) -> None:
    browser.press_at(f"document.querySelectorAll('[role=tab]')[{number}]")
    browser.wait(f"document.querySelectorAll('[role=tab]')[{number}].getAttribute('aria-selected') === 'true' && !!{visible('.board textarea')}")


def value(browser: Chromium) -> str:
    return browser.run(f"{visible('.board textarea')}.value")


@needs_browser
@pytest.mark.slow
def test_completion(browser: Chromium) -> None:
    browser.press(".board textarea")
    browser.type("Бүген ")
    browser.press("[data-letter='һ']")
    browser.type("ава")
    assert value(browser) == "Бүген һава"
    browser.press("[data-shift]")
    browser.press("[data-letter='ә']")
    assert value(browser) == "Бүген һаваӘ" and browser.run("document.querySelector('[data-letter]').textContent") == "ә"
    browser.press("[data-example='Минем әни']")
    assert value(browser) == "Минем әни"
    browser.run("""(() => { window.seen = new Set(); new MutationObserver(() => seen.add(document.querySelector('#made .new')?.textContent))
        .observe(document.querySelector('#made'), {childList: true, subtree: true, characterData: true}); })()""")
    for _ in range(5):  # a text may end after few tokens
        browser.press_at(visible("button.primary"))
        browser.wait(f"!!document.querySelector('#made .new') && !!{visible('button.primary')}")
        if len(browser.run("document.querySelector('#made .new').textContent")) > 40:
            break
    assert browser.run("seen.size") > 4, "it does not stream"
    written = browser.run("document.querySelector('#made .new').textContent")
    assert browser.run("document.querySelector('#made .given').textContent") == "Минем әни" and len(written) > 10
    colour = "getComputedStyle(document.querySelector('#made .new span')).backgroundColor"
    assert browser.run(colour) == "rgba(0, 0, 0, 0)" and not browser.run(f"!!{visible('#legend')}")
    browser.press_at(visible("input[type=checkbox]"))
    browser.wait(f"{colour} !== 'rgba(0, 0, 0, 0)' && !!{visible('#legend')}")
    browser.press("[data-take]")
    assert value(browser) == "Минем әни" + written


@needs_browser
@pytest.mark.slow
def test_stop(browser: Chromium, served: tuple[str, subprocess.Popen]) -> None:
    browser.press_at(visible("button.label-wrap"))
    browser.wait("[...document.querySelectorAll('input[type=number]')].filter(e => e.offsetParent).length === 4")
    time.sleep(0.3)
    for place, number in ((0, 200), (3, 3)):
        browser.press_at(f"[...document.querySelectorAll('input[type=number]')].filter(e => e.offsetParent)[{place}]")
        browser.run("document.activeElement.select()")
        browser.type(str(number))
        browser.run("document.activeElement.blur()")
    browser.press_at(visible("button.primary"))
    browser.wait("document.querySelectorAll('#made .sample').length === 3")
    browser.press_at(visible("button.stop"))
    browser.wait(f"!!{visible('button.primary')}")
    browser.wait(f"fetch('{served[0]}/health').then(r => r.json()).then(r => r.running === 0)", seconds=5)
    length = browser.run("document.querySelector('#made').textContent.length")
    time.sleep(1)
    assert browser.run("document.querySelector('#made').textContent.length") == length


@needs_browser
@pytest.mark.slow
def test_suggestions(browser: Chromium) -> None:
    tab(browser, 1)
    browser.wait("document.querySelectorAll('[data-word]').length === 3")
    first = browser.run("document.querySelector('[data-word]').dataset.word")
    browser.press("#typing textarea")
    browser.type("Мин мәк")
    browser.wait("document.querySelector('[data-word]')?.dataset.typed === 'мәк'")
    word = browser.run("document.querySelector('[data-word]').dataset.word")
    assert word.startswith("мәк") and word != first
    browser.press("[data-word]")
    assert value(browser) == f"Мин {word} "
    browser.wait("document.querySelector('[data-word]')?.dataset.typed === ''")
    after = browser.run("document.querySelectorAll('[data-word]')[1].dataset.word")
    browser.key("2", "Digit2", 1)
    assert value(browser) == f"Мин {word} {after} "
    browser.run("document.activeElement.setSelectionRange(2, 2)")  # the caret in the first word
    browser.key("ArrowRight", "ArrowRight")
    browser.wait("document.querySelector('[data-word]')?.dataset.typed.toLowerCase().startsWith('ми')")


@needs_browser
@pytest.mark.slow
def test_chat_takes_text_as_text(browser: Chromium) -> None:
    tab(browser, 2)
    for number, text in enumerate(("Исәнмесез! <img src='https://example.org/x'> {{value}} ${1}", "Хәлләр ничек?"), 1):
        browser.press_at(visible(".board textarea"))
        browser.type(text)
        browser.press_at(visible("button.primary"))
        browser.wait(f"document.querySelectorAll('#talk .assistant').length === {number} && !!{visible('button.primary')}")
        assert browser.run(f"document.querySelectorAll('#talk .user')[{number - 1}].textContent") == text
    assert value(browser) == "" and browser.run("document.querySelectorAll('#talk img').length") == 0
    browser.press_at("[...document.querySelectorAll('button')].find(e => e.textContent.trim() === 'Яңадан башлау')")
    browser.wait("document.querySelectorAll('#talk .user').length === 0")


@needs_browser
@pytest.mark.slow
def test_every_label_changes_with_the_language(browser: Chromium) -> None:
    text = "document.querySelector('.gradio-container')?.innerText"
    seen = {}
    for number, language in enumerate(words.LANGUAGES):
        browser.press_at(f"document.querySelectorAll('#language input')[{number}]")
        texts = words.words_of(language)
        browser.wait(f"document.documentElement.lang === '{language}' && {text}.includes({json.dumps(texts['lead'])})")
        parts = []
        for place in range(3):
            tab(browser, place)
            parts.append(browser.run(text))
        seen[language] = "\n".join(parts)
        for key in ("completionTab", "suggestionsTab", "chatTab", "beginning", "text", "examples", "settings", "write", "colours", "keys",
                    "message", "send", "clear", "answers", "warning", "shipped", "about", "corpus"):  # fmt: skip
            assert texts[key] in seen[language], (language, key)
    tatar, russian, _ = words.all_words().values()
    assert not [key for key, line in tatar.items() if len(line) > 6 and line != russian[key] and line in seen["ru"]]
    browser.press_at("document.querySelectorAll('#language input')[1]")
    browser.ask("Page.reload")
    browser.wait(f"document.documentElement?.lang === 'ru' && {text}.includes({json.dumps(russian['lead'])})")


@needs_browser
@pytest.mark.slow
def test_a_phone(browser: Chromium) -> None:
    browser.screen(360, 740, phone=True)
    browser.wait("innerWidth === 360")
    for number in range(3):
        for place in range(3):
            browser.press_at(f"document.querySelectorAll('#language input')[{number}]")
            tab(browser, place)
            assert browser.run("document.documentElement.scrollWidth") <= 360
            beyond = "[...document.querySelectorAll('button, label, p, dd')].filter(e => e.offsetParent && e.getBoundingClientRect().right > 361)"
            assert browser.run(f"{beyond}.map(e => e.outerHTML.slice(0, 200))") == []


@needs_browser
@pytest.mark.slow
def test_an_open_page_does_not_hold_the_server(browser: Chromium, served: tuple[str, subprocess.Popen]) -> None:
    """The last test of this file: it ends the server."""
    browser.wait("performance.getEntriesByType('resource').length > 0")
    started = time.monotonic()
    served[1].send_signal(signal.SIGINT)
    served[1].wait(25)
    assert time.monotonic() - started < 20
    assert "Traceback" not in served[1].stderr.read()
    browser.problems.clear()  # that the server is gone is no fault
