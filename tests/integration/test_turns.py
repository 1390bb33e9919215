"""One conversation through the queue, with real workers."""

from __future__ import annotations

import uuid

from sessions import TurnStatus
from tests.support.fleet import Fleet


def sid() -> str:
    return uuid.uuid4().hex


def test_a_chat_is_answered(fleet: Fleet) -> None:
    """A message goes in, the answer comes out."""
    assert fleet.session(sid()).Agent("A").chat("SAY hello") == "hello"


def test_a_turn_can_be_taken_up_by_its_id(fleet: Fleet) -> None:
    """Another handle with the same id sees the same turn."""
    session = fleet.session(sid())
    turn = session.Agent("A").submit("SAY again")
    assert fleet.session(session.session_id).turn(turn.id).result(timeout=20) == "again"
    assert turn.status is TurnStatus.SUCCEEDED


def test_a_tool_is_called(fleet: Fleet) -> None:
    """The model asks for a tool of the worker's, and answers with its result."""
    agent = fleet.session(sid()).Agent("A", tools=["charge"])
    assert agent.chat('CALL charge({"amount": 3})') == "ok: charged 3"
