"""A worker that dies loses no turn: another one resumes after the last completed step."""

from __future__ import annotations

from collections.abc import Callable

from sessions import EventType
from tests.support.fleet import Fleet


def test_a_turn_survives_its_worker(new_fleet: Callable[..., Fleet]) -> None:
    """kill -9 after the tool: the answer comes all the same, and the tool ran once.

    Each model response and each tool result is journalled as it comes, under a lease of the session. When the lease
    expires, the next worker replays the journal and asks the model only for what is missing.
    """
    fleet = new_fleet(SESSIONFLEET_LEASE="1")
    fleet.start("one")
    fleet.start("two")
    fleet.ready()
    turn = fleet.session().Agent(tools=["charge"]).submit('CALL charge({"amount": 90})\nHANG 1 60')

    (hung,) = fleet.noted("hung")  # the tool has ended, and the model is thinking about its result
    fleet.worker_of_pid(hung["pid"]).kill()

    assert turn.result(timeout=30) == "ok: charged 90"
    assert turn.attempt == 2
    assert len(fleet.ledger("charge")) == 1
    assert EventType.ATTEMPT_RESET in [event.type for event in turn.events()]
