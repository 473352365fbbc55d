"""A real browser, driven over its debugging protocol: https://chromedevtools.github.io/devtools-protocol/."""

from __future__ import annotations

import itertools
import json
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
from websockets.sync.client import ClientConnection, connect

NAMES = ("chromium", "chromium-browser", "google-chrome")
_START = 30


def find_browser() -> str | None:
    """The browser's path, or None when there is none."""
    return next((path for path in map(shutil.which, NAMES) if path), None)


class Page:
    """One tab."""

    def __init__(self, connection: ClientConnection) -> None:
        self._connection = connection
        self._ids = itertools.count(1)
        self.complaints: list[str] = []
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Calls the browser; what it complains about meanwhile is kept."""
        sent = next(self._ids)
        self._connection.send(json.dumps({"id": sent, "method": method, "params": parameters}))
        while True:
            said = json.loads(self._connection.recv(timeout=20))
            if said.get("id") == sent:
                assert "error" not in said, said
                result: dict[str, Any] = said["result"]
                return result
            if said.get("method") == "Runtime.exceptionThrown":
                self.complaints.append(json.dumps(said["params"]["exceptionDetails"]))
            if said.get("method") == "Log.entryAdded":
                self.complaints.append(said["params"]["entry"]["text"])

    def evaluate(self, expression: str) -> Any:
        """The value of a JavaScript expression."""
        found = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def until(self, expression: str) -> None:
        """Waits until a JavaScript expression is true."""
        end = time.monotonic() + 10
        while not self.evaluate(expression):
            assert time.monotonic() < end, f"this did not come true: {expression}"
            time.sleep(0.05)

    def open(self, url: str) -> None:
        self.call("Page.navigate", url=url)
        self.until(f"document.readyState === 'complete' && location.href === {json.dumps(url)}")

    def fill(self, selector: str, text: str) -> None:
        """Selects what a field holds and types over it, key by key as the browser sees it."""
        self.evaluate(f"document.querySelector({json.dumps(selector)}).select()")
        self.evaluate(f"document.querySelector({json.dumps(selector)}).focus()")
        self.call("Input.insertText", text=text)

    def choose(self, selector: str, value: str) -> None:
        """Chooses a value of a list."""
        field = f"document.querySelector({json.dumps(selector)})"
        self.evaluate(f"{field}.value = {json.dumps(value)}; {field}.dispatchEvent(new Event('change'))")

    def click(self, selector: str) -> None:
        """Clicks where the element is, with the mouse."""
        field = f"document.querySelector({json.dumps(selector)})"
        self.evaluate(f"{field}.scrollIntoView({{block: 'center'}})")
        middle = "(({x, y, width, height}) => [x + width / 2, y + height / 2])"
        box = self.evaluate(f"{middle}({field}.getBoundingClientRect())")
        for kind in ("mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", type=kind, x=box[0], y=box[1], button="left", clickCount=1)

    def text(self, selector: str) -> str:
        return str(self.evaluate(f"document.querySelector({json.dumps(selector)}).innerText"))


@contextmanager
def browser(path: str, profile: Path, width: int = 1000, height: int = 900) -> Iterator[Page]:
    """A browser without a screen, and a page in it."""
    process = subprocess.Popen(
        [path, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
         "--disable-background-networking", "--disable-component-update", "--disable-default-apps",
         "--disable-extensions", "--disable-sync", "--no-first-run", "--no-default-browser-check",
         "--proxy-server=127.0.0.1:9", "--proxy-bypass-list=127.0.0.1",
         f"--window-size={width},{height}", f"--user-data-dir={profile}", "--remote-debugging-port=0",
         "about:blank"],
        stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        with connect(_page_address(process, profile), max_size=None) as connection:
            yield Page(connection)
    finally:
        process.terminate()
        process.wait(timeout=20)


def _page_address(process: subprocess.Popen[bytes], profile: Path) -> str:
    end = time.monotonic() + _START
    port = profile / "DevToolsActivePort"
    while time.monotonic() < end:
        assert process.poll() is None, "the browser ended"
        lines = port.read_text().splitlines() if port.exists() else []
        if lines:
            for target in httpx2.get(f"http://127.0.0.1:{lines[0]}/json/list").json():
                if target["type"] == "page":
                    return str(target["webSocketDebuggerUrl"])
        time.sleep(0.05)
    raise AssertionError("the browser did not start")
