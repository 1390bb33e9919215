"""A turn can wait for a person, for days if need be, without occupying a worker."""

from __future__ import annotations

from sessions import TurnStatus
from tests.support.fleet import Fleet
from tests.support.waiting import wait_until


def test_a_person_decides_whether_a_tool_runs(fleet: Fleet) -> None:
    """`refund` is marked `@tool(approval=True)`. Any client may answer, and may change the call's arguments."""
    session = fleet.session()
    turn = session.Agent(tools=["refund"]).submit('CALL refund({"amount": 90})')
    wait_until(lambda: turn.status is TurnStatus.WAITING, description="the turn waits for approval")

    elsewhere = fleet.session(session.session_id).turn(turn.id)
    (call,) = elsewhere.approvals()
    assert (call.tool, call.args) == ("refund", {"amount": 90})
    elsewhere.approve(call.call_id, args={"amount": 60})
    assert turn.result(timeout=20) == "ok: refunded 60"
