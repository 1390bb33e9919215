"""The turns of one session run one at a time, in the order in which they were accepted."""

from __future__ import annotations

from itertools import pairwise

from tests.support.fleet import Fleet
from tests.support.waiting import wait_until


def test_turns_of_one_session_never_overlap(fleet: Fleet) -> None:
    """Even with two workers, each turn begins when the one before it has ended."""
    agent = fleet.session().Agent()
    turns = [agent.submit(f"SAY {number}") for number in range(5)]
    assert [turn.result(timeout=20) for turn in turns] == ["0", "1", "2", "3", "4"]

    for earlier, later in pairwise(turn.record() for turn in turns):
        assert earlier.ended_ms <= later.started_ms


def test_turns_of_different_sessions_run_side_by_side(fleet: Fleet) -> None:
    """One conversation never waits for another."""
    slow = [fleet.session().Agent().submit("SLEEP 30") for _ in range(3)]
    wait_until(lambda: all(turn.attempt == 1 for turn in slow), description="all three run at once")
    assert fleet.session().Agent().chat("SAY me first") == "me first"
    for turn in slow:
        turn.cancel()
