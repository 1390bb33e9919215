"""Cancel ends a turn, whether it is running or still queued. The session continues."""

from __future__ import annotations

import pytest

from sessions import TurnStatus
from sessions.errors import TurnCancelled
from tests.support.fleet import Fleet
from tests.support.waiting import wait_until


def test_a_cancelled_turn_ends_and_its_question_stays(fleet: Fleet) -> None:
    """Its worker stops the model request. The user's message stays; a turn that never began leaves nothing."""
    session = fleet.session()
    running = session.Agent().submit("SLEEP 30")
    queued = session.Agent().submit("SAY never mind")
    wait_until(lambda: running.status is TurnStatus.RUNNING, description="the first turn runs")
    queued.cancel()
    running.cancel()
    for turn in (running, queued):
        with pytest.raises(TurnCancelled):
            turn.result(timeout=20)

    assert session.Agent().chat("SAY on we go") == "on we go"
    assert [message.text for message in session.history()] == ["SLEEP 30", "SAY on we go", "on we go"]
    assert [message.incomplete for message in session.history()] == ["cancelled", "", ""]
