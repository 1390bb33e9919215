"""A session's turns, the open one, and its stream: from Python, over REST, and in remote sessions."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from sessions import EventType, Session, SessionEvent, Turn, TurnStatus
from sessions.errors import BadRequest, InvalidTurnId, SessionOwnerError, StaleCursor
from tests.integration.test_sealing import NEW
from tests.support.fleet import Fleet, running_fleet
from tests.support.gateway import GatewayProcess, running_gateway
from tests.support.http import Sent, good, problem, sent_events
from tests.support.servers import Server, running
from tests.support.sse import Reader
from tests.support.waiting import wait_until

WORDS = "one two three four five six seven eight"
Open = Callable[..., Session]


@pytest.fixture(params=["local", "remote"])
def opened(request: pytest.FixtureRequest, gateway_process: GatewayProcess, fleet: Fleet) -> Open:
    """Opens sessions on the fleet itself, and behind the gateway."""

    def open_session(session_id: str | None = None, **options: Any) -> Session:
        session_id = session_id or uuid.uuid4().hex
        if request.param == "local":
            return fleet.session(session_id, **options)
        return Session(session_id, agent_url=f"{gateway_process.url}/agent", **options)

    return open_session


@pytest.fixture(scope="module")
def http(gateway_process: GatewayProcess, fleet: Fleet) -> Iterator[httpx.Client]:
    """A client for the gateway that tests share; its turns run on `fleet`."""
    with gateway_process.client() as client:
        yield client


def runs(turn: Turn) -> Turn:
    wait_until(lambda: turn.status is TurnStatus.RUNNING, description="the turn runs")
    return turn


def path_of(session: Session) -> str:
    return f"/v1/sessions/{session.session_id}"


def followed(http: httpx.Client, session: Session, after: str | None = None, **headers: str) -> list[Sent]:
    """The session's stream to its end; nothing for 204."""
    headers |= {"Last-Event-ID": after} if after else {}
    with http.stream("GET", f"{path_of(session)}/stream", headers=headers) as response:
        assert response.status_code in (200, 204), response.read()
        return list(sent_events(response.iter_lines()))


def texts(events: list[Sent] | list[SessionEvent]) -> str:
    return "".join(event.data["text"] for event in events if event.type == "text_delta")


# --- lists ------------------------------------------------------------------------------------------------


def test_open_turns_are_listed_in_the_order_in_which_they_run(opened: Open) -> None:
    """The one that runs, then the queued ones; each leads to its turn. None are left when all have ended."""
    session = opened()
    assert (list(session.turns()), session.open_turn()) == ([], None)
    agent = session.Agent("A")
    agent.chat("SAY before")
    first = runs(agent.submit("SLEEP 60"))
    later = [agent.submit(f"SAY {n}") for n in range(3)]
    page = session.turns(open=True)
    assert [info.id for info in page] == [first.id, *(turn.id for turn in later)]
    assert [info.message for info in page] == ["SLEEP 60", "SAY 0", "SAY 1", "SAY 2"]
    assert (page.turns[0].status, page.turns[0].attempt, page.turns[0].agent) == (TurnStatus.RUNNING, 1, "A")
    assert (page.turns[1].status, page.turns[1].started_at, page.cursor) == (TurnStatus.QUEUED, None, None)
    now = session.open_turn()
    assert now is not None
    assert now.id == first.id
    two = session.turns(open=True, limit=2)
    assert [info.id for info in session.turns(open=True, limit=9, cursor=two.cursor)] == [t.id for t in later[1:]]
    for turn in (*reversed(later), page.turns[0].turn):
        turn.cancel()
    wait_until(lambda: session.open_turn() is None, description="all have ended")
    assert list(session.turns(open=True)) == []


