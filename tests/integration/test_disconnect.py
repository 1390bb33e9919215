"""`on_disconnect="cancel"`: a turn that nobody waits for any more is cancelled; one that somebody else reads is not."""

from __future__ import annotations

import asyncio
import itertools
import os
import signal
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from contextlib import aclosing, suppress
from pathlib import Path
from typing import Any

import httpx
import pytest

from sessions import EventType, Session, Turn, TurnStatus
from sessions.errors import BadRequest, SessionOwnerError
from tests.support.fleet import ROOT, Fleet, running_fleet
from tests.support.gateway import GatewayProcess, made_key, running_gateway
from tests.support.http import good, problem, sent_events
from tests.support.servers import Server, running
from tests.support.waiting import await_until, wait_until

GRACE = {"SESSIONFLEET_DISCONNECT_GRACE": "1.5", "SESSIONFLEET_LEASE": "1"}
Open = Callable[[], Session]


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """Two workers, which may be killed; whoever leaves has a second and a half to come back."""
    folder = tmp_path_factory.mktemp("shop")
    with running(Server(folder / "server")) as server, running_fleet(folder, server, GRACE, ("d1", "d2")) as fleet:
        yield fleet


@pytest.fixture(scope="module")
def gateway(shop: Fleet, tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    """A gateway that tests share and do not stop."""
    with running_gateway(
        shop.server, tmp_path_factory.mktemp("gateway"), SESSIONFLEET_GATEWAY_AUTH="off", **GRACE
    ) as gateway:
        yield gateway


@pytest.fixture(params=["local", "remote"])
def opened(request: pytest.FixtureRequest, shop: Fleet, gateway: GatewayProcess) -> Open:
    """Opens sessions on the fleet itself, and behind the gateway."""
    if request.param == "local":
        return lambda: shop.session(uuid.uuid4().hex)
    return lambda: Session(uuid.uuid4().hex, agent_url=f"{gateway.url}/agent")


def message() -> str:
    """A text that only this test streams, for a minute."""
    return f"SAY {uuid.uuid4().hex} {'word ' * 600}\nPACE 0.1"


def ends(turn: Turn, status: TurnStatus = TurnStatus.CANCELLED) -> None:
    wait_until(lambda: turn.status.final, description="the turn ends", timeout=20)
    assert turn.status is status


def only_turn(session: Session) -> Turn:
    (info,) = session.turns()
    return info.turn


def until_text(events: Iterator[Any]) -> None:
    """Read up to the first words."""
    next(event for event in events if event.text)


# --- Python -----------------------------------------------------------------------------------------------


def test_a_stream_that_is_closed_early_cancels_its_turn(opened: Open) -> None:
    """At once, in the middle of the model's answer. What had streamed stays in the history."""
    session = opened()
    stream = session.Agent("A").stream(message(), on_disconnect="cancel")
    until_text(stream)
    stream.close()  # type: ignore[attr-defined]
    ends(only_turn(session))
    assert [m.incomplete for m in session.history()] == ["cancelled"] * 2


def test_by_default_a_turn_continues(opened: Open) -> None:
    """Its reader's end is not its own."""
    session = opened()
    stream = session.Agent("A").stream("SAY one two three\nPACE 0.2")
    until_text(stream)
    stream.close()  # type: ignore[attr-defined]
    assert only_turn(session).result(20) == "one two three"


def test_a_stream_that_is_read_to_its_end_cancels_nothing(opened: Open) -> None:
    """Nor does one that takes longer than the time to come back."""
    session = opened()
    stream = session.Agent("A").stream("SLEEP 3\nSAY one two", on_disconnect="cancel")
    assert "".join(event.text for event in stream) == "one two"
    ends(only_turn(session), TurnStatus.SUCCEEDED)
    assert session.chat("SAY next") == "next"


async def test_a_cancelled_task_cancels_its_turn(opened: Open) -> None:
    """As a web framework does when a client disconnects: while the turn is submitted, or while it is read."""
    session = opened()
    reading = asyncio.Event()

    async def read() -> None:
        events = session.Agent("A").astream(message(), on_disconnect="cancel")
        async with aclosing(events):  # type: ignore[type-var]
            async for _ in events:
                reading.set()

    task = asyncio.create_task(read())
    await reading.wait()
    task.cancel()
    await asyncio.wait({task})
    at_once = asyncio.create_task(read())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    at_once.cancel()
    await asyncio.wait({at_once})

    async def all_cancelled() -> bool:
        return {info.status for info in await session.aturns()} == {TurnStatus.CANCELLED}

    await await_until(all_cancelled, description="no turn continues")


def test_a_process_that_is_killed_cancels_its_turn(opened: Open) -> None:
    """kill -9: nothing says good-bye, and the turn ends all the same. One in the queue ends when its time comes."""
    session = opened()
    options = f"agent_url={session.agent_url!r}" if session.is_remote else ""
    script = (
        f"from sessions import Session\nagent = Session({session.session_id!r}, {options}).Agent('A')\n"
        f"for event in agent.stream({message()!r}, on_disconnect='cancel'): print(event.type, flush=True)"
    )
    env = {**os.environ, "REDIS_URL": SHOPS[0], "PYTHONPATH": str(ROOT), "SESSIONFLEET_AUTOSTART": "0", **GRACE}
    with subprocess.Popen([sys.executable, "-c", script], env=env, stdout=subprocess.PIPE, text=True) as reader:
        assert reader.stdout is not None
        next(line for line in reader.stdout if "text_delta" in line)
        reader.kill()
    ends(only_turn(session))


SHOPS: list[str] = []


@pytest.fixture(autouse=True)
def _address(shop: Fleet) -> None:
    SHOPS[:] = [shop.server.url]


def test_a_reader_that_is_killed_together_with_the_worker(shop: Fleet) -> None:
    """The next worker that takes the turn ends it, instead of running it again."""
    session, asked = shop.session(uuid.uuid4().hex), message()
    turn = session.Agent("A").submit(asked, stream=True)
    events = turn.attend()
    until_text(events)
    pid = shop.noted("model_started", prompt=asked)[-1]["pid"]
    shop.worker_of_pid(pid).kill()
    events.close()  # type: ignore[attr-defined]
    shop.start(f"d{len(shop.workers) + 1}")
    ends(turn)
    assert len(shop.ledger("model_started", prompt=asked)) <= 2


def test_a_queued_turn_whose_reader_has_gone_does_not_run(shop: Fleet) -> None:
    """It ends when it would begin; the turns behind it run."""
    session, asked = shop.session(uuid.uuid4().hex), message()
    agent = session.Agent("A")
    agent.submit("SLEEP 3")
    turn = agent.submit(asked, stream=True)

    async def come_and_go() -> None:
        await shop.client.stores.turns.attend(session.keys, turn.id.rpartition("~")[2], 1.5)

    shop.client.portal.call(come_and_go())
    assert agent.chat("SAY behind it") == "behind it"
    ends(turn)
    assert shop.ledger("model_started", prompt=asked) == []


def test_other_readers_neither_cancel_a_turn_nor_keep_it(opened: Open) -> None:
    """Only the one who started it counts: others may leave, and their staying does not make a cancelled turn run."""
    session = opened()
    stream = session.Agent("A").stream(message(), on_disconnect="cancel")
    until_text(stream)
    turn = only_turn(session)
    for other in (turn.events(), session.events()):
        until_text(other)
        other.close()  # type: ignore[attr-defined]
    assert turn.status is TurnStatus.RUNNING
    follower = turn.events()
    until_text(follower)
    stream.close()  # type: ignore[attr-defined]
    assert list(follower)[-1].data["status"] == "cancelled"


def test_a_session_that_is_shared_to_be_read(shop: Fleet, gateway: GatewayProcess) -> None:
    """Its list and its stream can be read; leaving cannot cancel, for that takes the right to write."""
    mine = shop.session(uuid.uuid4().hex, user_id="alice")
    turn = mine.Agent("A").submit(message(), stream=True)
    mine.share("bob", "read")
    local = shop.session(mine.session_id, user_id="bob")
    for theirs in (local, Session(mine.session_id, "bob", agent_url=f"{gateway.url}/agent")):
        assert [info.id for info in theirs.turns(open=True)] == [turn.id]
        stream = theirs.events()
        until_text(stream)
        stream.close()  # type: ignore[attr-defined]
        seen = theirs.open_turn()
        assert seen is not None
        for attended in (seen.attend(), seen.events(on_disconnect="cancel")):
            with pytest.raises(SessionOwnerError, match="write"):
                next(attended)
    assert turn.status is TurnStatus.RUNNING
    turn.cancel()


def test_what_cannot_be_is_refused(shop: Fleet) -> None:
    """A wrong word, and a turn of somebody else's."""
    agent = shop.session(uuid.uuid4().hex).Agent("A")
    with pytest.raises(BadRequest, match="on_disconnect='stop'"):
        next(agent.stream("SAY x", on_disconnect="stop"))  # type: ignore[arg-type]
    with pytest.raises(BadRequest, match="steer"):
        next(agent.stream("SAY x", on_disconnect="cancel", policy="steer"))
    assert list(agent.session.turns()) == []  # type: ignore[attr-defined]


# --- web backends -----------------------------------------------------------------------------------------


def test_a_browser_that_goes_has_time_to_come_back(shop: Fleet) -> None:
    """The pieces that a web backend sends: it reconnects with its last id, and the turn continues; then it is gone."""
    turn = shop.session(uuid.uuid4().hex).Agent("A").submit(message(), stream=True)
    last = None
    for _ in range(3):
        pieces = turn.sse(after=last, on_disconnect="cancel")
        assert pieces is not None
        for piece in itertools.islice(pieces, 6):
            last = piece.splitlines()[0].removeprefix("id: ") if piece.startswith("id: ") else last
        pieces.close()  # type: ignore[attr-defined]
        assert turn.status is TurnStatus.RUNNING
    ends(turn)


# --- REST -------------------------------------------------------------------------------------------------


def test_a_response_that_is_cut_off_cancels_its_turn(gateway: GatewayProcess, shop: Fleet) -> None:
    """Submitted and followed with one request; the default is that the turn continues."""
    for on_disconnect, status in (("cancel", TurnStatus.CANCELLED), ("continue", TurnStatus.SUCCEEDED)):
        session = shop.session(uuid.uuid4().hex)
        body = {"message": "SAY one two three four\nPACE 0.3", "stream": True, "on_disconnect": on_disconnect}
        with gateway.client() as http:
            url, accept = f"/v1/sessions/{session.session_id}/turns", {"Accept": "text/event-stream"}
            with http.stream("POST", url, json=body, headers=accept) as response:
                assert response.status_code == 200
                events = sent_events(response.iter_lines())
                next(event for event in events if event.type == "text_delta")
                assert response.headers["location"].endswith(session.turns().turns[0].id.rpartition("~")[2])
        ends(only_turn(session), status)


def test_a_response_to_its_end(gateway: GatewayProcess, shop: Fleet) -> None:
    """The same events as the turn's stream; repeated with the same key after an event, the rest of them."""
    session = shop.session(uuid.uuid4().hex)
    url, headers = f"/v1/sessions/{session.session_id}/turns", {"Accept": "text/event-stream", "Idempotency-Key": "k"}
    body = {"message": "SAY one two three", "stream": True, "on_disconnect": "cancel"}
    with gateway.client() as http:
        first = list(sent_events(http.post(url, json=body, headers=headers).iter_lines()))
        assert [(e.id, e.type) for e in first] == [(e.id, e.type) for e in only_turn(session).events()]
        again = http.post(url, json=body, headers={**headers, "Last-Event-ID": str(first[1].id)})
        assert list(sent_events(again.iter_lines())) == first[2:]
        assert http.post(url, json=body, headers={**headers, "Last-Event-ID": str(first[-1].id)}).status_code == 204
        problem(http.post(url, json=body), 422, "BadRequest")
        steer = {**body, "policy": "steer"}
        problem(http.post(url, json=steer, headers={"Accept": "text/event-stream"}), 422, "BadRequest")
        assert good(http.get(f"{url}/{first[0].data and only_turn(session).id}"))["result"] == "one two three"


def test_a_gateway_that_is_killed_cancels_what_it_streamed(shop: Fleet, tmp_path: Path) -> None:
    """kill -9 while it streams for the one who started the turn: nobody can tell it apart from a reader that left."""
    session = shop.session(uuid.uuid4().hex)
    with running_gateway(shop.server, tmp_path, SESSIONFLEET_GATEWAY_AUTH="off", **GRACE) as gateway:
        body = {"message": message(), "stream": True, "on_disconnect": "cancel"}
        url, headers = f"/v1/sessions/{session.session_id}/turns", {"Accept": "text/event-stream"}
        with gateway.client() as http, http.stream("POST", url, json=body, headers=headers) as response:
            lines = response.iter_lines()
            next(event for event in sent_events(lines) if event.type == "text_delta")
            gateway.kill()
            with pytest.raises(httpx.TransportError):
                list(lines)
    ends(only_turn(session))


def test_a_reader_comes_back_to_another_gateway(shop: Fleet, gateway: GatewayProcess, tmp_path: Path) -> None:
    """The one that streamed is stopped, as in a deployment: the turn continues for a reader that comes back in time."""
    session = shop.session(uuid.uuid4().hex)
    body = {"message": "SAY one two three four five six seven\nPACE 1.5", "stream": True, "on_disconnect": "cancel"}
    url = f"/v1/sessions/{session.session_id}/turns"
    headers = {"Accept": "text/event-stream", "Idempotency-Key": "once"}
    seen = []
    time_to_come_back = {"SESSIONFLEET_DISCONNECT_GRACE": "20", "SESSIONFLEET_GATEWAY_AUTH": "off"}
    with (
        running_gateway(shop.server, tmp_path, **time_to_come_back) as first,
        first.client() as http,
        http.stream("POST", url, json=body, headers=headers) as response,
        suppress(httpx.TransportError),
    ):
        for event in sent_events(response.iter_lines()):
            seen.append(event)
            if "two" in event.data.get("text", ""):
                os.kill(first.pid, signal.SIGTERM)
    assert seen[-1].type != "ended"
    with gateway.client() as http:
        again = http.post(url, json=body, headers={**headers, "Last-Event-ID": str(seen[-1].id)})
        seen += sent_events(again.iter_lines())
    texts = [event.data["text"] for event in seen if event.type == EventType.TEXT_DELTA]
    assert "".join(texts) == "one two three four five six seven"


def test_who_may_only_read_cannot_cancel_by_leaving(secured_gateway: GatewayProcess, secured_store: Server) -> None:
    """It needs the right to cancel."""
    key = made_key(secured_store, rights=("read",))
    url = f"/v1/sessions/s/turns/s~{'0' * 32}/events?on_disconnect=cancel"
    with secured_gateway.client(key) as http:
        problem(http.get(url), 403, "Forbidden")
