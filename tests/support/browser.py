"""A real browser without a window, driven over its debugging protocol: as much as a test of a page needs."""

from __future__ import annotations

import base64
import itertools
import json
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
from websockets.sync.client import ClientConnection, connect

from tests.support.waiting import wait_until

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
_OPTIONS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--remote-debugging-port=0"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage"),
)
_KEYS = {"Enter": ("Enter", 13, "\r"), "Tab": ("Tab", 9, ""), "Escape": ("Escape", 27, "")}


class Page:
    """One page."""

    def __init__(self, socket: ClientConnection) -> None:
        self._socket = socket
        self._numbers = itertools.count(1)
        self.complaints: list[str] = []
        for domain in ("Page", "Runtime", "Log"):
            self.command(f"{domain}.enable")

    def command(self, method: str, **params: Any) -> dict[str, Any]:
        """Send a command and wait for its result; errors of the page meanwhile are kept."""
        number = next(self._numbers)
        self._socket.send(json.dumps({"id": number, "method": method, "params": params}))
        while True:
            said = json.loads(self._socket.recv(30))
            if said.get("method") == "Runtime.exceptionThrown":
                self.complaints.append(json.dumps(said["params"]["exceptionDetails"]))
            if said.get("id") == number:
                assert "error" not in said, said
                return dict(said["result"])

    def open(self, url: str) -> None:
        """Go to an address, and wait until it is loaded."""
        self.command("Page.navigate", url=url)
        wait_until(
            lambda: self.js("document.readyState") == "complete" and self.js("location.href").startswith(url),
            description=f"{url} is loaded",
        )

    def reload(self) -> None:
        """Load the page again."""
        self.js("window.before = true")
        self.command("Page.reload")
        wait_until(
            lambda: self.js("!window.before && document.readyState === 'complete'"), description="it is loaded again"
        )

    def js(self, expression: str) -> Any:
        """The value of an expression, promises awaited."""
        result = self.command("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in result, result
        return result["result"].get("value")

    def until(self, expression: str, timeout: float = 40.0) -> Any:
        """Wait until an expression is true; its value."""
        return wait_until(lambda: self.js(expression), description=f"on the page: {expression}", timeout=timeout)

    def type(self, text: str) -> None:
        """Type into what has the focus; line breaks as Shift+Enter."""
        for index, line in enumerate(text.split("\n")):
            if index:
                self.press("Enter", shift=True)
            self.command("Input.insertText", text=line)

    def press(self, key: str, *, shift: bool = False) -> None:
        """Press a key."""
        name, code, text = _KEYS[key]
        known = {"key": name, "code": name, "windowsVirtualKeyCode": code, "modifiers": 8 if shift else 0}
        self.command("Input.dispatchKeyEvent", type="keyDown", **known, **({"text": text} if text else {}))
        self.command("Input.dispatchKeyEvent", type="keyUp", **known)

    def resize(self, width: int, height: int, *, phone: bool = False) -> None:
        """Another size of screen."""
        self.command(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=phone
        )

    def screenshot(self, path: Path) -> None:
        """A picture of what is seen."""
        path.write_bytes(base64.b64decode(self.command("Page.captureScreenshot", format="png")["data"]))


class Browser:
    """A running browser; its pages share cookies."""

    def __init__(self, address: str) -> None:
        self._address = address

    @contextmanager
    def page(self) -> Iterator[Page]:
        """A new page."""
        about = httpx.put(f"{self._address}/json/new?about:blank").raise_for_status().json()
        with connect(about["webSocketDebuggerUrl"], max_size=None, proxy=None) as socket:
            yield Page(socket)


@contextmanager
def browser(folder: Path) -> Iterator[Browser]:
    """Run a browser with a new profile."""
    assert CHROMIUM is not None
    profile = folder / "profile"
    with (folder / "browser.log").open("wb") as log:
        process = subprocess.Popen(
            [CHROMIUM, *_OPTIONS, f"--user-data-dir={profile}", "about:blank"], stdout=log, stderr=log
        )
    try:
        port_file = profile / "DevToolsActivePort"
        wait_until(
            lambda: process.poll() is None and port_file.exists() and port_file.read_text().count("\n"),
            description="the browser can be driven",
        )
        yield Browser(f"http://127.0.0.1:{port_file.read_text().splitlines()[0]}")
    finally:
        process.terminate()
        process.wait(20)