def test_all_turns_are_listed_in_pages_from_either_end(opened: Open) -> None:
    """Oldest first is the default; no turn is missing, and none comes twice. Answers are not read, errors are."""
    session = opened()
    agent = session.Agent("A", tools=["divide"])
    for n in range(4):
        agent.chat(f"SAY {n}")
    failed = agent.submit('CALL divide({"number": 1, "by": 0})')
    wait_until(lambda: failed.status.final, description="it failed")
    agent.submit("SLEEP 60")
    waits = agent.submit("SAY last")
    asked = [*(f"SAY {n}" for n in range(4)), 'CALL divide({"number": 1, "by": 0})', "SLEEP 60", "SAY last"]

    def paged(**options: Any) -> list[str]:
        found, cursor = [], None
        while True:
            page = session.turns(limit=3, cursor=cursor, **options)
            found += [info.message for info in page]
            assert len(page) <= 3
            if (cursor := page.cursor) is None:
                return found

    assert paged() == asked
    assert paged(order="newest") == asked[::-1]
    listed = {info.id: info for info in session.turns()}
    assert listed[failed.id].error == failed.record().error
    assert listed[failed.id].error is not None
    assert listed[failed.id].ended_at is not None
    assert listed[failed.id].ended_at >= listed[failed.id].accepted_at
    assert listed[waits.id].usage is None
    session.delete()
    assert list(session.turns()) == []


async def test_the_async_forms_do_the_same(opened: Open) -> None:
    """They run on the caller's loop."""
    session = opened()
    turn = await session.Agent("A").asubmit(f"SAY {WORDS}\nPACE 0.05", stream=True)
    assert [info.id async for info in aiter_of(await session.aturns(open=True))] == [turn.id]
    now = await session.aopen_turn()
    assert now is not None
    assert now.id == turn.id
    assert texts([event async for event in session.aevents()]) == WORDS
    assert await session.aopen_turn() is None
    assert await session.asse() is None


async def aiter_of(items: Any) -> Any:
    for item in items:
        yield item


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"open": False}, BadRequest),
        ({"open": 1}, BadRequest),
        ({"open": True, "order": "newest"}, BadRequest),
        ({"order": "best"}, BadRequest),
        ({"scheduled": False}, BadRequest),
        ({"limit": 0}, BadRequest),
        ({"limit": 1001}, BadRequest),
        ({"limit": "5"}, BadRequest),
        ({"cursor": 5}, BadRequest),
        ({"cursor": "nonsense"}, InvalidTurnId),
    ],
)
def test_what_cannot_be_listed_is_refused(opened: Open, options: dict[str, Any], error: type[Exception]) -> None:
    """With the argument in the message."""
    with pytest.raises(error, match=next(iter(options)) if error is BadRequest and len(options) == 1 else None):
        opened().turns(**options)


def test_a_turn_that_waits_aside_comes_last(opened: Open) -> None:
    """It let the others pass: they run first. If it is alone, it is the open turn."""
    session = opened()
    agent = session.Agent("A", tools=["refund"])
    waiting = agent.submit('CALL refund({"amount": 1})', waiting_blocks=False)
    wait_until(lambda: waiting.status is TurnStatus.WAITING, description="it waits")
    assert session.open_turn().id == waiting.id  # type: ignore[union-attr]
    runner = runs(agent.submit("SLEEP 60"))
    assert [info.id for info in session.turns(open=True)] == [runner.id, waiting.id]
    assert session.open_turn().id == runner.id  # type: ignore[union-attr]
    runner.cancel()
    waiting.cancel()


def test_a_scheduled_turn_is_open_but_not_the_open_turn(opened: Open) -> None:
    """It is listed last, with its time; until it is due, there is nothing to follow."""
    session = opened()
    agent = session.Agent("A")
    scheduled = agent.submit("SAY later", not_before=600)
    assert (session.open_turn(), session.sse(), list(session.events())) == (None, None, [])
    runner = runs(agent.submit("SLEEP 60"))
    page = session.turns(open=True)
    assert [(info.id, info.not_before is not None) for info in page] == [(runner.id, False), (scheduled.id, True)]
    assert [info.id for info in session.turns(open=True, scheduled=False)] == [runner.id]
    assert session.open_turn().id == runner.id  # type: ignore[union-attr]
    runner.cancel()
    scheduled.cancel()


def test_a_page_with_large_messages_ends_early(fleet: Fleet) -> None:
    """A page is bounded in bytes; its cursor leads to the rest."""
    session = fleet.session(uuid.uuid4().hex)
    agent = session.Agent("A")
    first = agent.submit("SLEEP 60")
    large = [agent.submit(f"{n} {'x' * 900_000}") for n in range(12)]
    page = session.turns()
    assert len(page) == 8
    rest = session.turns(cursor=page.cursor)
    assert [info.id for info in (*page, *rest)] == [first.id, *(turn.id for turn in large)]
    session.delete()


