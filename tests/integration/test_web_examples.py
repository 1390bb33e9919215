"""The web examples as their visitors meet them: each under its real server, on a real fleet."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from broker_config.webhook_secrets import new_secret, parse_secret, secret_text
from sessions.protocol.webhook_signature import signed_headers, tenant_secrets
from tests.support.fleet import Fleet, running_fleet
from tests.support.servers import Server, free_port, running
from tests.support.sites import KINDS, TRIALS, Site, Visitor
from tests.support.waiting import wait_until

WORDS = "one two three four five six seven eight"


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """A fleet whose workers may be killed; a dead worker's turns continue after a second."""
    folder = tmp_path_factory.mktemp("web")
    with running(Server(folder / "server")) as server:
        env = {"SESSIONFLEET_WEBHOOK_SECRETS": new_secret(), "SESSIONFLEET_ALLOWED_HOSTS": "127.0.0.1"}
        with running_fleet(folder, server, {**env, "SESSIONFLEET_LEASE": "1"}, workers=("web1", "web2")) as fleet:
            yield fleet


@pytest.fixture(scope="module")
def sites(shop: Fleet) -> Iterator[dict[str, Site]]:
    """All of them, by name."""
    env = {"WEBHOOK_SECRET": secret_of(shop)}
    started = {name: Site(kind, shop, shop.folder / f"{name}.log", **env) for name, kind in KINDS.items()}
    try:
        for site in started.values():
            site.ready()
        yield started
    finally:
        with ThreadPoolExecutor() as threads:
            list(threads.map(Site.stop, started.values()))


@pytest.fixture(params=KINDS)
def site(request: pytest.FixtureRequest, sites: dict[str, Site]) -> Site:
    """One of them."""
    return sites[request.param]


def secret_of(fleet: Fleet) -> str:
    """What `sessionfleet keys webhook` prints."""
    return secret_text(tenant_secrets(fleet.settings, fleet.settings.tenant)[0])


def cid() -> str:
    return uuid.uuid4().hex


def test_a_message_is_taken_at_once_streamed_and_answered(site: Site) -> None:
    """202, a stream to the end, then the answer; the history has both messages."""
    visitor, chat = Visitor(site), cid()
    turn = visitor.say(chat, f'CALL look_up({{"query": "x"}})\nSAY {WORDS}')
    stream = visitor.follow(turn)
    assert (stream.status, stream.text) == (200, WORDS)
    assert [item.type for item in stream.items if not item.type.startswith("text")] == [
        *("started", "tool_call", "tool_result", "ended"),
    ]
    assert stream.headers["content-type"].startswith("text/event-stream")
    assert (stream.headers["cache-control"], stream.headers["x-accel-buffering"]) == ("no-cache", "no")
    assert visitor.get(turn).json() == {"status": "succeeded", "answer": WORDS}
    assert [said["role"] for said in visitor.get(f"/chats/{chat}/messages").json()] == ["user", "assistant"]


def test_the_same_key_is_the_same_turn(site: Site) -> None:
    """A double click: two requests at the same time, one turn. Another message under the key is a conflict."""
    visitor, chat, key = Visitor(site), cid(), cid()
    with ThreadPoolExecutor(2) as threads:
        turns = set(threads.map(lambda _: visitor.say(chat, "SAY once", Idempotency_Key=key), range(2)))
    assert len(turns) == 1
    again = visitor.post(f"/chats/{chat}/messages", {"message": "SAY twice"}, Idempotency_Key=key)
    assert again.status_code == 409
    visitor.follow(turns.pop())
    assert len(visitor.get(f"/chats/{chat}/messages").json()) == 2


def test_a_browser_that_comes_back_gets_the_rest_exactly(site: Site) -> None:
    """It leaves in mid-stream; after its last event comes what it has not seen; after the last one nothing: 204."""
    visitor, chat = Visitor(site), cid()
    turn = visitor.say(chat, f"SAY {WORDS}\nPACE 0.1")
    first = visitor.follow(turn, until="text_delta")
    assert first.items[-1].type == "text_delta"
    rest = visitor.follow(turn, first.items[-1].id)
    assert first.items + rest.items == visitor.follow(turn).items
    assert (first.text + rest.text) == WORDS
    assert visitor.follow(turn, rest.items[-1].id).status == 204


