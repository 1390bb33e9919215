"""What gets lost while thousands are waiting: backlog is not loss, and loss is not hidden by backlog."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from sessions import Turn
from sessions.store.keys import rota_key
from tests.support.broker import queue_key
from tests.support.fleet import Fleet
from tests.support.waiting import wait_until

BACKLOG = 5_000
PLACE = 500
AT_ONCE = 50


async def _submit_all(fleet: Fleet) -> dict[str, Turn]:
    """A turn in each of thousands of sessions, by their references, while no worker is running."""
    turns: dict[str, Turn] = {}
    for start in range(0, BACKLOG, AT_ONCE):
        sessions = [fleet.session(f"s{number:04}") for number in range(start, start + AT_ONCE)]
        accepted = await asyncio.gather(*(session.Agent("A").asubmit("SAY found") for session in sessions))
        turns.update({session.keys.ref: turn for session, turn in zip(sessions, accepted, strict=True)})
    return turns


def _lose_wake(fleet: Fleet, place: int) -> None:
    """Remove one wake-up from the broker's list, counted from the end that is read."""
    with fleet.server.client() as client:
        message = client.lindex(queue_key("turns"), -1 - place)
        assert client.lrem(queue_key("turns"), 1, message) == 1


def _lose_place(fleet: Fleet, place: int) -> str:
    """Remove one session from the rota, as a client or worker that dies in between does; returns its reference."""
    with fleet.server.client() as client:
        line = f"{rota_key('turns')}:waiting~default"
        assert client.zcard(line) == BACKLOG
        ref = client.zrange(line, place, place)[0]
        assert client.zrem(line, ref) == 1
        return ref.decode()


def test_a_place_lost_in_a_backlog_is_found_at_once_and_no_backlog_is_taken_for_a_loss(
    new_fleet: Callable[..., Fleet], capsys: pytest.CaptureFixture[str]
) -> None:
    """5,000 turns wait; one wake-up is lost, and one session's place: its turn runs long before the rota is empty."""
    fleet = new_fleet(SESSIONFLEET_CONNECT_TIMEOUT="20")  # a busy machine may publish a wake-up late: none is missing
    turns = fleet.client.portal.call(_submit_all(fleet))
    with fleet.server.client() as client:
        assert client.llen(queue_key("turns")) == BACKLOG
    _lose_wake(fleet, PLACE)
    ref = _lose_place(fleet, BACKLOG - PLACE)
    worker = fleet.start("late")
    fleet.ready()
    assert turns[ref].result(timeout=120) == "found"
    with fleet.server.client() as client:
        left = client.zcard(f"{rota_key('turns')}:waiting~default")
    # The session is entered first, and a slot may take it before the rescue logs that it publishes a wake-up for it.
    wait_until(lambda: f" rescued session={ref!r}" in worker.log, description="the rescue says that it found the place")
    rescued = worker.log.count(" rescued session=")
    with capsys.disabled():
        print(f"\nbacklog of {BACKLOG}: the lost place was found with {left} still waiting; {rescued} wake-ups "
              "published again")  # fmt: skip
    assert left > PLACE, "no sooner than without its loss"
    assert rescued < BACKLOG / 100, "a backlog was taken for loss"
