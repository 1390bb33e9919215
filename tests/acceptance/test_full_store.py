"""A store at its maxmemory: new work is refused, accepted work ends, and with room everything continues."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from sessions import TurnStatus, errors
from tests.support.fleet import Fleet
from tests.support.waiting import wait_until


def _fill(fleet: Fleet, *, full: bool) -> None:
    """Set the limit of the store's memory below its current use, or remove it."""
    with fleet.server.client() as client:
        used = client.info("memory")["used_memory"]
        client.config_set("maxmemory", used // 2 if full else 0)


def test_a_full_store_refuses_new_turns_ends_those_it_has_and_goes_on_with_room(
    new_fleet: Callable[..., Fleet], capsys: pytest.CaptureFixture[str]
) -> None:
    """`StoreFull`, and nothing is changed; running, queued and pausing turns end at maxmemory all the same."""
    fleet = new_fleet(SESSIONFLEET_MODEL_BACKOFF="2")
    fleet.start("worker")
    fleet.ready()
    busy = fleet.session("busy").Agent("A", tools=["linger", "charge"])
    running = busy.submit('CALL linger({"seconds": 2})\nCALL charge({"amount": 1})')
    queued = busy.submit("SAY queued")
    pausing = fleet.session("pausing").Agent("A").submit("FAIL 503 1\nSAY tried again")
    fleet.noted("linger")
    wait_until(lambda: pausing.record().retries == 1, description="a turn pauses")

    _fill(fleet, full=True)
    began = time.monotonic()
    refused = 0
    while time.monotonic() - began < 1.5 or not refused:  # by the script at first, by the high-water mark later
        with pytest.raises(errors.StoreFull, match="memory"):
            fleet.session("new").Agent("A").chat("SAY nothing")
        refused += 1
    assert running.result(timeout=20) == "ok: charged 1"
    assert queued.result(timeout=20) == "queued"
    assert pausing.result(timeout=20) == "tried again"
    took = time.monotonic() - began
    with fleet.server.client() as client:
        assert not list(client.scan_iter(f"{fleet.client.keys('new').base}:*", count=1000))
        assert client.info("memory")["used_memory"] > client.info("memory")["maxmemory"]

    _fill(fleet, full=False)
    fresh = wait_until(lambda: _chat_when_there_is_room(fleet), description="turns are accepted again")
    assert fresh == "there is room"
    assert [turn.status for turn in (running, queued, pausing)] == [TurnStatus.SUCCEEDED] * 3
    assert len(fleet.ledger("charge")) == 1
    with capsys.disabled():
        print(f"\nfull store: {refused} new turns refused with StoreFull; running, queued and pausing turns ended "
              f"{took:.1f} s after it was full")  # fmt: skip


def test_a_full_store_can_be_read_by_a_client_that_comes_only_now(new_fleet: Callable[..., Fleet]) -> None:
    """A new process reads results, and cancels, although nothing that needs room can be written."""
    fleet = new_fleet()
    session = fleet.session("waits")
    turn = session.Agent("A").submit("SAY never")
    fleet.client.portal.call(fleet.client.aclose())  # the next use reconnects, as a new process would
    _fill(fleet, full=True)
    assert fleet.session("waits").turn(turn.id).status is TurnStatus.QUEUED
    assert turn.cancel() is TurnStatus.CANCELLED
    with pytest.raises(errors.TurnCancelled):
        turn.result(timeout=20)


def _chat_when_there_is_room(fleet: Fleet) -> str | None:
    try:
        return str(fleet.session("new").Agent("A").chat("SAY there is room"))
    except errors.StoreFull:
        return None
