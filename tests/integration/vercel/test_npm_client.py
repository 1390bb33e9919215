"""Vercel's AI SDK, from npm, on our gateway: its transport in node, and `useChat` on a page in a real browser.

`make clients` installs the packages and runs these.
"""

from __future__ import annotations

import functools
import json
import shutil
import subprocess
import threading
import uuid
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from tests.support.browser import CHROMIUM, Page, browser
from tests.support.fleet import ROOT, Fleet, running_fleet
from tests.support.gateway import GatewayProcess, running_gateway
from tests.support.servers import Server, running

CLIENT = ROOT / "tests" / "clients" / "vercel"
WORDS = "one two three four five six seven eight nine ten"
LAST = "[...document.querySelectorAll('article')].at(-1)?.textContent"
IDLE = "document.querySelector('output')?.textContent === 'ready'"
COUNT = "document.querySelectorAll('article').length"

pytestmark = [
    pytest.mark.skipif(shutil.which("node") is None, reason="node is not installed"),
    pytest.mark.skipif(not (CLIENT / "node_modules").is_dir(), reason="`make clients` installs the packages"),
]
in_chromium = pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium; see `make browser`")


def test_the_transport_works_unchanged(gateway_process: GatewayProcess, fleet: Fleet) -> None:
    """Messages, resuming, tools of the page, other answers, errors; the SDK's own validation of the history."""
    command = ["node", str(CLIENT / "conversation.mjs"), gateway_process.url]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {
        "empty": [],
        "idle": None,
        "chat": ["one two three", "Assistant", True],
        "question": 3,
        "resumed": "slow answer",
        "asked": ["tool-weather", "input-available", "Rome"],
        "tool": "ok: rain",
        "again": "one two three",
        "history": ["user", "assistant"],
        "error": [404, 404],
        "failed": True,
    }


class _Files(SimpleHTTPRequestHandler):
    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of the page, which esbuild has made of the packages."""
    folder = tmp_path_factory.mktemp("site")
    options = ["--bundle", "--format=esm", "--jsx=automatic", '--define:process.env.NODE_ENV="production"']
    esbuild = CLIENT / "node_modules" / ".bin" / "esbuild"
    made = [str(esbuild), "page.jsx", *options, f"--outfile={folder / 'page.js'}", "--log-level=warning"]
    subprocess.run(made, cwd=CLIENT, check=True, timeout=120)
    shutil.copy(CLIENT / "page.html", folder)
    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(_Files, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory, site: str) -> Iterator[tuple[Fleet, GatewayProcess]]:
    """A fleet whose workers may be killed, and a gateway that the page may call."""
    folder = tmp_path_factory.mktemp("shop")
    with (
        running(Server(folder / "server")) as server,
        running_fleet(folder, server, {"SESSIONFLEET_LEASE": "1"}, ("ui1",)) as fleet,
        running_gateway(server, folder, SESSIONFLEET_GATEWAY_CORS=site) as gateway,
    ):
        yield fleet, gateway


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """One browser for all tests."""
    with browser(tmp_path_factory.mktemp("browser")) as started:
        yield started


@pytest.fixture
def page(pages: Any, site: str, shop: tuple[Fleet, GatewayProcess]) -> Iterator[Page]:
    """The page of a new chat, whose agent has a tool that needs approval; no script on it may fail."""
    fleet, gateway = shop
    chat = f"page-{uuid.uuid4().hex}"
    fleet.session(chat).Agent("cashier", tools=["refund"]).chat("SAY ready")
    with pages.page() as opened:
        opened.open(f"{site}/page.html?api={gateway.url}#{chat}")
        opened.until(f"{COUNT} === 2 && {IDLE}")
        yield opened
        assert opened.complaints == []


def say(page: Page, text: str) -> None:
    """Type a message and send it."""
    page.js("document.querySelector('textarea').focus()")
    page.type(text)
    page.js("document.querySelector('#send').click()")


@in_chromium
def test_a_page_is_loaded_again_in_the_middle_of_an_answer(page: Page) -> None:
    """The answer is complete, and there once; and again when it is loaded after its end."""
    say(page, f"SAY {WORDS}\nPACE 0.3")
    page.until(f"{COUNT} === 4 && {LAST}.includes('two')")
    assert "ten" not in page.js(LAST)
    for _ in range(2):
        page.reload()
        page.until(f"{COUNT} === 4 && {IDLE} && {LAST} === {json.dumps(WORDS)}")


@in_chromium
def test_a_page_is_loaded_again_while_a_worker_dies(page: Page, shop: tuple[Fleet, GatewayProcess]) -> None:
    """kill -9 in the middle of the answer: no word twice, none missing, in the page that watched it as in a new one."""
    fleet, _ = shop
    message = f"SAY {WORDS} again\nPACE 0.1\nSTALL 3 60"
    say(page, message)
    page.until(f"{COUNT} === 4 && {LAST}.includes('two')")
    page.reload()
    page.until(f"{COUNT} === 4 && {LAST}.includes('three')")
    fleet.worker_of_pid(fleet.noted("stalled", prompt=message)[-1]["pid"]).kill()
    fleet.start(f"ui{len(fleet.workers) + 1}")
    page.until(f"{IDLE} && {LAST} === {json.dumps(f'{WORDS} again')}")
    page.reload()
    page.until(f"{COUNT} === 4 && {IDLE} && {LAST} === {json.dumps(f'{WORDS} again')}")


@in_chromium
def test_a_call_is_approved_after_the_page_was_loaded_again(page: Page) -> None:
    """The page is asked, asked again when it is loaded again, and the same answer goes on."""
    say(page, 'CALL refund({"amount": 9})')
    page.until(f"{IDLE} && !!document.querySelector('.approval-requested .approve')")
    page.reload()
    page.until(f"{IDLE} && !!document.querySelector('.approval-requested .approve')")
    page.js("document.querySelector('.approve').click()")
    page.until(f"{IDLE} && {COUNT} === 4 && {LAST} === 'refundok: refunded 9'")
    assert page.js("document.querySelectorAll('.output-available').length") == 1
    page.reload()
    page.until(f"{IDLE} && {COUNT} === 4 && {LAST} === 'refundok: refunded 9'")


@in_chromium
def test_denied_stopped_and_answered_again(page: Page) -> None:
    """A denied call did not run; a stopped answer ends; another answer takes the place of the last one."""
    say(page, 'CALL refund({"amount": 8})')
    page.until("!!document.querySelector('.deny')")
    page.js("document.querySelector('.deny').click()")
    page.until(f"{IDLE} && !!document.querySelector('.output-denied') && {COUNT} === 4")
    say(page, "SLEEP 60")
    page.until(f"{COUNT} === 6")  # the answer has begun
    page.js("document.querySelector('#stop').click()")
    page.until(IDLE)
    say(page, "SAY one")
    page.until(f"{IDLE} && {LAST} === 'one'")
    newest = "[...document.querySelectorAll('article')].at(-1).id"
    before = page.js(newest)
    page.js("document.querySelector('#again').click()")
    page.until(
        f"{IDLE} && {LAST} === 'one' && [...document.querySelectorAll('article')].at(-1).id !== {json.dumps(before)}"
    )
