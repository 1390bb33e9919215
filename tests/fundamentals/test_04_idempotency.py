"""An idempotency key makes retries safe: for clients that crash, time out, or click twice."""

from __future__ import annotations

import pytest

from sessions.errors import IdempotencyConflict
from tests.support.fleet import Fleet


def test_the_same_key_is_the_same_turn(fleet: Fleet) -> None:
    """Asked twice, answered once: the second caller gets the first one's turn."""
    agent = fleet.session().Agent()
    first = agent.submit("SAY thank you", idempotency_key="order-7")
    again = agent.submit("SAY thank you", idempotency_key="order-7")
    assert again.id == first.id
    assert again.result(timeout=20) == "thank you"


def test_the_same_key_for_something_else_is_a_mistake(fleet: Fleet) -> None:
    """The same key with another message is refused; the error says which turn has the key."""
    agent = fleet.session().Agent()
    turn = agent.submit("SAY one", idempotency_key="order-7")
    with pytest.raises(IdempotencyConflict, match=turn.id):
        agent.submit("SAY two", idempotency_key="order-7")