def test_a_browser_that_knows_only_the_chat_gets_its_open_turn(site: Site) -> None:
    """From its start; after an event of this stream what follows it, over the ends of turns; 204 when nothing runs."""
    visitor, chat = Visitor(site), cid()
    stream = f"/chats/{chat}/stream"
    assert visitor.get(stream).status_code == 204
    turn = visitor.say(chat, f"SAY {WORDS}\nPACE 0.1").rpartition("/")[2]
    first = visitor.follow(f"/chats/{chat}", until="text_delta", name="stream")
    assert (first.items[0].type, first.items[0].data["turn"]) == ("turn", turn)
    assert first.items[0].data["message"] == f"SAY {WORDS}\nPACE 0.1"
    between = visitor.say(chat, "SAY more")
    visitor.follow(between)
    rest = visitor.follow(f"/chats/{chat}", first.items[-1].id, until="", name="stream")
    assert first.text + rest.text == WORDS + "more"
    assert [item.type for item in rest.items if item.type in ("turn", "ended")] == ["ended", "turn", "ended"]
    assert visitor.get(f"{stream}?after={rest.items[-1].id}").status_code == 204
    assert visitor.get(f"{stream}?after=1-1").status_code == 409
    assert Visitor(site).get(stream).status_code == 403


def test_another_browser_sees_nothing(site: Site) -> None:
    """Chats belong to the cookie that began them; users named in a body are ignored."""
    visitor, chat = Visitor(site), cid()
    turn = visitor.say(chat, "SAY secret")
    visitor.follow(turn)
    other = Visitor(site)
    assert [other.get(path).status_code for path in (turn, f"{turn}/events", f"/chats/{chat}/messages")] == [403] * 3
    assert other.post(f"{turn}/cancel").status_code == 403
    mine = {"message": "SAY mine", "user": "x", "user_id": "x"}
    assert other.post(f"/chats/{chat}/messages", mine).status_code == 403
    assert "secret" not in other.get(turn).text


def test_what_cannot_be_done_is_said(site: Site) -> None:
    """No such turn, no message, no JSON, a message that is too large, a cursor from elsewhere."""
    visitor, chat = Visitor(site), cid()
    turn = visitor.say(chat, "SAY hello")
    visitor.follow(turn)
    messages = f"/chats/{chat}/messages"
    assert visitor.get(f"{turn[:-32]}{cid()}").status_code == 404
    assert visitor.get(f"{turn[:-32]}{cid()}/events").status_code == 404
    assert visitor.post(messages, {"message": ""}).status_code == 422
    assert visitor.post(messages, {}).status_code == 422
    assert visitor.post(messages, {"message": "x" * 20_000}).status_code == 413
    assert visitor.post("/chats/a~b/messages", {"message": "hello"}).status_code in (404, 422)
    assert visitor.get(f"{turn}/events?after=9999999-0").status_code == 409


def test_other_sites_cannot_post(site: Site) -> None:
    """What a page of another site can send with a visitor's cookies: a form, and JSON that says it is plain text."""
    visitor = Visitor(site)
    messages = f"/chats/{cid()}/messages"
    form = visitor.http.post(messages, data={"message": "forged"})
    text = visitor.http.post(messages, content=b'{"message": "forged"}', headers={"Content-Type": "text/plain"})
    blob = visitor.http.post(messages, content=b'{"message": "forged"}')  # no type at all, as `fetch` sends a Blob
    assert {form.status_code, text.status_code, blob.status_code} <= {403, 415, 422}
    assert visitor.get(messages).json() == []


