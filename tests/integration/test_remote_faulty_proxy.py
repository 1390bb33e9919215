"""Remote sessions on a way to the gateway that breaks: nothing is doubled, no event is lost, and the time is kept."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import pytest

from sessions import Session
from sessions.errors import (
    RemoteFailed,
    RemoteTimeout,
    RemoteUnavailable,
)
from tests.support.fleet import Fleet
from tests.support.gateway import GatewayProcess
from tests.support.remote_servers import FaultyProxy, Reply, faulty_proxy

WORDS = "SAY one two three four five six seven eight\nPACE 0.05"


def sid() -> str:
    return uuid.uuid4().hex


@pytest.fixture
def way(gateway_process: GatewayProcess, fleet: Fleet) -> Iterator[FaultyProxy]:
    """A way to the gateway on which requests and answers get lost."""
    with faulty_proxy(gateway_process.port) as found:
        yield found


def test_a_gateway_that_is_away_is_told_apart_from_a_turn_that_takes_long(way: FaultyProxy) -> None:
    """RemoteUnavailable within the caller's time, not ResultTimeout."""
    turn = Session(sid(), agent_url=way.url).Agent("A").submit("SAY x")
    turn.result(timeout=20)
    way.faults = [("GET", Reply(breaks=True))] * 1000
    with pytest.raises(RemoteUnavailable, match="broke"):
        turn.result(timeout=1.5)


def test_a_lost_answer_does_not_double_a_message(way: FaultyProxy, fleet: Fleet) -> None:
    """The gateway accepted the turn, its response was lost, and a 503 came in between: one turn."""
    session = Session(sid(), agent_url=way.url)
    busy = Reply({"title": "Service Unavailable"}, 503, {"Retry-After": "0"})
    way.faults = [("POST /v1", "lose"), ("POST /v1", busy), ("POST /v1", Reply(breaks=True))]
    message = f"SAY {session.session_id}"
    assert session.chat(message) == session.session_id
    posts = [asked for asked in way.asked if asked.method == "POST"]
    assert len(posts) == 4
    assert len({asked.headers["idempotency-key"] for asked in posts}) == 1
    assert len(fleet.ledger("model", prompt=message)) == 1
    session.chat(message)
    keys = {asked.headers["idempotency-key"] for asked in way.asked if asked.method == "POST"}
    assert len(keys) == 2, "another call has another key"


def test_a_proxy_that_waits_less_than_we_do_is_asked_again(way: FaultyProxy, fleet: Fleet) -> None:
    """Its 504 says nothing of the turn: the same request with the same key finds it."""
    session = Session(sid(), agent_url=way.url)
    cut = Reply("<html>504 Gateway Time-out</html>", 504, {"Content-Type": "text/html"})
    way.faults = [("POST /v1", "lose"), ("POST /v1", cut)]
    message = f"SAY {session.session_id}"
    assert session.chat(message) == session.session_id
    assert len(fleet.ledger("model", prompt=message)) == 1
    turn = session.Agent("A").submit("SAY x")
    way.faults = [("GET /v1", cut)]
    assert turn.result(timeout=20) == "x"


def test_what_is_not_the_same_twice_is_not_sent_twice(way: FaultyProxy, fleet: Fleet) -> None:
    """The gateway did it and its answer was lost: an error, and it was done once. What never arrived is sent again."""
    session = Session(sid(), "ann" + sid(), agent_url=way.url)
    session.set_state("other", 1)
    for call in (
        lambda: session.increment_state("n"),
        lambda: session.add_memory("x"),
        session.save_state,
        lambda: session.compare_and_set_state("other", 1, 2),
    ):
        way.faults = [("P", "lose")]
        with pytest.raises(RemoteUnavailable, match="it is unknown whether the request was carried out"):
            call()
    local = fleet.session(session.session_id, user_id=session.user_id)
    assert local.get_state() == {"n": 1, "other": 2}
    assert (len(local.list_memory()), local.checkpoints()) == (1, [1])
    way.faults = [("PATCH", "lose")]
    session.set_state("n", 5)
    assert local.get_state("n") == 5


def test_tries_end_with_the_calls_time(way: FaultyProxy) -> None:
    """After many of them, with what the server said last; the time may end in the middle of one."""
    session = Session(sid(), agent_url=way.url)
    session.get_state()
    way.faults = [("GET", Reply("maintenance", 503, {"Retry-After": "0"}))] * 1000
    with pytest.raises((RemoteFailed, RemoteTimeout), match=r"answered 503 .*: maintenance|did not respond within"):
        Session(session.session_id, agent_url=way.url, timeout=1.5).get_state()
    assert len(way.faults) < 997


