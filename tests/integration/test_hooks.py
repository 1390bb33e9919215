"""Hooks of the worker: what they make of messages, results and answers is what is kept."""

from __future__ import annotations

import json
import uuid

import pytest

from sessions import EventType
from sessions.errors import TurnRefused, UnknownHooks
from tests.support.fleet import Fleet


def test_what_is_redacted_is_nowhere_but_in_the_request(fleet: Fleet) -> None:
    """Not in the answer, the events, the history or the journal's successor; streamed answers come in one piece."""
    session = fleet.session(uuid.uuid4().hex)
    agent = session.Agent(hooks=["redact"], tools=["look_up"])
    turn = agent.submit('CALL look_up({"query": "x4711"})\nSAY pin is 4711', stream=True)
    assert turn.result(timeout=20) == "pin is ****"
    events = list(turn.events())
    assert "4711" not in json.dumps([event.data for event in events])
    assert [event.data["text"] for event in events if event.type is EventType.TEXT] == ["pin is ****"]
    assert not any(event.text for event in events)
    assert "4711" not in " ".join(f"{m.text} {m.args}" for m in session.history())


def test_a_policy_refuses_a_turn(fleet: Fleet) -> None:
    """The turn fails with the policy's words; the model is not asked; the session continues."""
    agent = fleet.session(uuid.uuid4().hex).Agent("Clerk2", hooks=["policy"])
    with pytest.raises(TurnRefused, match="not allowed for Clerk2"):
        agent.chat("something forbidden")
    assert agent.chat("SAY fine") == "fine"


def test_unknown_hooks_are_refused_at_once(fleet: Fleet) -> None:
    """Nothing is accepted that the workers would run without its policy."""
    with pytest.raises(UnknownHooks, match="nohooks"):
        fleet.session(uuid.uuid4().hex).Agent(hooks=["nohooks"]).chat("hi")