# --- whose they are ---------------------------------------------------------------------------------------


def test_another_user_sees_nothing(opened: Open) -> None:
    """Neither the list nor the stream of a session that is somebody else's."""
    mine = opened(user_id="alice")
    turn = mine.Agent("A").submit("SLEEP 60")
    other = opened(mine.session_id, user_id="bob")
    for look in (other.turns, other.open_turn, lambda: list(other.events()), other.sse):
        with pytest.raises(SessionOwnerError):
            look()
    assert mine.open_turn().id == turn.id  # type: ignore[union-attr]
    turn.cancel()


def test_turns_of_an_expired_session_stay_their_users(http: httpx.Client, fleet: Fleet) -> None:
    """Records outlive a session. A new owner of its id sees none of them, not even with their cursors."""
    session_id = uuid.uuid4().hex
    alice = fleet.session(session_id, user_id="alice", ttl=0.2)
    turn = alice.Agent("A").submit("SAY secret", stream=True)
    last = f"{turn.id.rpartition('~')[2]}.{[event.id for event in turn.events()][1]}"
    wait_until(alice.is_expired, description="it expired", timeout=20)
    assert [info.message for info in alice.turns()] == ["SAY secret"]
    bob = fleet.session(session_id, user_id="bob")
    assert bob.chat("SAY mine") == "mine"
    assert [info.message for info in bob.turns()] == ["SAY mine"]
    assert followed(http, bob, last, **{"X-User-ID": "bob"}) == []
    assert list(bob.events(after=last)) == []


def test_tenants_have_separate_turns(fleet: Fleet) -> None:
    """The same session id in two tenants: two lists, two streams."""
    session_id = uuid.uuid4().hex
    ours, theirs = (fleet.session(session_id, tenant=tenant) for tenant in ("ours", "theirs"))
    turn = ours.Agent("A").submit("SLEEP 60")
    assert (list(theirs.turns()), theirs.open_turn(), theirs.sse()) == ([], None, None)
    assert [info.id for info in ours.turns()] == [turn.id]
    turn.cancel()


# --- the stream -------------------------------------------------------------------------------------------


def test_the_stream_has_the_open_turn_and_the_turns_after_it(opened: Open) -> None:
    """From its start, although it began before. Each turn is announced, with its message; 204 when idle."""
    session = opened()
    assert (list(session.events()), session.sse()) == ([], None)
    agent = session.Agent("A")
    agent.chat("SAY before")
    first = runs(agent.submit(f"SAY {WORDS}\nPACE 0.05", stream=True))
    second = agent.submit("SAY nine ten", stream=True)
    events = list(session.events())
    begun = [(event.turn_id, event.data) for event in events if event.type is EventType.TURN]
    assert begun == [
        (first.id, {"turn": first.id, "agent": "A", "message": f"SAY {WORDS}\nPACE 0.05"}),
        (second.id, {"turn": second.id, "agent": "A", "message": "SAY nine ten"}),
    ]
    assert [event.type for event in events if event.final or event.type is EventType.TURN] == ["turn", "ended"] * 2
    for turn in (first, second):
        own = [event for event in events if event.turn_id == turn.id]
        assert [(e.id.partition(".")[2], e.type, e.data) for e in own[1:]] == [
            (e.id, e.type, e.data) for e in turn.events()
        ]
    assert list(session.events()) == []


@pytest.mark.parametrize("where", ["turn", "started", "text_delta", "ended"])
def test_after_any_event_comes_what_follows_it(http: httpx.Client, fleet: Fleet, where: str) -> None:
    """The rest of its turn, though that has ended; the turns that have ended since; then the open one, to its end."""
    session = fleet.session(uuid.uuid4().hex)
    agent = session.Agent("A")
    first = runs(agent.submit("SAY one two\nPACE 0.8", stream=True))
    seen = followed(http, session)
    first.result(40)
    between = agent.submit("SAY three", stream=True)
    between.result(40)
    last = runs(agent.submit("SAY four five\nPACE 0.3", stream=True))
    cut = next(place for place, event in enumerate(seen) if event.type == where) + 1
    rest = followed(http, session, seen[cut - 1].id)
    assert rest[: len(seen) - cut] == seen[cut:]
    assert [event.data["turn"] for event in rest if event.type == "turn"][-2:] == [between.id, last.id]
    assert texts(seen[:cut]) + texts(rest) == "one twothreefour five"
    assert [event.type for event in rest].count("ended") == (2 if where == "ended" else 3)
    whole = [*seen[:cut], *rest]
    assert len({event.id for event in whole}) == len(whole)
    assert followed(http, session, whole[-1].id) == []
    assert followed(http, session) == []