def test_a_server_that_wants_pauses_gets_them(way: FaultyProxy, monkeypatch: pytest.MonkeyPatch) -> None:
    """Retry-After of 429 and 503; one that is longer than the call may take is not waited for."""
    from sessions.remote import exchange

    pauses: list[float] = []
    real = exchange._pause
    monkeypatch.setattr(exchange, "_pause", lambda state: pauses.append(real(state)) or 0.0)
    session = Session(sid(), agent_url=way.url)
    way.faults = [
        ("POST /v1", Reply("", 429, {"Retry-After": "3"})),
        ("POST /v1", Reply("", 503, {"Retry-After": "2"})),
    ]
    assert session.chat("SAY x") == "x"
    assert pauses[0] >= 3
    assert pauses[1] >= 2
    monkeypatch.undo()
    way.faults = [("POST /v1", Reply("", 429, {"Retry-After": "600"}))]
    with pytest.raises(ConnectionError, match="answered 429"):
        session.chat("SAY x")
    assert way.faults == []


def test_a_stream_goes_on_behind_its_last_event(way: FaultyProxy, gateway_process: GatewayProcess) -> None:
    """Cut within an event, refused, cut between two: the reader sees each event once (P5)."""
    session = Session(sid(), agent_url=way.url)
    turn = session.Agent("A").submit(WORDS, stream=True)
    busy = Reply("", 503, {"Retry-After": "0"})
    way.faults = [("GET /v1", 6), ("GET /v1", busy), ("GET /v1", 5), ("GET /v1", Reply(breaks=True)), ("GET /v1", 8)]
    events = list(turn.events())
    straight = Session(session.session_id, agent_url=f"{gateway_process.url}/agent").turn(turn.id)
    assert events == list(straight.events())
    assert way.faults == []
    cursors = [a.headers.get("last-event-id") for a in way.asked if a.path.endswith("/events")]
    assert cursors[0] is None
    assert None not in cursors[3:]


def test_a_slow_reader_may_come_back(way: FaultyProxy, monkeypatch: pytest.MonkeyPatch) -> None:
    """The time without a connection counts from when it broke, not from the event that was read last."""
    from sessions.remote import stream

    late = [0.0]
    monkeypatch.setattr(stream, "time", SimpleNamespace(monotonic=lambda: time.monotonic() + late[0]))
    turn = Session(sid(), agent_url=way.url).Agent("A").submit("SAY a b c", stream=True)
    turn.result(timeout=20)
    way.faults = [("GET /v1", 4)]
    events = turn.events()
    seen = [next(events)]
    late[0] = 3600.0
    assert [*seen, *events] == list(turn.events())


def test_a_stream_waits_no_longer_than_a_call_may_take(way: FaultyProxy) -> None:
    """A Retry-After of ten minutes is reported at once."""
    turn = Session(sid(), agent_url=way.url).Agent("A").submit("SAY a")
    turn.result(timeout=20)
    way.faults = [("GET /v1", Reply("", 503, {"Retry-After": "600"}))]
    with pytest.raises(ConnectionError, match="answered 503"):
        list(turn.events())
    assert way.faults == []


def test_a_silent_stream_is_looked_after(way: FaultyProxy, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing comes for longer than a gateway is silent: the turn is asked for, and the stream opened again."""
    from sessions.remote import stream

    monkeypatch.setattr(stream, "_SILENCE", 0.4)
    turn = Session(sid(), agent_url=way.url).Agent("A").submit("SLEEP 1.5\nSAY x", stream=True)
    events = list(turn.events())
    assert "".join(event.text for event in events) == "x"
    assert events == list(turn.events())
    looked = [asked.path for asked in way.asked if asked.method == "GET" and asked.path.endswith(turn.id)]
    assert looked
    assert way.count(f"GET {looked[0]}/events") > 2


def test_a_stream_that_cannot_be_taken_up_says_so(way: FaultyProxy) -> None:
    """After `timeout`, the error has the cursor after which to resume."""
    session = Session(sid(), agent_url=way.url, timeout=2)
    turn = session.Agent("A").submit(WORDS, stream=True)
    turn.result(timeout=20)
    events = turn.events()
    way.faults = [("GET /v1", 4)]
    first = next(events)
    way.faults = [("GET /v1", Reply(breaks=True))] * 50
    with pytest.raises(ConnectionError, match=rf"follow it again with events\(after='{first.id}'\)"):
        list(events)
    way.faults = []
    assert list(turn.events(after=first.id))[-1].final


@pytest.mark.slow
def test_a_gateway_that_is_killed_and_comes_back(fleet: Fleet, gateway_process: GatewayProcess, tmp_path: Any) -> None:
    """A reader and a waiter see the turn's end, though the gateway died under both."""
    own = GatewayProcess(fleet.server, tmp_path, SESSIONFLEET_GATEWAY_AUTH="off").start()
    try:
        session = Session(sid(), agent_url=f"{own.url}/agent")
        turn = session.Agent("A").submit("SAY one two three four\nPACE 0.5", stream=True)
        events = turn.events()
        seen = [next(events), next(events)]
        with ThreadPoolExecutor(1) as waiter:
            answer = waiter.submit(turn.result, 30)
            own.kill()
            own.start()
            seen += events
            assert answer.result(30) == "one two three four"
        assert seen == list(turn.events())
    finally:
        own.stop()
