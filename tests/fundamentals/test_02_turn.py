"""A turn is one message and everything that follows from it. Once it is accepted it will end, watched or not."""

from __future__ import annotations

import pytest

from sessions import TurnStatus
from sessions.errors import ResultTimeout
from tests.support.fleet import Fleet


def test_a_turn_is_sent_now_and_read_later(fleet: Fleet) -> None:
    """`submit` returns at once. The turn's id is all that another process needs to wait for the answer."""
    session = fleet.session()
    turn = session.Agent().submit("SAY done")

    found = fleet.session(session.session_id).turn(turn.id)
    assert found.result(timeout=20) == "done"
    assert found.status is TurnStatus.SUCCEEDED
    assert found.attempt == 1


def test_to_stop_waiting_does_not_stop_the_turn(fleet: Fleet) -> None:
    """The timeout of `result` limits the wait; `chat` is `submit` and `result` in one."""
    turn = fleet.session().Agent().submit("SLEEP 0.5\nSAY late")
    with pytest.raises(ResultTimeout):
        turn.result(timeout=0.05)
    assert turn.result(timeout=20) == "late"
