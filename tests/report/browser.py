"""A page as Chromium shows it, asked over its DevTools protocol."""

from __future__ import annotations

import base64
import contextlib
import itertools
import json
import shutil
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

PROGRAMS = ("chromium", "chromium-browser", "google-chrome", "chrome")
PATIENCE = 30.0


def program() -> str | None:
    return next((found for found in map(shutil.which, PROGRAMS) if found), None)


class Page:
    """One tab. events: what the browser told since it was opened: console lines, exceptions, requests."""

    def __init__(self, address: str, port: str) -> None:
        import websocket

        self._port = port
        self._socket = websocket.create_connection(address, timeout=PATIENCE, suppress_origin=True)
        self._numbers = itertools.count(1)
        self.events: list[dict[str, Any]] = []
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        number = next(self._numbers)
        self._socket.send(json.dumps({"id": number, "method": method, "params": parameters}))
        while True:
            answer = json.loads(self._socket.recv())
            if answer.get("id") == number:
                assert "error" not in answer, answer
                return answer["result"]
            self.events.append(answer)

    def show(self, file: Path, *, width: int, height: int = 900, dark: bool = False) -> None:
        """Open a file in a window of this size, and wait until every chart is drawn."""
        phone = width < 600
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=phone)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])
        self.call("Page.navigate", url=file.as_uri())
        self.wait()

    def wait(self) -> None:
        """Until every chart is drawn."""
        until = time.monotonic() + PATIENCE
        waiting = "document.querySelectorAll('[data-chart]:not(:has(.main-svg))').length"
        while self.ask(f"document.readyState === 'complete' ? {waiting} : 1"):
            assert time.monotonic() < until, f"charts are not drawn: {self.complaints()}"
            time.sleep(0.05)

    def ask(self, expression: str) -> Any:
        """The value of an expression in the page."""
        return self.call("Runtime.evaluate", expression=expression, returnByValue=True)["result"].get("value")

    def frame(self) -> Page:
        """The page's sandboxed frame, which to Chromium is a page of its own."""
        until = time.monotonic() + PATIENCE
        while not (found := [one for one in _tabs(self._port) if one["type"] == "iframe"]):
            assert time.monotonic() < until, "there is no frame"
            time.sleep(0.05)
        return Page(found[0]["webSocketDebuggerUrl"], self._port)

    def picture(self, file: Path) -> None:
        """The whole page as PNG."""
        shot = self.call("Page.captureScreenshot", captureBeyondViewport=True)
        file.write_bytes(base64.b64decode(shot["data"]))

    def complaints(self) -> list[str]:
        """Errors and warnings of the console, and exceptions."""
        told = []
        for event in self.events:
            method, about = event["method"], event.get("params", {})
            if method == "Runtime.exceptionThrown":
                told.append(json.dumps(about["exceptionDetails"]))
            elif method == "Log.entryAdded" and about["entry"]["level"] in ("error", "warning"):
                told.append(about["entry"]["text"])
            elif method == "Runtime.consoleAPICalled" and about["type"] in ("error", "warning", "assert"):
                told.append(json.dumps(about["args"]))
        return told

    def requests(self) -> list[str]:
        """Addresses that were asked for, but for data that the page itself holds."""
        asked = [
            event["params"]["request"]["url"] for event in self.events if event["method"] == "Network.requestWillBeSent"
        ]
        return [url for url in asked if not url.startswith(("data:", "blob:"))]

    def close(self) -> None:
        self._socket.close()


@contextlib.contextmanager
def browser(profile: Path) -> Iterator[Page]:
    """A tab of a Chromium of its own, without a screen."""
    options = ("--headless=new", "--no-sandbox", "--disable-gpu", "--remote-debugging-port=0", "--hide-scrollbars")
    command = [
        program() or "chromium",
        *options,
        "--disable-dev-shm-usage",
        f"--user-data-dir={profile}",
        "about:blank",
    ]
    with (profile.parent / "browser.log").open("w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        port = _port(profile / "DevToolsActivePort", process)
        (tab, *_) = [one for one in _tabs(port) if one["type"] == "page"]
        page = Page(tab["webSocketDebuggerUrl"], port)
        yield page
        page.close()
    finally:
        process.terminate()
        process.wait(PATIENCE)


def _tabs(port: str) -> list[dict[str, Any]]:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/json") as answer:
        tabs: list[dict[str, Any]] = json.load(answer)
    return tabs


def _port(file: Path, process: subprocess.Popen[bytes]) -> str:
    until = time.monotonic() + PATIENCE
    while not (file.is_file() and file.read_text()):
        assert process.poll() is None, "Chromium ended at once"
        assert time.monotonic() < until, "Chromium does not start"
        time.sleep(0.05)
    return file.read_text().split("\n")[0]
