"""A wake-up that got lost while thousands are waiting: backlog is not loss, and loss is not hidden by backlog."""

from __future__ import annotations

import asyncio
import base64
import json
import time
from collections.abc import Callable

import pytest

from sessions import Turn
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


def _lose_wake(fleet: Fleet, place: int) -> str:
    """Remove one wake-up from the broker's list, counted from the end that is read; returns whose it was."""
    with fleet.server.client() as client:
        assert client.llen(queue_key("turns")) == BACKLOG
        message = client.lindex(queue_key("turns"), -1 - place)
        assert client.lrem(queue_key("turns"), 1, message) == 1
    arguments = json.loads(base64.b64decode(json.loads(message)["body"]))[0]
    return str(arguments[0])


def test_a_wake_lost_behind_a_backlog_is_found_when_the_queue_has_passed_its_place(
    new_fleet: Callable[..., Fleet], capsys: pytest.CaptureFixture[str]
) -> None:
    """5,000 turns wait and one wake-up is lost: its turn runs long before the queue is empty."""
    fleet = new_fleet(SESSIONFLEET_CONNECT_TIMEOUT="20")  # a busy machine may publish a wake-up late: none is missing
    turns = fleet.client.portal.call(_submit_all(fleet))
    ref = _lose_wake(fleet, PLACE)
    lost = turns[ref]
    worker = fleet.start("late")
    fleet.ready()
    with fleet.server.client() as broker:
        wait_until(
            lambda: broker.llen(queue_key("turns")) < BACKLOG - PLACE - 1, description="its place is passed", timeout=60
        )
        passed = time.monotonic()
        assert lost.result(timeout=60) == "found"
        waited, left = time.monotonic() - passed, broker.llen(queue_key("turns"))
    assert f" rescued session={ref!r}" in worker.log, "its wake-up came after all"
    rescued = worker.log.count(" rescued session=")
    with capsys.disabled():
        print(f"\nbacklog of {BACKLOG}: the wake lost at place {PLACE} was found {waited:.1f} s after the queue had "
              f"passed it, with {left} still waiting; {rescued} wake-ups published again")  # fmt: skip
    assert left > 0, "the queue was empty by then: found, but no sooner than anything else"
    assert rescued < BACKLOG / 20, "a backlog was taken for loss"