@pytest.mark.parametrize("name", [name for name in KINDS if name.startswith("django")])
def test_django_behind_a_proxy_with_tls_takes_its_own_pages(name: str, sites: dict[str, Site]) -> None:
    """For Django the request came over http: a setting says which https origin is its own. Others are refused."""
    visitor, messages = Visitor(sites[name]), f"/chats/{cid()}/messages"
    assert visitor.post(messages, {"message": "SAY x"}, Origin="https://chat.example").status_code == 202
    assert visitor.post(messages, {"message": "SAY x"}, Origin="https://evil.example").status_code == 403
    assert visitor.http.get("/").headers["x-frame-options"] == "DENY"


def test_a_turn_is_stopped(site: Site) -> None:
    """While it runs there is no answer: 202. Then the stream ends with the status, and so does the answer."""
    visitor, chat = Visitor(site), cid()
    turn = visitor.say(chat, "SLEEP 60")
    visitor.follow(turn, until="started")
    assert (visitor.get(turn).status_code, visitor.get(turn).json()) == (202, {"status": "running"})
    assert visitor.post(f"{turn}/cancel").status_code == 202
    assert visitor.follow(turn).items[-1].data["status"] == "cancelled"
    assert visitor.get(turn).json()["status"] == "cancelled"


def test_streams_outlive_the_workers(shop: Fleet, sites: dict[str, Site]) -> None:
    """kill -9 of every worker in mid-turn: each open stream goes on with `attempt_reset`, and ends with the answer."""
    visitors = [Visitor(site) for site in sites.values()]
    turns = [visitor.say(cid(), f'CALL linger({{"seconds": 60}})\nSAY {WORDS}') for visitor in visitors]
    with ThreadPoolExecutor() as threads:
        streams = [threads.submit(visitor.follow, turn) for visitor, turn in zip(visitors, turns, strict=True)]
        keys = [f"{turn.rpartition('/')[2]}:" for turn in turns]
        wait_until(
            lambda: {key for key in keys for line in shop.ledger("linger") if line["key"].startswith(key)} == set(keys),
            description="each turn's tool runs",
        )
        for worker in shop.workers:
            if worker.alive:
                worker.kill()
        shop.start(f"web{len(shop.workers) + 1}")
        shop.start(f"web{len(shop.workers) + 1}")
        for stream in (future.result(timeout=60) for future in streams):
            kinds = [item.type for item in stream.items]
            assert kinds.count("attempt_reset") == 1
            assert stream.items[-1].data["status"] == "succeeded"
            assert stream.text == WORDS
    shop.ready()


@pytest.mark.parametrize("name", [name for name, kind in KINDS.items() if kind.wrapped])
def test_forked_processes_each_serve(name: str, sites: dict[str, Site]) -> None:
    """The parent had used a session before it forked: both of its children accept, stream and answer."""
    visitor, chat = Visitor(sites[name]), cid()

    def converse(number: int) -> set[tuple[str, str]]:
        posted = visitor.post(f"/chats/{chat}-{number}/messages", {"message": f"SAY {WORDS}"})
        turn = posted.headers["Location"]
        stream = visitor.follow(turn)
        answer = visitor.get(turn)
        assert (stream.text, answer.json()["answer"]) == (WORDS, WORDS)
        by = {"post": posted.headers, "stream": stream.headers, "answer": answer.headers}
        return {(what, headers["x-served-by"]) for what, headers in by.items()}

    served: set[tuple[str, str]] = set()
    until = time.monotonic() + 40
    with ThreadPoolExecutor(8) as threads:
        while len(served) < 6 and time.monotonic() < until:
            base = len(served) * 1000 + time.monotonic_ns()
            served |= set().union(*threads.map(converse, range(base, base + 8)))
    assert len(served) == 6, served
    assert len({pid for _, pid in served}) == 2


def test_a_browser_that_goes_leaves_nothing(shop: Fleet, site: Site) -> None:
    """It closes the page in mid-stream: the store no longer lists a reader of the turn there."""
    visitor = Visitor(site)
    turn = visitor.say(cid(), f"SAY {'word ' * 1500}\nPACE 0.1")
    visitor.follow(turn, until="text_delta")
    session_id, _, part = turn.rpartition("/")[2].partition("~")
    key = shop.session(session_id).keys.turn(part)
    with shop.server.client() as store:
        wait_until(lambda: store.hget(key, "readers") == b"", description="nobody is listed as a reader")
    assert visitor.get(turn).status_code == 202, "which is not because it ended"
    visitor.post(f"{turn}/cancel")


