"""The components of the page, and what happens when they are used. Gradio is imported when a page is made."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastapi import FastAPI
from fastapi.exceptions import HTTPException
from starlette.routing import Mount

from tatar_llm.chat import ANSWER_TOKENS, Speaker
from tatar_llm.console import say
from tatar_llm.errors import TatarLLMError
from tatar_llm.export.source import Source
from tatar_llm.export.web.page import about_model
from tatar_llm.generation import read_prompt
from tatar_llm.languages import find_language
from tatar_llm.model import load_model_file
from tatar_llm.serving.web.answers import (
    LENGTH,
    LONGEST_TEXT,
    MESSAGES,
    SAMPLES,
    TEMPERATURE,
    TOP_K,
    chosen,
    clean,
    turns_of,
    within,
    written,
)
from tatar_llm.serving.web.gate import Gate
from tatar_llm.serving.web.markup import (
    BUTTONS,
    error_html,
    examples_html,
    facts_html,
    head_html,
    hint_html,
    legend_html,
    letters_html,
    samples_html,
    suggestions_html,
    talk_html,
)
from tatar_llm.serving.web.words import LANGUAGES, Words, line_of, words_of
from tatar_llm.serving.worker import Worker
from tatar_llm.training import ModelPlace
from tatar_llm.training.runs import SHIPPED

if TYPE_CHECKING:
    import gradio

FOLDER = Path(__file__).parent
QUIETLY: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private", "concurrency_limit": None}
"""How every event is handled: without Gradio's own signs of progress, and as many at a time as there are."""


def add_page(app: FastAPI, place: ModelPlace, worker: Worker, chat: bool = False) -> FastAPI:
    """The application with the page at /; its other addresses stay as they are.

    Args:
        app: the application.
        place: the model, whose file tells what it was trained on.
        worker: what speaks.
        chat: whether the model has learnt to answer.
    """
    os.environ |= {"GRADIO_ANALYTICS_ENABLED": "False", "GRADIO_RUN_HISTORY": "False"}
    import gradio

    facts = load_model_file(place.model)
    about = about_model(Source(place, worker.model, worker.model.config, worker.tokenizer, worker.tok_config, facts))
    about["shipped"] = place.name == SHIPPED
    page = Page(Speaker(worker.model, worker.tokenizer, worker.tok_config, chat), worker, about, prompts_of(place, facts)).build()

    @app.api_route("/v1/{rest:path}", methods=["GET", "POST", "PUT", "PATCH", "DELETE"])
    async def nowhere(rest: str) -> None:  # before the page, which would answer in HTML
        raise HTTPException(404, "Not Found")

    app.add_middleware(Gate)
    app = gradio.mount_gradio_app(
        app, page, path="/", footer_links=[], favicon_path=str(FOLDER / "icon.svg"), show_error=False,
        max_file_size=1, ssr_mode=False, enable_monitoring=False, pwa=False, mcp_server=False, theme=theme(),
        head=f"<style>{(FOLDER / 'page.css').read_text(encoding='utf-8')}</style><script>{script()}</script>",
    )  # fmt: skip
    mounts: list[Any] = [route.app for route in app.routes if isinstance(route, Mount)]
    [mounted] = mounts
    app.state.endless = [mounted.stop_event.set]  # each open page holds a connection to show that it is there
    return app


def script() -> str:
    """page.js, with the words that the style sheet writes."""
    styled = {language: {key: words_of(language)[key] for key in ("take", "empty", "talk")} for language in LANGUAGES}
    return (FOLDER / "page.js").read_text(encoding="utf-8").replace("{{styled}}", json.dumps(styled, ensure_ascii=False))


def prompts_of(place: ModelPlace, facts: dict[str, Any]) -> tuple[str, ...]:
    """Openings in the model's language; none for a language that has no file here."""
    try:
        return find_language(facts.get("language") or "", place.model.parent).prompts
    except TatarLLMError:
        return ()


