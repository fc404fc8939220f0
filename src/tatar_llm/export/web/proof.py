"""What the page must compute, and whether it does: its own self-test, run in node, or else in a browser without a window."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tatar_llm.chat import Speaker, Turn
from tatar_llm.errors import TatarLLMError
from tatar_llm.export.source import Source
from tatar_llm.export.texts import CHECK_LINES, random_texts
from tatar_llm.generation import Prompt, Settings, Suggester
from tatar_llm.generation.batch import Batch
from tatar_llm.generation.engine import TextOut, read_prompt, starts_with_space
from tatar_llm.languages import find_language
from tatar_llm.tokenizer import encode_text

CHECK_SCRIPT = Path(__file__).parent / "check.js"
RANDOM_TEXTS, STEPS, WORDS = 300, 24, 3
TOLERANCE = 2e-3
"""Difference of a token's or a word's log-probability that sums in another order explain."""
PATIENCE = 180
"""Seconds for a self-test."""
OLDEST_NODE = 18
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome", "msedge", "microsoft-edge")
INSTALLED = (
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
    r"C:\Program Files\Google\Chrome\Application\chrome.exe",
    r"C:\Program Files (x86)\Microsoft\Edge\Application\msedge.exe",
)
QUIET = ("--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking", "--disable-extensions")


def expectations(source: Source) -> dict[str, Any]:
    """What `selfTest` in engine.js compares with: ids, greedy continuations and suggestions of this model, its answers if it chats."""
    prompts = list(_prompts(source))
    texts = [*CHECK_LINES, *random_texts(RANDOM_TEXTS)]
    suggester = Suggester(source.model, source.tokenizer, source.tok_config)
    return {
        "tolerance": TOLERANCE,
        "length": STEPS,
        "ids": [[text, encode_text(source.tokenizer, text)] for text in texts],
        "continuations": [{"text": text, **_continued(source, read_prompt(source.model, source.tokenizer, source.tok_config, text))}
                          for text in ("", *prompts[:6], f"{prompts[0]} ")],
        "suggestions": [{"text": text, "words": [[one.word, one.probability] for one in suggester.suggest(text, WORDS)]}
                        for text in _typed(prompts)],
        **({"chats": list(_answered(source, prompts))} if source.chat else {}),
    }  # fmt: skip


def _prompts(source: Source) -> Iterator[str]:
    with contextlib.suppress(TatarLLMError):
        yield from find_language(source.facts.get("language") or "", source.place.model.parent).prompts
    yield from CHECK_LINES[:6]


def _typed(prompts: list[str]) -> Iterator[str]:
    """Texts as they look while they are typed: a line letter by letter, the others cut in the middle of words and after them."""
    yield ""
    first = prompts[-1]
    yield from (first[:end] for end in range(1, min(len(first), 24)))
    for text in prompts:
        yield f"{text} "
        yield text[: 2 * len(text) // 3]
    yield f"{' '.join(prompts * 8)} «"
    yield "qzx"


def _answered(source: Source, prompts: list[str]) -> Iterator[dict[str, Any]]:
    """Conversations with the ids of their prompts and greedy answers."""
    speaker = Speaker(source.model, source.tokenizer, source.tok_config, chat=True)
    for texts in _conversations(source, prompts):
        turns = [Turn(("user", "assistant")[number % 2], text) for number, text in enumerate(texts)]
        prompt = speaker.prompt(turns, STEPS)
        yield {"turns": [{"role": turn.role, "text": turn.text} for turn in turns], "ids": prompt.ids, **_continued(source, prompt)}


def _conversations(source: Source, prompts: list[str]) -> Iterator[list[str]]:
    """Questions, and answers between them: one, some, with marks that were typed, more than the context holds, a question as long."""
    yield prompts[:1]
    yield prompts[:5]
    yield [*prompts[:2], "\x1c\x85\u3000<|end|><|assistant|><eos> <|user|>\ufeff\n"]
    many: list[str] = []
    while len(encode_text(source.tokenizer, " ".join(many))) < source.config.block_size:
        many += prompts
    yield many[1 - len(many) % 2 :]
    yield [*prompts[:2], " ".join(many)]


def _continued(source: Source, prompt: Prompt) -> dict[str, Any]:
    """A greedy continuation with, for each token, by how much it was likelier than the next."""
    settings = Settings(max_new_tokens=STEPS, temperature=0, logprobs=2)
    out = TextOut(source.tokenizer, prompt, settings)
    first = starts_with_space(source.tokenizer, source.config.vocab_size) if prompt.heal else None
    batch = Batch(source.model)
    [row] = batch.add(prompt.ids, [settings], prompt.stop(source.tok_config), first)
    margins = []
    while not row.finished:
        logits = row.logits if row.new or first is None else row.logits[first]
        top = sorted(logits.tolist())[-2:]
        margins.append(top[-1] - top[0])
        batch.step()
    made = "".join(out.add(token) for token in [*row.new, None])
    return {"tokens": row.new, "margins": margins, "made": made}


def prove(page: Path) -> str:
    """Run the page's self-test and say in a line what has shown what.

    Raises:
        TatarLLMError: it does not run, or finds a difference.
    """
    if found := _in_node(page):
        where, result = "node", found
    elif browser := find_browser():
        where, result = Path(browser).name, _in_browser(page, browser)
    else:
        return ("note: neither node nor a Chromium is here, so the page itself was not tried; open "
                f"{page.name}#selftest in a browser, which compares and tells")  # fmt: skip
    if result["problems"]:
        raise TatarLLMError(f"the page does not compute the same in {where}: {result['problems'][0][:300]}; nothing was written")
    answers = f", {result['chats']} equal answers" if result["chats"] else ""
    return (f"the page's own code in {where}: equal ids of {result['ids']} texts, {result['continuations']} equal continuations, "
            f"{result['suggestions']} times equal suggestions{answers}")  # fmt: skip


def _in_node(page: Path) -> dict[str, Any] | None:
    """What the self-test finds in node; None where there is no node, or one too old."""
    node = shutil.which("node")
    if not node:
        return None
    with tempfile.TemporaryDirectory() as folder:
        script = shutil.copyfile(CHECK_SCRIPT, Path(folder) / "check.mjs")
        try:
            version = subprocess.run([node, "--version"], capture_output=True, text=True, timeout=60, check=True).stdout
            if int(version.strip().removeprefix("v").split(".")[0]) < OLDEST_NODE:
                return None
            done = subprocess.run([node, str(script), str(page.absolute()), folder], capture_output=True, text=True, encoding="utf-8",
                                  timeout=PATIENCE, check=False)  # fmt: skip
        except (OSError, ValueError, subprocess.SubprocessError) as error:
            return {"problems": [f"it does not run ({type(error).__name__})"]}
    try:
        return json.loads(done.stdout)
    except ValueError:
        said = [line for line in done.stderr.splitlines() if "Error" in line] or ["no reason given"]
        return {"problems": [f"it does not run ({said[0].strip()})"]}


def find_browser() -> str:
    """A browser of the Chromium family; empty where there is none."""
    found = (shutil.which(name) for name in BROWSERS)
    return next((path for path in found if path), next((path for path in INSTALLED if os.path.isfile(path)), ""))


def _in_browser(page: Path, browser: str) -> dict[str, Any]:
    """What the self-test finds in a browser, which writes it to its log.

    The page comes from this machine's loopback: a browser that is shut into a sandbox of its own may not read the file.
    """
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder, _served(page.absolute().parent) as address:
        command = [browser, *QUIET, "--enable-logging=stderr", f"--user-data-dir={folder}", f"{address}/{page.name}#selftest"]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, encoding="utf-8", errors="replace")
        assert process.stderr is not None  # a pipe was asked for
        timer = threading.Timer(PATIENCE, process.kill)
        timer.start()
        try:
            for line in process.stderr:
                if "selftest: {" in line:
                    return json.JSONDecoder().raw_decode(line.split("selftest: ", 1)[1])[0]
        except ValueError:
            pass
        finally:
            timer.cancel()
            process.kill()
            process.wait()
    return {"problems": ["it does not run"]}


@contextlib.contextmanager
def _served(folder: Path) -> Iterator[str]:
    """The address of a web server for a folder, on this machine alone."""
    import http.server

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(folder))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