def test_a_site_is_told_of_the_end_of_each_turn(shop: Fleet, site: Site) -> None:
    """A worker posts to `/webhooks`; a repeat counts once, and an unsigned request not at all."""
    visitor, chat = Visitor(site), cid()
    turn = visitor.say(chat, "SAY hello").rpartition("/")[2]
    notes = wait_until(lambda: visitor.get(f"/chats/{chat}/webhooks").json(), description="the site was notified")
    assert notes == [{"turn": turn, "type": "turn.succeeded"}]

    gone = cid()  # a chat that was deleted before the webhook came

    def tell(message_id: str, secret: str, user: str | None = None) -> int:
        data = {"session_id": chat if user is None else gone, "turn_id": turn, "user_id": user}
        body = json.dumps({"type": "turn.again", "data": data}).encode()
        headers = signed_headers([parse_secret(secret)], message_id, body)
        return httpx.post(f"{site.url}/webhooks", content=body, headers=headers).status_code

    assert [tell("msg_1", secret_of(shop)) for _ in range(2)] == [204, 204]
    assert tell("msg_2", new_secret()) == 400
    assert httpx.post(f"{site.url}/webhooks", json={}).status_code == 400
    notes = visitor.get(f"/chats/{chat}/webhooks").json()
    assert sorted(note["type"] for note in notes) == ["turn.again", "turn.succeeded"]
    assert Visitor(site).get(f"/chats/{chat}/webhooks").status_code == 403
    assert tell("msg_3", secret_of(shop), "whose it was") == 204
    assert visitor.get(f"/chats/{gone}/webhooks").status_code == 403, "it is nobody else's"


def test_a_webhook_may_be_large_and_has_an_end(shop: Fleet, site: Site) -> None:
    """A complete answer of 8 MB is accepted; anything larger is refused, even without a declared length."""

    def tell(size: int, *, chunked: bool = False) -> int:
        body = json.dumps(
            {"type": "x", "data": {"session_id": cid(), "turn_id": "t", "user_id": None, "result": "x" * size}}
        ).encode()
        headers = signed_headers([parse_secret(secret_of(shop))], cid(), body)
        content = (body[at : at + 65536] for at in range(0, len(body), 65536)) if chunked else body
        return httpx.post(f"{site.url}/webhooks", content=content, headers=headers, timeout=30).status_code

    assert tell(8 << 20) == 204
    assert tell(11 << 20) in (400, 413)
    assert tell(11 << 20, chunked=True) in (400, 413)


def test_a_store_that_is_down_is_said_so(shop: Fleet, tmp_path: Path) -> None:
    """503 and when to try again, and nothing of the store's address. On the development servers of the frameworks."""
    nowhere = f"redis://127.0.0.1:{free_port()}/0"
    started = [Site(kind, shop, tmp_path / f"{name}.log", REDIS_URL=nowhere) for name, kind in TRIALS.items()]
    try:
        for site in started:
            visitor = Visitor(site.ready())
            refused = visitor.post(f"/chats/{cid()}/messages", {"message": "hello"})
            assert (refused.status_code, refused.headers["retry-after"]) == (503, "2")
            assert refused.json() == {"error": "not possible now; try again shortly"}
            assert nowhere.partition("//")[2].partition("/")[0] in site.log, "who runs the site reads where"
    finally:
        for site in started:
            site.stop()


def test_many_readers_of_one_process(sites: dict[str, Site]) -> None:
    """Twelve browsers follow their turns at the same time: threads of sync frameworks suffice for that."""

    def visit(site: Site) -> str:
        visitor = Visitor(site)
        return visitor.follow(visitor.say(cid(), f"SAY {WORDS}\nPACE 0.1")).text

    wanted = [site for name, site in sites.items() if name != "fastapi-gunicorn" for _ in range(12)]
    with ThreadPoolExecutor(48) as threads:
        assert set(threads.map(visit, wanted)) == {WORDS}
