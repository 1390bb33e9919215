"""What a new message does to a busy session, on two real workers."""

from __future__ import annotations

import uuid
from collections.abc import Callable

import pytest

from sessions import Session, Turn
from sessions.errors import BadRequest, SessionBusy, TurnCancelled
from sessions.protocol.event import EventType
from tests.support.fleet import Fleet
from tests.support.waiting import wait_until


def tag() -> str:
    return uuid.uuid4().hex[:8]


def said(session: Session) -> list[tuple[str, str]]:
    return [(m.role, m.text) for m in session.history(limit=100)]


def noted(fleet: Fleet, kind: str, mark: str, count: int = 1) -> None:
    """Wait until models or tools have logged this many lines with this mark."""

    def look() -> bool:
        return sum(mark in str(line) for line in fleet.ledger(kind)) >= count

    wait_until(look, description=f"{count} {kind} with {mark}", timeout=30)


def test_an_interrupt_keeps_what_was_finished(fleet: Fleet) -> None:
    """A tool's result stays in the history, a call cut short gets a return that says so, and the next turn runs."""
    session, mark = fleet.session(), tag()
    agent = session.Agent("A", tools=["look_up"])
    running = agent.submit(
        f'CALL look_up({{"query": "{mark}"}})\nCALL look_up({{"query": "slow {mark}", "seconds": 60}})\nSAY never'
    )
    queued = agent.submit("SAY queued")
    noted(fleet, "look_up", f"slow {mark}")
    assert agent.chat("SAY instead", policy="interrupt", timeout=30) == "instead"
    for turn in (running, queued):
        with pytest.raises(TurnCancelled):
            turn.result(timeout=10)
    lines = said(session)
    assert ("tool", f"{mark} found") in lines
    assert any(role == "tool" and "turn ended" in text for role, text in lines)
    assert lines[-1] == ("assistant", "instead")
    assert not any("queued" in text for _, text in lines)
    assert agent.chat("SAY and on") == "and on"


def test_a_rollback_leaves_nothing(fleet: Fleet) -> None:
    """The running turn is removed from the session."""
    session, mark = fleet.session(policy="rollback"), tag()
    agent = session.Agent("A", tools=["look_up"])
    running = agent.submit(f'CALL look_up({{"query": "{mark}"}})\nHANG 1 60')
    noted(fleet, "hung", mark)
    assert agent.chat("SAY instead", timeout=30) == "instead"
    with pytest.raises(TurnCancelled):
        running.result(timeout=10)
    assert said(session) == [("user", "SAY instead"), ("assistant", "instead")]


def test_reject_refuses_at_once(fleet: Fleet) -> None:
    """A busy session is an error only for callers that ask for one."""
    session, mark = fleet.session(), tag()
    agent = session.Agent("A")
    running = agent.submit(f"SLEEP 30\nSAY {mark}")
    with pytest.raises(SessionBusy, match="reject"):
        agent.chat("SAY no", policy="reject")
    with pytest.raises(BadRequest, match="'steer'"):
        agent.chat("SAY no", policy="other")
    running.cancel()


def test_steering_joins_a_turn_at_work(fleet: Fleet) -> None:
    """The message comes before the next model call, is seen in the stream, and is the same turn."""
    session, mark = fleet.session(), tag()
    agent = session.Agent("A", tools=["look_up"])
    running = agent.submit(f'CALL look_up({{"query": "{mark}", "seconds": 2}})\nSAY first')
    noted(fleet, "look_up", mark)
    steered = agent.submit(f"SAY steered {mark}", policy="steer")
    assert isinstance(steered, Turn)
    assert steered.id == running.id
    assert running.result(timeout=30) == f"steered {mark}"
    events = list(running.events())
    assert [e.data["text"] for e in events if e.type is EventType.STEERED] == [f"SAY steered {mark}"]
    assert ("user", f"SAY steered {mark}") in said(session)
    assert session.get_context()["turns"] == 1


def test_steering_at_the_last_step_brings_one_more(fleet: Fleet) -> None:
    """The model was writing its answer when the message came: it is asked again, with both before it."""
    session, mark = fleet.session(), tag()
    agent = session.Agent("A")
    running = agent.submit(f"SLEEP 2\nSAY first {mark}")
    noted(fleet, "model_started", mark)
    assert agent.chat(f"SAY second {mark}", policy="steer", timeout=30) == f"second {mark}"
    assert running.result(timeout=20) == f"second {mark}"
    assert [text for role, text in said(session) if role == "assistant"] == [f"first {mark}", f"second {mark}"]


def test_steering_an_idle_session_is_a_turn(fleet: Fleet) -> None:
    """With no turn to join, the message is submitted like any other."""
    assert fleet.session(policy="steer").Agent("A").chat("SAY alone", timeout=30) == "alone"


def test_steering_survives_a_crash(new_fleet: Callable[..., Fleet]) -> None:
    """Consumed, then kill -9: the next worker sees it at the same place, and pays for nothing twice."""
    fleet = new_fleet(SESSIONFLEET_LEASE="1")
    workers = {name: fleet.start(name) for name in ("one", "two")}
    fleet.ready()
    session, mark = fleet.session(), tag()
    agent = session.Agent("A", tools=["look_up"])
    running = agent.submit(f'CALL look_up({{"query": "{mark}", "seconds": 1.5}})\nSAY first')
    noted(fleet, "look_up", mark)
    agent.submit(f"HANG 0 60\nSAY steered {mark}", policy="steer", idempotency_key="k")
    agent.submit(f"HANG 0 60\nSAY steered {mark}", policy="steer", idempotency_key="k")
    noted(fleet, "hung", f"steered {mark}")
    worker = running.record().worker
    assert worker is not None
    workers[worker.partition("@")[0]].kill()
    assert running.result(timeout=40) == f"steered {mark}"
    assert len(fleet.ledger("look_up")) == 1
    events = [e for e in running.events() if e.type is EventType.STEERED]
    assert len(events) == 1
    assert [text for role, text in said(session) if role == "user"].count(f"HANG 0 60\nSAY steered {mark}") == 1
