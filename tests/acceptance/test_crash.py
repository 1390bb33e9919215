"""kill -9 of a worker in the middle of its turns: they continue on another one, after their last completed step."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable

import pytest

from sessions import Turn, TurnStatus
from sessions.protocol.event import Event, EventType
from tests.support.fleet import Fleet

TURNS = 20


def _submit(fleet: Fleet, number: int) -> Turn:
    """A turn that has paid for a model call and had a side effect when it hangs: in a tool, or in the model."""
    charge = f'CALL charge({{"amount": {number}}})\n'
    hang = "HANG 1 60" if number % 2 else 'CALL linger({"seconds": 60})'
    return fleet.session(f"crash-{number}").Agent("A", tools=["charge", "linger"]).submit(charge + hang)


def test_turns_of_a_killed_worker_end_elsewhere_and_repeat_nothing(
    new_fleet: Callable[..., Fleet], capsys: pytest.CaptureFixture[str]
) -> None:
    """kill -9 with 20 turns in flight, default settings: all end; no side effect, no finished model call again."""
    fleet = new_fleet()
    first = fleet.start("first")
    fleet.ready()
    turns = [_submit(fleet, number) for number in range(TURNS)]
    fleet.noted("hung", TURNS // 2)
    fleet.noted("linger", TURNS // 2)
    fleet.start("second")
    fleet.ready()

    killed = time.time()
    finished = {(line["prompt"], line["step"]) for line in fleet.ledger("model")}
    first.kill()
    answers = [turn.result(timeout=60) for turn in turns]
    ended = time.time()

    records = [turn.record() for turn in turns]
    resumed = [(record.started_ms or 0) / 1000 - killed for record in records]
    model_calls = Counter((line["prompt"], line["step"]) for line in fleet.ledger("model"))
    repeated_calls = sum(model_calls[step] - 1 for step in finished)
    charges = Counter(line["key"] for line in fleet.ledger("charge"))
    with capsys.disabled():
        print(f"\nkill -9 with {TURNS} turns in flight, default settings: first resumed after {min(resumed):.1f} s, "
              f"all after {max(resumed):.1f} s, all ended after {ended - killed:.1f} s; side effects repeated: "
              f"{charges.total() - len(charges)}; finished model calls repeated: {repeated_calls}")  # fmt: skip
    assert [r.status for r in records] == [TurnStatus.SUCCEEDED] * TURNS
    assert answers == [f"ok: charged {n}" if n % 2 else "ok: lingered" for n in range(TURNS)]
    assert all(r.attempt == 2 and r.crashes == 1 and r.worker and r.worker.startswith("second@") for r in records)
    assert len(charges) == charges.total() == TURNS
    assert repeated_calls == 0
    _check_stream(turns[1])
    assert max(resumed) < 15, "P6 says lease time + 1 s; this is only a bound for a loaded machine"


def _check_stream(turn: Turn) -> None:
    """The new attempt is announced, finished steps are not sent again, and the ids of events grow."""
    events = list(turn.events())
    assert [event.type for event in events] == [
        EventType.STARTED, EventType.TOOL_CALL, EventType.TOOL_RESULT,
        EventType.ATTEMPT_RESET, EventType.TEXT, EventType.ENDED,
    ]  # fmt: skip
    assert events[3].data["valid_through"] == events[2].id
    assert [_cursor(event) for event in events] == sorted(_cursor(event) for event in events)


def _cursor(event: Event) -> tuple[int, ...]:
    return tuple(int(number) for number in event.id.split("-"))
