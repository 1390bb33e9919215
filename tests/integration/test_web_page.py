"""The page of the web examples in a real browser, by keyboard, while servers and workers die under it.

`make browser` runs these; without a browser they are skipped.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.support.browser import CHROMIUM, Browser, Page, browser
from tests.support.fleet import Fleet, running_fleet
from tests.support.servers import Server, free_port, running
from tests.support.sites import KINDS, Site

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium; see `make browser`")

WORDS = "one two three four five six seven eight nine ten"
LAST = "[...document.querySelectorAll('article')].at(-1)?.textContent"
STATE = "document.querySelector('#state').textContent"
IDLE = "!document.querySelector('#send').disabled"
NAMES = ("fastapi", "flask-gunicorn", "django-gunicorn")


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """A fleet whose workers may be killed."""
    folder = tmp_path_factory.mktemp("page")
    lease = {"SESSIONFLEET_LEASE": "1"}
    with running(Server(folder / "server")) as server, running_fleet(folder, server, lease, ("page1",)) as fleet:
        yield fleet


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """One browser for all tests."""
    with browser(tmp_path_factory.mktemp("browser")) as started:
        yield started


@pytest.fixture
def page(chromium: Browser) -> Iterator[Page]:
    """A separate page for each test; no script on it may fail."""
    with chromium.page() as opened:
        yield opened
        assert opened.complaints == []


@pytest.fixture(scope="module")
def sites(shop: Fleet) -> Iterator[dict[str, Site]]:
    """One of each framework."""
    started = {name: Site(KINDS[name], shop, shop.folder / f"{name}.log") for name in NAMES}
    try:
        for site in started.values():
            site.ready()
        yield started
    finally:
        with ThreadPoolExecutor() as threads:
            list(threads.map(Site.stop, started.values()))


@pytest.fixture
def start(shop: Fleet, tmp_path: Path) -> Iterator[Callable[[int], Site]]:
    """Starts a site that the test may kill, on a port of its choice."""
    made: list[Site] = []

    def make(port: int) -> Site:
        made.append(Site(KINDS["fastapi"], shop, tmp_path / f"{len(made)}.log", port=port).ready())
        return made[-1]

    yield make
    for site in made:
        site.stop()


def picture(page: Page, name: str) -> None:
    """Keep a picture for people to look at, where SF_TEST_PICTURES names a folder."""
    if folder := os.environ.get("SF_TEST_PICTURES"):
        page.screenshot(Path(folder) / f"{name}.png")


def say(page: Page, text: str) -> None:
    """Type a message and send it, by keyboard alone: the field has the focus."""
    page.until(f"{IDLE} && document.activeElement.id === 'message'")
    page.type(text)
    page.press("Enter")


def watch(page: Page) -> None:
    """Let the page record in `seen` every state of the answer, which a test might look for too late."""
    page.js("seen = []")
    note = f"() => {LAST.removesuffix('?.textContent')}?.classList.contains('assistant') && seen.push({LAST})"
    page.js(
        f"new MutationObserver({note}).observe(document.querySelector('#log'), {{childList: true, subtree: true}}), 0"
    )


@pytest.mark.parametrize("name", NAMES)
def test_a_conversation_by_keyboard(page: Page, sites: dict[str, Site], name: str) -> None:
    """Typed, sent by Enter, streamed, with the tool that was called; Escape stops an answer; a phone shows it all."""
    page.resize(1000, 700)
    page.open(sites[name].url)
    watch(page)
    say(page, f'CALL look_up({{"query": "tides"}})\nSAY {WORDS}\nPACE 0.1')
    page.until(f"{IDLE} && {LAST}.endsWith('{WORDS}')")
    assert any("one" in text and "ten" not in text for text in page.js("seen")), "it was shown as it came"
    assert page.js(LAST).startswith('look_up({"query":"tides"}) → tides found')
    assert page.js("document.querySelectorAll('article').length") == 2
    picture(page, f"{name}-desktop")
    say(page, "SLEEP 60")
    page.until(f"!document.querySelector('#stop').hidden && {STATE} === 'answering'")
    page.press("Escape")
    page.until(f"{IDLE} && {LAST}.includes('cancelled')")
    page.resize(360, 640, phone=True)
    assert page.js("document.documentElement.scrollWidth <= innerWidth")
    picture(page, f"{name}-phone")


def test_a_page_that_is_loaded_again_goes_on(page: Page, sites: dict[str, Site]) -> None:
    """In mid-turn: the answer is complete and appears once; earlier messages are there; nothing was sent twice."""
    page.open(sites["flask-gunicorn"].url)
    say(page, "SAY before")
    page.until(f"{IDLE} && {LAST} === 'before'")
    say(page, f"SAY {WORDS}\nPACE 0.2")
    page.until(f"{LAST}.includes('two')")
    page.reload()
    page.until(f"document.querySelectorAll('article').length === 4 && {IDLE} && {LAST} === {json.dumps(WORDS)}")
    page.reload()
    page.until(f"document.querySelectorAll('article').length === 4 && {IDLE} && {LAST} === {json.dumps(WORDS)}")


def test_another_tab_joins_in(chromium: Browser, sites: dict[str, Site]) -> None:
    """It knows only the chat's address: it shows the earlier messages, the question, and the answer from its start.

    A turn that comes from one of the tabs afterwards is in the other one when it is loaded again.
    """
    with chromium.page() as mine, chromium.page() as other:
        mine.open(sites["fastapi"].url)
        say(mine, "SAY before")
        mine.until(f"{IDLE} && {LAST} === 'before'")
        say(mine, f"SAY {WORDS}\nPACE 0.3")
        mine.until(f"{LAST}.includes('two')")
        other.open(mine.js("location.href"))
        other.until(f"document.querySelectorAll('article').length === 4 && {LAST}.includes('two')")
        assert "ten" not in other.js(LAST)
        for page in (mine, other):
            page.until(f"{IDLE} && {LAST} === {json.dumps(WORDS)}")
        say(other, "SAY after")
        other.until(f"{IDLE} && {LAST} === 'after'")
        mine.reload()
        mine.until(f"document.querySelectorAll('article').length === 6 && {LAST} === 'after'")
        assert mine.complaints + other.complaints == []


def test_a_page_that_is_loaded_again_while_a_worker_dies(page: Page, sites: dict[str, Site], shop: Fleet) -> None:
    """kill -9 in the middle of the answer, with the page attached by the chat's stream: no word twice, none missing."""
    page.open(sites["django-gunicorn"].url)
    watch(page)
    message = f"SAY {WORDS} again\nPACE 0.1\nSTALL 3 60"
    say(page, message)
    page.until(f"{LAST}.includes('two')")
    page.reload()
    watch(page)
    page.until(f"{LAST}?.includes('three')")
    shop.worker_of_pid(shop.noted("stalled", prompt=message)[-1]["pid"]).kill()
    shop.start(f"page{len(shop.workers) + 1}")
    page.until(f"{IDLE} && {LAST}.endsWith('{WORDS} again')")
    assert page.js(LAST).count("one") == 1
    assert page.js("document.querySelectorAll('article').length") == 2
    page.reload()
    page.until(f"document.querySelectorAll('article').length === 2 && {LAST} === {json.dumps(f'{WORDS} again')}")


