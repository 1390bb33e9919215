"""The stream of a turn: readers that come and go see the same sequence, and a new attempt is announced."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from itertools import pairwise
from typing import Any

import pytest

from sessions import Event, EventType, Turn
from sessions.errors import StaleCursor, TurnNotFound
from sessions.store.keys import split_turn_id
from sessions.store.scripts import ScriptRunner
from tests.support.fleet import Fleet

MakeFleet = Callable[..., Fleet]
# A tool call in the middle, and an answer of eight words that come one by one.
WORDS = "SAY one two three four five six seven eight\nPACE 0.06"


def sid() -> str:
    return uuid.uuid4().hex


def reconnecting(fleet: Fleet, turn: Turn) -> list[Event]:
    """Read one event, drop the connection to the stream, and resume after it with a new handle."""
    seen: list[Event] = []
    while not seen or not seen[-1].final:
        again = fleet.session(turn.id.partition("~")[0]).turn(turn.id)
        with closing(again.events(after=seen[-1].id if seen else None)) as events:
            seen.append(next(events))
    return seen


def test_all_readers_see_the_same_sequence(fleet: Fleet) -> None:
    """One that stays, one that reconnects after every event, and one that joins late: nothing missed or doubled."""
    agent = fleet.session(sid()).Agent("A", tools=["look_up"])
    turn = agent.submit(f'CALL look_up({{"query": "x", "seconds": 0.3}})\n{WORDS}', stream=True)
    with ThreadPoolExecutor(3) as readers:
        staying = readers.submit(lambda: list(turn.events()))
        jumping = readers.submit(reconnecting, fleet, turn)
        early = staying.result(timeout=30)
        assert jumping.result(timeout=30) == early
    assert list(turn.events()) == early
    assert reconnecting(fleet, turn) == early
    assert "".join(e.text for e in early) == "one two three four five six seven eight"
    ids = [tuple(int(n) for n in e.id.split("-")) for e in early]
    assert ids == sorted(set(ids))
    assert early[0].type is EventType.STARTED
    assert early[-1].type is EventType.ENDED


def test_a_reader_joins_in_the_middle(fleet: Fleet) -> None:
    """After any event's id exactly the remaining events follow."""
    turn = fleet.session(sid()).Agent("A").submit(WORDS, stream=True)
    events = list(turn.events())
    for index, event in enumerate(events):
        assert list(turn.events(after=event.id)) == events[index + 1 :]


def test_one_reader_that_leaves_does_not_silence_the_others(fleet: Fleet) -> None:
    """Readers of one process share a bell; when one goes, the other still hears of each event at once."""
    turn = fleet.session(sid()).Agent("A").submit("SAY a b c d e f g h i j k l\nPACE 0.2", stream=True)
    staying = turn.events()
    assert next(staying).type is EventType.STARTED
    with closing(turn.events()) as leaving:
        assert next(leaving).type is EventType.STARTED
    heard = [time.monotonic() for event in staying if event.text]
    # By polling alone, once a second, they would come in at most four bunches; a loaded machine makes some of twelve.
    bunches = 1 + sum(later - earlier > 0.05 for earlier, later in pairwise(heard))
    assert bunches > 4


