"""A tool is a function that the model may call. The workers have it; a session names it."""

from __future__ import annotations

import uuid

import pytest

from sessions import EventType
from sessions.errors import UnknownTool
from tests.support.fleet import Fleet


def test_a_tool_runs_on_the_worker(fleet: Fleet) -> None:
    """`look_up` is marked `@tool` in a module that the workers import; the call and its result are events."""
    order = uuid.uuid4().hex
    turn = fleet.session().Agent(tools=["look_up"]).submit(f'CALL look_up({{"query": "{order}"}})')
    assert turn.result(timeout=20) == f"ok: {order} found"

    kinds = [event.type for event in turn.events()]
    assert kinds == [EventType.STARTED, EventType.TOOL_CALL, EventType.TOOL_RESULT, EventType.TEXT, EventType.ENDED]
    (ran,) = fleet.ledger("look_up", query=order)
    assert ran["pid"] in [worker.pid for worker in fleet.workers]


def test_a_tool_that_no_worker_has_is_refused_at_once(fleet: Fleet) -> None:
    """Nothing is accepted, and the error lists the known tools."""
    with pytest.raises(UnknownTool, match="look_up"):
        fleet.session().Agent(tools=["lok_up"]).submit("SAY hello")
