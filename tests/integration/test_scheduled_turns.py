"""Turns that begin later, on real workers: from Python, a remote session, REST and the command line."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from sessions import Session, TurnStatus
from sessions.errors import BadRequest, ResultTimeout, SessionOwnerError, TurnCancelled, TurnNotFound
from tests.support.fleet import Fleet
from tests.support.gateway import GatewayProcess
from tests.support.http import good, problem

HOUR = 3600


@pytest.fixture(params=["local", "remote"])
def session(request: pytest.FixtureRequest, fleet: Fleet) -> Session:
    """A session in this process, and one at a gateway."""
    if request.param == "local":
        return fleet.session(user_id="ann")
    gateway: GatewayProcess = request.getfixturevalue("gateway_process")
    return Session(uuid.uuid4().hex, user_id="ann", agent_url=f"{gateway.url}/agent")


@pytest.fixture(scope="module")
def http(gateway_process: GatewayProcess) -> Iterator[httpx.Client]:
    with gateway_process.client() as client:
        yield client


def test_a_turn_in_two_seconds(session: Session) -> None:
    """It is accepted now and begins after them; a message sent meanwhile does not wait for it."""
    agent = session.Agent("A", instructions="x")
    scheduled = agent.submit("SAY later", not_before=2)
    assert agent.chat("SAY now", timeout=30) == "now"
    assert scheduled.result(timeout=30) == "later"
    record = scheduled.record()
    assert record.not_before_ms is not None
    assert record.started_ms is not None
    assert record.not_before_ms >= record.accepted_ms + 2_000
    assert record.started_ms >= record.not_before_ms
    assert [m.text for m in session.history() if m.role == "assistant"] == ["now", "later"]


def test_chat_waits_for_a_scheduled_turn(session: Session) -> None:
    """The time until it begins is not part of its timeout."""
    assert session.Agent("A", instructions="x").chat("SAY late", not_before=1, timeout=60) == "late"


def test_it_can_be_looked_at_and_cancelled(session: Session) -> None:
    """It is queued, a wait says for when it is scheduled, and a cancel ends it at once."""
    at = datetime.now(UTC) + timedelta(days=3)
    turn = session.Agent("A", instructions="x").submit("SAY never", not_before=at)
    assert (turn.status, turn.attempt) == (TurnStatus.QUEUED, 0)
    assert abs((turn.record().not_before_ms or 0) - at.timestamp() * 1000) < 2
    with pytest.raises(ResultTimeout, match=f"scheduled for {at:%Y-%m-%d}"):
        turn.result(timeout=0.2)
    assert turn.cancel() is TurnStatus.CANCELLED
    with pytest.raises(TurnCancelled):
        turn.result(timeout=10)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"not_before": datetime(2030, 1, 1)}, "has no time zone"),
        ({"not_before": datetime(2999, 1, 1, tzinfo=UTC)}, "366 days"),
        ({"not_before": 400 * 86400.0}, "366 days"),
        ({"not_before": -1}, "seconds from now"),
        ({"not_before": True}, "seconds from now"),
        ({"not_before": float("nan")}, "seconds from now"),
        ({"not_before": "tomorrow"}, "seconds from now"),
        ({"not_before": 5, "policy": "steer"}, "use 'enqueue'"),
    ],
)
def test_what_cannot_be_scheduled_is_refused(session: Session, options: dict[str, Any], says: str) -> None:
    """Nothing is accepted."""
    with pytest.raises(BadRequest, match=says):
        session.Agent("A", instructions="x").submit("SAY x", **options)


def test_a_sessions_policy_does_not_apply_to_it(fleet: Fleet) -> None:
    """A session that rejects messages while it is busy still takes one for later."""
    session = fleet.session(policy="reject")
    agent = session.Agent("A", instructions="x")
    agent.submit("SAY later", not_before=HOUR)
    assert agent.chat("SAY now", timeout=30) == "now"
    assert session.delete()["open_turns"] == 1


def test_it_is_its_owners(fleet: Fleet) -> None:
    """Another user sees nothing of it; deleting the session deletes it."""
    mine = fleet.session(user_id="ann")
    turn = mine.Agent("A", instructions="x").submit("SAY x", not_before=HOUR)
    with pytest.raises(SessionOwnerError):
        fleet.session(mine.session_id, user_id="bob").turn(turn.id)
    mine.delete()
    with pytest.raises(TurnNotFound):
        turn.record()


def test_over_rest(http: httpx.Client) -> None:
    """As seconds or as a time with a zone; the turn shows when it begins."""
    path = f"/v1/sessions/{uuid.uuid4().hex}/turns"
    agent = {"name": "A", "instructions": "x"}
    soon = good(http.post(path, json={"message": "SAY soon", "agent": agent, "not_before": 1}), 202)
    assert soon["not_before"] > soon["accepted_at"]
    far = {"message": "SAY x", "agent": agent, "not_before": "2999-01-01T00:00:00Z"}
    assert "366 days" in problem(http.post(path, json=far), 422, "BadRequest")["detail"]
    for bad in ("2030-01-01T00:00:00", "tomorrow", -1, 1e12, [1]):
        assert http.post(path, json={**far, "not_before": bad}).status_code == 422
    at = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
    later = good(http.post(path, json={"message": "SAY x", "agent": agent, "not_before": at}), 202)
    assert later["status"] == "queued"
    shown = http.get(f"{path}/{soon['id']}", headers={"Prefer": "wait=20"})
    assert good(shown)["result"] == "soon"
    assert good(http.post(f"{path}/{later['id']}/cancel"), 202)["status"] == "cancelled"