def test_odd_cursors(http: httpx.Client, opened: Open) -> None:
    """From another session, of a deleted turn, beyond the end, or nothing of the kind."""
    session, other = opened(), opened()
    turn = other.Agent("A").submit("SAY secret", stream=True)
    turn.result(40)
    foreign = f"{turn.id.rpartition('~')[2]}.1-1"
    assert followed(http, session, foreign) == []
    running = session.Agent("A").submit("SLEEP 60")
    with http.stream("GET", f"{path_of(session)}/stream", params={"after": foreign}) as response:
        assert next(sent_events(response.iter_lines())).data["turn"] == running.id
    mine = running.id.rpartition("~")[2]
    for cursor in (f"{mine}.99999999999-0", f"{mine}.01-1", "7-3", "nonsense", f"{mine}", f"{mine}."):
        with pytest.raises(StaleCursor):
            list(session.events(after=cursor))
        problem(http.get(f"{path_of(session)}/stream", headers={"Last-Event-ID": cursor}), 409, "StaleCursor")
    running.cancel()


def test_lists_over_http(http: httpx.Client, fleet: Fleet) -> None:
    """As a page asks for them."""
    session = fleet.session("lists over http".replace(" ", "-") + uuid.uuid4().hex[:8])
    turn = runs(session.Agent("A").submit("SLEEP 60", metadata={"request_id": "r-1"}))
    session.Agent("A").submit("SAY 2")
    page = good(http.get(f"{path_of(session)}/turns?open=1&limit=1"))
    assert page["turns"][0] | {"accepted_at": 0, "started_at": 0} == {
        "id": turn.id,
        "session_id": session.session_id,
        "status": "running",
        "agent": "A",
        "message": "SLEEP 60",
        "metadata": {"request_id": "r-1"},
        "attempt": 1,
        "error": None,
        "usage": None,
        "finish_reason": None,
        "accepted_at": 0,
        "not_before": None,
        "started_at": 0,
        "ended_at": None,
        "links": good(http.get(f"{path_of(session)}/turns/{turn.id}"))["links"],
    }
    rest = good(http.get(f"{path_of(session)}/turns", params={"open": 1, "cursor": page["cursor"]}))
    assert [one["message"] for one in rest["turns"]] == ["SAY 2"]
    assert rest["cursor"] is None
    problem(http.get(f"{path_of(session)}/turns?open=1&order=newest"), 422, "BadRequest")
    assert http.get(f"{path_of(session)}/turns?limit=0").status_code == 422
    session.delete()
    assert good(http.get(f"{path_of(session)}/turns")) == {"turns": [], "cursor": None}
    assert http.get(f"{path_of(session)}/stream").status_code == 204


# --- crashes ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def edge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """An encrypted deployment with two workers, which may be killed."""
    folder = tmp_path_factory.mktemp("edge")
    env = {"SESSIONFLEET_ENCRYPTION_KEYS": NEW, "SESSIONFLEET_LEASE": "1", "SESSIONFLEET_DELTA_MS": "0"}
    with running(Server(folder / "server")) as server, running_fleet(folder, server, env, ("e1", "e2")) as fleet:
        yield fleet


def replaced(fleet: Fleet, message: str) -> None:
    """Kill the worker on which the turn stalls; the other one continues, and a new one takes its place."""
    stalled = fleet.noted("stalled", prompt=message)[-1]
    fleet.worker_of_pid(stalled["pid"]).kill()
    fleet.start(f"e{len(fleet.workers) + 1}")


def shown(events: list[SessionEvent]) -> str:
    """The answer as a page shows it: a lost attempt's text is dropped after the last event that stays valid."""
    kept: list[SessionEvent] = []
    for event in events:
        if event.type is EventType.ATTEMPT_RESET:
            valid = event.data["valid_through"]
            known = [one.id for one in kept]
            assert valid is None or valid in [one.id for one in events]
            kept = kept[: known.index(valid) + 1] if valid in known else kept if valid else []
        elif event.type is EventType.TEXT_DELTA:
            kept.append(event)
    return "".join(event.text for event in kept)