class Page:
    """The components, and what they do.

    Args:
        speaker: how the model takes a conversation.
        worker: what speaks.
        about: what is told of the model.
        prompts: openings to press.
    """

    def __init__(self, speaker: Speaker, worker: Worker, about: dict[str, Any], prompts: Sequence[str]) -> None:
        import gradio

        self.gr, self.speaker, self.worker, self.about, self.prompts = gradio, speaker, worker, about, prompts
        self.speaking: list[tuple[gradio.blocks.Block, dict[str, Callable[[Words, str], Any]]]] = []
        """Components with words on them, and how these are made for a language."""

    def build(self) -> gradio.Blocks:
        """All of it."""
        first = next(iter(LANGUAGES))
        with self.gr.Blocks(title=f"{self.about['title']} · tatar-llm", analytics_enabled=False) as page:
            language = self.gr.Radio(
                [(name, code) for code, name in LANGUAGES.items()], value=first, show_label=False, container=False, elem_id="language"
            )
            self._html(lambda words, _: head_html(self.about, words), elem_id="head")
            with self.gr.Tabs():
                with self._spoken(self.gr.Tab, {"label": "completionTab"}):
                    self._completion(language)
                with self._spoken(self.gr.Tab, {"label": "suggestionsTab"}):
                    self._suggestions(page, language)
                with self._spoken(self.gr.Tab, {"label": "chatTab"}):
                    self._chat(language)
            self._html(lambda words, code: facts_html(self.about, words, code), elem_id="about")
            spoken = [component for component, _ in self.speaking]
            language.input(self._speak, language, spoken, js="(code) => tatar.speak(code)", **QUIETLY, queue=False)
            page.load(self._begin, language, [language, *spoken], js="(code) => tatar.speak(tatar.remembered() ?? code)", **QUIETLY, queue=False)
        limits = self.worker.limits
        page.max_threads = limits.rows + limits.waiting  # of Gradio's jobs: it must let in as many as the worker does
        page.space_id = None  # in a Space Gradio would add a head line of the Hub's, with its fonts from elsewhere
        return page.queue(default_concurrency_limit=None, api_open=False)

    # -- the three tabs

    def _completion(self, language: gradio.Radio) -> None:
        """A text and how it may go on."""
        with self.gr.Row():
            with self.gr.Column(elem_classes="board"):
                text = self._field("beginning", lines=5)
                self._html(lambda words, _: examples_html(self.prompts, self.about["language"], words))
                go, stop = self._buttons("write")
                with self._spoken(self.gr.Accordion, {"label": "settings"}, open=False):
                    sliders = self._sliders()
                    samples = self._spoken(self.gr.Slider, {"label": "samples"}, value=1, minimum=SAMPLES[0], maximum=SAMPLES[1], step=1)
            with self.gr.Column():
                colours = self._spoken(self.gr.Checkbox, {"label": "colours"}, value=False, container=False)
                self._html(lambda words, _: legend_html(words), elem_id="legend")
                error = self._empty()
                made = self._empty(elem_id="made")
        colours.input(None, colours, js="(on) => { tatar.colour(on); }", **QUIETLY)
        going = self.gr.on(
            [go.click, text.submit], self._complete, [text, *sliders, samples, language], [made, error, go, stop],
            trigger_mode="once", **QUIETLY,
        )  # fmt: skip
        stop.click(self._ready, None, [go, stop], cancels=going, queue=False, **QUIETLY)

    def _suggestions(self, page: gradio.Blocks, language: gradio.Radio) -> None:
        """A field that offers words while one types."""
        with self.gr.Column(elem_classes="board"):
            text = self._field("text", lines=5, elem_id="typing")
            found = self._empty(suggestions_html("", [], self.about["language"]), elem_id="suggestions")
            self._html(lambda words, _: hint_html(words["keys"]))
            error = self._empty()
            # page.js presses it: Gradio's own events of a field know nothing of pasting, of phones' keyboards and of the caret
            ask = self.gr.Button(elem_id="ask", visible="hidden")
        asked = {"fn": self._suggest, "inputs": [text, language], "outputs": [found, error], "queue": False, **QUIETLY}
        ask.click(js="(text, code) => [tatar.before(), code]", trigger_mode="always_last", **asked)
        page.load(**asked)

    def _chat(self, language: gradio.Radio) -> None:
        """A conversation."""
        with self.gr.Column(elem_classes="board"):
            history = self.gr.State([])
            talk = self._empty(elem_id="talk", autoscroll=True)
            error = self._empty()
            message = self._field("message", lines=2, placeholder="messageHint")
            with self.gr.Row():
                go, stop = self._buttons("send")
                clear = self._spoken(self.gr.Button, {"value": "clear"})
            self._html(lambda words, _: hint_html(words["answers" if self.speaker.chat else "dialogue"]))
            with self._spoken(self.gr.Accordion, {"label": "settings"}, open=False):
                sliders = self._sliders(self.speaker.temperature, ANSWER_TOKENS if self.speaker.chat else 60)
        going = self.gr.on(
            [go.click, message.submit], self._answer, [message, history, *sliders, language], [message, history, talk, error, go, stop],
            trigger_mode="once", **QUIETLY,
        )  # fmt: skip
        stop.click(self._ready, None, [go, stop], cancels=going, queue=False, **QUIETLY)
        clear.click(lambda: ([], "", "", *self._ready()), None, [history, talk, error, go, stop], cancels=going, queue=False, **QUIETLY)

    # -- what happens

    async def _complete(
        self, text: str, length: float, temperature: float, top_k: float, samples: float, language: str
    ) -> AsyncIterator[tuple[Any, ...]]:
        """Continue a text: HTML of the samples, the line of errors, the two buttons."""
        text, keep = clean(text), self.gr.skip()
        settings = chosen(length, temperature, top_k, most=self.worker.limits.tokens, scores=True)
        yield "", "", *self._ready(False)
        try:
            prompt = read_prompt(self.worker.model, self.worker.tokenizer, self.worker.tok_config, text)
            growing = written(self.worker, prompt, [settings] * int(within(samples, *SAMPLES)))
            async with contextlib.aclosing(growing):
                async for texts in growing:
                    yield samples_html(text, texts, self.about["language"]), keep, keep, keep
            yield keep, keep, *self._ready()
        except Exception as error:
            yield keep, self._failed(error, language), *self._ready()

    async def _suggest(self, text: str, language: str) -> tuple[str, str]:
        """Words that finish a text."""
        text = clean(text)
        try:
            found = await asyncio.wrap_future(self.worker.suggest(text, BUTTONS))
        except Exception as error:
            return suggestions_html(text, [], self.about["language"]), self._failed(error, language)
        return suggestions_html(text, found, self.about["language"]), ""

    async def _answer(
        self, message: str, history: list[dict[str, str]], length: float, temperature: float, top_k: float, language: str
    ) -> AsyncIterator[tuple[Any, ...]]:
        """Answer a message: the empty field, the conversation and its HTML, the line of errors, the two buttons."""
        message, keep, code = clean(message).strip(), self.gr.skip(), self.about["language"]
        if not message:
            yield keep, keep, keep, "", *self._ready()
            return
        asked = [*history, {"role": "user", "content": message}][-MESSAGES:]
        settings = self.speaker.suited(chosen(length, temperature, top_k, most=self.worker.limits.tokens))
        yield "", asked, talk_html(asked, code), "", *self._ready(False)
        try:
            prompt = self.speaker.prompt(turns_of(asked), settings.max_new_tokens)
            growing = written(self.worker, prompt, [settings])
            async with contextlib.aclosing(growing):
                async for [answer] in growing:
                    told = [*asked, {"role": "assistant", "content": answer.text.strip()}]
                    yield keep, told, talk_html(told, code), keep, keep, keep
            yield keep, keep, keep, keep, *self._ready()
        except Exception as error:
            yield message, history, talk_html(history, code), self._failed(error, language), *self._ready()

    def _failed(self, error: Exception, language: str) -> str:
        """What people are told; what nobody foresaw is told on the console too."""
        if not isinstance(error, TatarLLMError):
            say(f"page: {type(error).__name__}: {error}")
        return error_html(line_of(error, words_of(language)))

    def _ready(self, ready: bool = True) -> tuple[Any, Any]:
        """The button that starts, and the one that stops: one of them is there."""
        return self.gr.update(visible=ready), self.gr.update(visible=not ready)

    # -- parts

    def _field(self, label: str, lines: int, placeholder: str = "", **values: Any) -> gradio.Textbox:
        """A field for text in the model's language, with its row of letters."""
        about, attributes = self.about, self.gr.InputHTMLAttributes(lang=self.about["language"], spellcheck=False, autocorrect="off")
        keys = {"label": label} | ({"placeholder": placeholder} if placeholder else {})
        fixed = {} if placeholder or not about["prompt"] else {"placeholder": f"{about['prompt']}…"}
        field = self._spoken(self.gr.Textbox, keys, lines=lines, max_lines=12, max_length=LONGEST_TEXT, html_attributes=attributes, **fixed, **values)
        self._html(lambda words, _: letters_html(about["keyboard"], about["language"], words))
        return field

    def _sliders(self, warmth: float = 0.8, tokens: int = 60) -> list[gradio.Slider]:
        """Length, temperature, top-k, with what stands there at first."""
        most = max(1, min(LENGTH[1], self.worker.limits.tokens))
        least = min(LENGTH[0], most - 1)  # Gradio wants some range
        length = self._spoken(self.gr.Slider, {"label": "length"}, value=min(tokens, most), minimum=least, maximum=most, step=1)
        temperature = self._spoken(
            self.gr.Slider, {"label": "temperature", "info": "temperatureHint"}, value=warmth, minimum=TEMPERATURE[0], maximum=TEMPERATURE[1], step=0.1
        )
        return [length, temperature, self._spoken(self.gr.Slider, {"label": "topK"}, value=40, minimum=TOP_K[0], maximum=TOP_K[1], step=1)]

    def _buttons(self, word: str) -> tuple[gradio.Button, gradio.Button]:
        """One that starts, one that stops, in one place."""
        return (
            self._spoken(self.gr.Button, {"value": word}, variant="primary"), self._spoken(self.gr.Button, {"value": "stop"}, variant="stop", visible=False),
        )  # fmt: skip

    # -- the language of the page

    def _html(self, make: Callable[[Words, str], str], **values: Any) -> None:
        """HTML with words in it."""
        first = next(iter(LANGUAGES))
        self.speaking.append((self._empty(make(words_of(first), first), **values), {"value": make}))

    def _empty(self, value: str = "", **values: Any) -> gradio.HTML:
        """A place for HTML of the page's own, which Gradio adds no style to."""
        return self.gr.HTML(value, apply_default_css=False, js_on_load=None, elem_classes="own", **values)

    def _spoken(self, kind: type, keys: dict[str, str], **values: Any) -> Any:
        """A component whose properties `keys` are texts of the page: property -> key of the text."""
        first = words_of(next(iter(LANGUAGES)))
        component = kind(**{name: first[key] for name, key in keys.items()}, **values)
        self.speaking.append((component, {name: _word(key) for name, key in keys.items()}))
        return component

    def _speak(self, language: str) -> list[Any]:
        """The same components in another language."""
        words = words_of(language)
        return [self.gr.update(**{name: make(words, language) for name, make in made.items()}) for _, made in self.speaking]

    def _begin(self, language: str) -> list[Any]:
        """In the language of the last visit."""
        if language not in LANGUAGES or language == next(iter(LANGUAGES)):
            return [self.gr.skip()] * (1 + len(self.speaking))
        return [language, *self._speak(language)]