def test_a_reader_holds_little_of_a_large_stream(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever lies in memory while it takes its time: large events come few at a time, small ones by the hundred."""
    turn = fleet.session(sid()).Agent("A").submit("SAY x")
    turn.result(timeout=20)
    session_id, part = split_turn_id(turn.id)
    stream = fleet.client.keys(session_id).events(part)
    with fleet.server.client() as store:
        store.delete(stream)
        for number in range(1, 1041):
            text = "x" * (300_000 if number <= 40 else 1)
            store.xadd(stream, {"type": "text_delta", "data": json.dumps({"text": text})}, id=f"1-{number}")
        store.xadd(stream, {"type": "ended", "data": "{}"}, id="1-1041")
        store.expire(stream, 600)  # as the one that it stands for
    pages: list[int] = []
    read = ScriptRunner.read

    async def noted(runner: ScriptRunner, *command: Any) -> Any:
        found = await read(runner, *command)
        if command[0] == "XRANGE":
            pages.append(len(found))
        return found

    monkeypatch.setattr(ScriptRunner, "read", noted)
    assert [event.id for event in turn.events()] == [f"1-{number}" for number in range(1, 1042)]
    assert max(pages[:30]) <= 8
    assert len(pages) < 60


def test_a_stream_without_deltas_has_the_text_as_one_event(fleet: Fleet) -> None:
    """Submitted without `stream`, the answer is one event."""
    turn = fleet.session(sid()).Agent("A").submit("SAY all at once")
    events = list(turn.events())
    assert [e.type for e in events] == [EventType.STARTED, EventType.TEXT, EventType.ENDED]
    assert events[1].data["text"] == "all at once"


NEVER = ["999999999-1", "x", "1", "", "-", "1-x", "∞-1", "1-2-3", "00-0", "0-01"]
NOT_FOR_THE_STORE = ["+0-1", "0--1", "0_0-1", " 0-1", "0-1\n", "\u0663-1", f"0-{2**64}"]  # what `int` would take


@pytest.mark.parametrize("cursor", [*NEVER, *NOT_FOR_THE_STORE], ids=ascii)
def test_a_cursor_that_was_never_given_out_is_an_error(fleet: Fleet, cursor: str) -> None:
    """Beyond the end, or not a cursor at all: StaleCursor, not silence."""
    turn = fleet.session(sid()).Agent("A").submit("SAY x")
    turn.result(timeout=20)
    with pytest.raises(StaleCursor, match="cursor"):
        list(turn.events(after=cursor))


def test_a_stream_of_no_turn_is_an_error(fleet: Fleet) -> None:
    """TurnNotFound for a turn that never was; and for one that is deleted while it is read."""
    session = fleet.session(sid())
    with pytest.raises(TurnNotFound):
        list(session.turn(f"{session.session_id}~{uuid.uuid4().hex}").events())
    turn = session.Agent("A").submit("SLEEP 20", stream=True)
    events = turn.events()
    assert next(events).type is EventType.STARTED
    session.delete()
    with pytest.raises(TurnNotFound):
        next(events)


def test_an_attempt_after_a_crash_is_announced(new_fleet: MakeFleet) -> None:
    """After kill -9: attempt_reset names the last event that stays valid; what came after it is not spliced in."""
    fleet = new_fleet(SESSIONFLEET_LEASE="1")
    fleet.start("w1")
    fleet.start("w2")
    fleet.ready()
    agent = fleet.session(sid()).Agent("A", tools=["look_up"])
    turn = agent.submit('CALL look_up({"query": "x"})\nSAY one two three four five six\nPACE 0.4', stream=True)
    events: Iterator[Event] = turn.events()
    before: list[Event] = []
    while sum(bool(e.text) for e in before) < 2:  # two words of the answer are out
        before.append(next(events))
    fleet.worker_of_pid(fleet.ledger("look_up")[0]["pid"]).kill()
    after = list(events)
    reset = next(e for e in after if e.type is EventType.ATTEMPT_RESET)
    behind = after[after.index(reset) + 1 :]
    assert reset.data["attempt"] == 2
    valid = reset.data["valid_through"]
    assert valid == next(e.id for e in before if e.type is EventType.TOOL_RESULT)
    assert "".join(e.text for e in behind) == "one two three four five six", "the answer is streamed anew, whole"
    assert not [e for e in behind if e.type in (EventType.TOOL_CALL, EventType.TOOL_RESULT)], (
        "what is valid is not repeated"
    )
    assert [*before, *after] == list(turn.events()) == reconnecting(fleet, turn)
    assert len(fleet.ledger("look_up")) == 1