def test_a_worker_that_dies_costs_no_word(edge: Fleet) -> None:
    """kill -9 in the middle of the answer, while a reader is attached by the session: no word twice, none missing."""
    session = edge.session(uuid.uuid4().hex, user_id="alice", ttl=600)
    message = f"SAY {WORDS}\nPACE 0.05\nSTALL 3 60"
    turn = session.Agent("A").submit(message, stream=True)
    stream = session.events()
    events = [next(stream)]
    while "two" not in texts(events):
        events.append(next(stream))
    replaced(edge, message)
    events += stream
    assert shown(events) == WORDS
    assert [event.type for event in events].count(EventType.ENDED) == 1
    assert EventType.ATTEMPT_RESET in [event.type for event in events]
    assert len({event.id for event in events}) == len(events)
    assert turn.result(1) == WORDS
    assert [(info.message, info.attempt) for info in session.turns()] == [(message, 2)]


def test_a_gateway_that_restarts_and_a_worker_that_dies_cost_no_word(edge: Fleet, tmp_path: Path) -> None:
    """A reader that reconnects as a browser does, over a gateway that is killed and one that takes its place."""
    session = edge.session(uuid.uuid4().hex)
    settings = {"SESSIONFLEET_ENCRYPTION_KEYS": NEW, "SESSIONFLEET_GATEWAY_AUTH": "off"}
    message = f"SAY {WORDS} and {uuid.uuid4().hex}\nPACE 0.1\nSTALL 4 60"
    with running_gateway(edge.server, tmp_path, **settings) as gateway:
        session.Agent("A").submit(message, stream=True)

        async def read() -> Reader:
            async with httpx.AsyncClient(base_url=gateway.url, timeout=60, trust_env=False) as client:
                reader = Reader(client, f"{path_of(session)}/stream", hang_up_after=3)
                task = asyncio.create_task(reads_through(reader))
                while "two" not in reader.text:  # noqa: ASYNC110
                    await asyncio.sleep(0.02)
                await asyncio.to_thread(gateway.kill)
                await asyncio.to_thread(replaced, edge, message)
                await asyncio.to_thread(gateway.start)
                await task
                return reader

        reader = asyncio.run(read())
    assert reader.text == message.partition("\n")[0].removeprefix("SAY ")
    assert [item.type for item in reader.items].count("turn") == 1
    assert [item.type for item in reader.items].count("ended") == 1
    assert len({item.id for item in reader.items}) == len(reader.items)


async def reads_through(reader: Reader) -> None:
    """Read to the turn's end, although nobody may be listening for a while."""
    while not (reader.items and reader.items[-1].type == "ended"):
        try:
            await reader.run()
        except httpx.TransportError:
            await asyncio.sleep(0.1)


def test_a_remote_reader_goes_on_over_another_gateway(edge: Fleet, tmp_path: Path) -> None:
    """A remote session's stream over a gateway that is killed: the same events as a local one."""
    settings = {"SESSIONFLEET_ENCRYPTION_KEYS": NEW, "SESSIONFLEET_GATEWAY_AUTH": "off"}
    with running_gateway(edge.server, tmp_path, **settings) as gateway:
        remote = Session(uuid.uuid4().hex, agent_url=f"{gateway.url}/agent", timeout=60)
        remote.Agent("A").submit(f"SAY {WORDS}\nPACE 0.2", stream=True)
        stream = remote.events()
        events = [next(stream)]
        while "two" not in texts(events):
            events.append(next(stream))
        gateway.kill()
        gateway.start()
        events += stream
    local = edge.session(remote.session_id)
    assert texts(events) == WORDS
    assert [event.id for event in events[1:]] == [event.id for event in local.events(after=events[0].id)]


def test_nothing_of_it_can_be_read_in_the_store(edge: Fleet) -> None:
    """The list shows what only the keyring can decrypt."""
    session = edge.session(uuid.uuid4().hex)
    session.Agent("A").chat("SAY quixotic")
    assert [info.message for info in session.turns()] == ["SAY quixotic"]
    with edge.server.client() as store:
        for key in store.scan_iter(f"*{session.session_id}*", count=1000):
            assert b"quixotic" not in (store.dump(key) or b"")