def _word(key: str) -> Callable[[Words, str], str]:
    """What gives the text of a key in a language."""
    return lambda words, _: words[key]


def theme() -> gradio.Theme:
    """Colours of the page; fonts are the system's own, since others would have to be fetched."""
    import gradio

    made = gradio.themes.Default(
        primary_hue=gradio.themes.colors.emerald, neutral_hue=gradio.themes.colors.gray,
        font=["Segoe UI", "Roboto", "Noto Sans", "DejaVu Sans", "sans-serif"], font_mono=["monospace"],
    )  # fmt: skip
    green, green_dark = "#16784a", "#56c48b"
    return made.set(
        body_background_fill="#f4f6f2", body_background_fill_dark="#141a16", block_background_fill="#ffffff", block_background_fill_dark="#1d2520",
        input_background_fill="#f4f6f2", input_background_fill_dark="#141a16", block_radius="0.75rem", input_radius="0.5rem",
        button_primary_background_fill=green, button_primary_background_fill_hover="#11613b", button_primary_text_color="#ffffff",
        button_primary_background_fill_dark=green_dark, button_primary_background_fill_hover_dark="#7ad5a5", button_primary_text_color_dark="#0b1a11",
        checkbox_label_background_fill_dark="#1d2520", color_accent=green, slider_color=green, slider_color_dark=green_dark, checkbox_background_color_selected=green,
        checkbox_background_color_selected_dark=green, input_border_color_focus=green, input_border_color_focus_dark=green_dark,
    )  # fmt: skip