def test_a_link_leads_to_no_other_address(page: Page, sites: dict[str, Site]) -> None:
    """The part after `#` may come from anybody: only a chat's name is made of it, never another path."""
    page.open(sites["django-gunicorn"].url)
    page.js("window.before = true; location.hash = '../../webhooks?'; 0")
    page.until("!window.before && document.activeElement?.id === 'message'")
    assert page.js("/^#[0-9a-f]{32}$/.test(location.hash)")
    asked = page.js("performance.getEntriesByType('resource').map((entry) => new URL(entry.name).pathname)")
    assert not [path for path in asked if not path.startswith(("/page/", "/chats/"))]


def test_a_worker_that_dies_costs_no_word(page: Page, sites: dict[str, Site], shop: Fleet) -> None:
    """What the dead worker had begun is removed, what it had completed stays, and the answer is complete."""
    page.open(sites["fastapi"].url)
    watch(page)
    message = f'CALL look_up({{"query": "tides"}})\nSAY {WORDS}\nPACE 0.1\nSTALL 3 60'
    say(page, message)
    page.until(f"{LAST}.includes('two')")
    shop.noted("stalled", prompt=message)
    for worker in shop.workers:
        if worker.alive:
            worker.kill()
    shop.start(f"page{len(shop.workers) + 1}")
    page.until(f"{IDLE} && {LAST}.endsWith('{WORDS}')")
    assert any("begun again" in text and "two" not in text for text in page.js("seen")), "it was taken back"
    picture(page, "reset")
    assert page.js(LAST).count("one") == 1
    assert page.js(LAST).startswith('look_up({"query":"tides"}) → tides found')


def test_a_server_that_goes_is_waited_for(page: Page, start: Callable[[int], Site]) -> None:
    """Killed in mid-stream, and restarted: the page resumes after its last event, with no word lost or duplicated.

    A message that is sent while the server is down is sent again until it is accepted.
    """
    site = start(free_port())
    page.open(site.url)
    say(page, f"SAY {WORDS}\nPACE 0.6")
    page.until(f"{LAST}.includes('two')")
    site.kill()
    page.until(f"{STATE}.includes('connection lost')")
    again = start(site.port)
    page.until(f"{IDLE} && {LAST} === {json.dumps(WORDS)}")
    again.kill()
    say(page, "SAY late")
    page.until(f"{STATE}.includes('no connection')")
    start(site.port)
    page.until(f"{IDLE} && {LAST} === 'late'")
    assert page.js("fetch(`/chats/${location.hash.slice(1)}/messages`).then(r => r.json()).then(m => m.length)") == 4


def test_somebody_elses_chat_is_refused(page: Page, sites: dict[str, Site]) -> None:
    """With the chat's address and cookies of one's own: the page says why, and shows nothing."""
    page.open(sites["django-gunicorn"].url)
    say(page, "SAY secret")
    page.until(f"{IDLE} && {LAST} === 'secret'")
    address = page.js("location.href")
    page.command("Network.clearBrowserCookies")
    page.reload()
    page.until(f"{STATE}.includes('belongs to another user')")
    assert page.js("location.href") == address
    assert page.js("document.querySelectorAll('article').length") == 0
