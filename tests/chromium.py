"""A headless browser for tests, spoken to in the DevTools protocol over pipes: no library, no port."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import subprocess
import time
from pathlib import Path
from typing import Any

from tatar_llm.export.web import proof


class Chromium:
    """One page of it.

    Args:
        profile: an empty folder.
        width, height: of the window.
    """

    def __init__(self, profile: Path, width: int = 1000, height: int = 1400) -> None:
        to_browser, ours = os.pipe()
        theirs, from_browser = os.pipe()

        def places() -> None:  # the protocol's descriptors are 3 and 4
            os.dup2(os.dup2(to_browser, 60), 3), os.dup2(os.dup2(from_browser, 61), 4)

        self.process = subprocess.Popen(
            [proof.find_browser(), *proof.QUIET, "--remote-debugging-pipe", "--hide-scrollbars", f"--user-data-dir={profile}",
             f"--window-size={width},{height}", "about:blank"],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, preexec_fn=places, close_fds=False,
        )  # fmt: skip
        os.close(to_browser), os.close(from_browser)
        self.out, self.into = os.fdopen(ours, "wb"), os.fdopen(theirs, "rb")
        self.number, self.rest, self.session = 0, b"", ""
        self.problems: list[str] = []
        """What the console or the page complained of."""
        self.requests: list[str] = []
        """The addresses asked for."""
        [target] = [one for one in self.ask("Target.getTargets")["targetInfos"] if one["type"] == "page"]
        self.session = self.ask("Target.attachToTarget", targetId=target["targetId"], flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.ask(f"{domain}.enable")

    def ask(self, method: str, **values: Any) -> dict[str, Any]:
        """Call a method of the protocol and wait for its answer; what happens meanwhile is noted."""
        self.number += 1
        message = {"id": self.number, "method": method, "params": values} | ({"sessionId": self.session} if self.session else {})
        self.out.write(json.dumps(message).encode() + b"\0")
        self.out.flush()
        while True:
            while b"\0" not in self.rest:
                more = os.read(self.into.fileno(), 1 << 16)
                assert more, "the browser is gone"
                self.rest += more
            line, self.rest = self.rest.split(b"\0", 1)
            told = json.loads(line)
            if told.get("id") == self.number:
                assert "error" not in told, (method, told)
                return told["result"]
            self.note(told.get("method"), told.get("params", {}))

    def note(self, method: str | None, values: dict[str, Any]) -> None:
        """Keep what a test may ask for."""
        if method == "Network.requestWillBeSent":
            self.requests.append(values["request"]["url"])
        elif method == "Runtime.exceptionThrown" or (method == "Runtime.consoleAPICalled" and values["type"] in ("error", "warning")):
            self.problems.append(json.dumps(values)[:500])
        elif method == "Log.entryAdded" and values["entry"]["level"] in ("error", "warning"):
            self.problems.append(f"{values['entry']['text']} {values['entry'].get('url', '')}")

    def open(self, address: str) -> None:
        """Load a page."""
        self.ask("Page.navigate", url=address)
        self.wait("document.readyState === 'complete'")

    def run(self, code: str) -> Any:
        """The value of an expression in the page."""
        answer = self.ask("Runtime.evaluate", expression=code, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def wait(self, code: str, seconds: float = 60) -> Any:
        """The value of an expression as soon as it is true."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            with contextlib.suppress(AssertionError):  # while a page is left for another one, nothing can be asked
                if found := self.run(code):
                    return found
            time.sleep(0.05)
        raise AssertionError(f"never true: {code}; {self.problems}")

    def type(self, text: str) -> None:
        """Into what has the focus."""
        self.ask("Input.insertText", text=text)

    def key(self, key: str, code: str, modifiers: int = 0) -> None:
        """Press and let go; modifiers: 1 Alt, 2 Control, 8 Shift."""
        for kind in ("keyDown", "keyUp"):
            self.ask("Input.dispatchKeyEvent", type=kind, key=key, code=code, modifiers=modifiers)

    def press(self, selector: str) -> None:
        """With the mouse, in the middle of an element."""
        self.press_at(f"document.querySelector({json.dumps(selector)})")

    def press_at(self, element: str) -> None:
        """The same for an element that an expression gives."""
        x, y = self.run(f"(() => {{ const e = {element}; e.scrollIntoView({{block: 'center'}});"
                        "const r = e.getBoundingClientRect(); return [r.x + r.width / 2, r.y + r.height / 2]; })()")  # fmt: skip
        for kind in ("mousePressed", "mouseReleased"):
            self.ask("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    def screen(self, width: int, height: int, *, phone: bool = False, dark: bool = False) -> None:
        """Another screen."""
        self.ask("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=2 if phone else 1, mobile=phone)
        self.ask("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}])

    def picture(self, file: Path) -> None:
        """The whole page as PNG."""
        shot = self.ask("Page.captureScreenshot", format="png", captureBeyondViewport=True)
        file.write_bytes(base64.b64decode(shot["data"]))

    def close(self) -> None:
        """End the browser."""
        self.process.kill()
        self.process.wait()
        self.out.close(), self.into.close()
