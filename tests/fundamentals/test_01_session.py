"""A session is one conversation. It is stored in Redis, not in the process that uses it."""

from __future__ import annotations

from sessions import Session
from tests.support.fleet import Fleet


def test_a_session_keeps_its_conversation(fleet: Fleet) -> None:
    """Any process that opens it again by its id sees the conversation so far."""
    session = Session("lesson-1", user_id="alice", settings=fleet.settings)
    assistant = session.Agent("Assistant", instructions="You are helpful")
    assert assistant.chat("SAY Hello Alice!") == "Hello Alice!"

    later = Session("lesson-1", settings=fleet.settings)
    assert [(m.role, m.text) for m in later.history()] == [
        ("user", "SAY Hello Alice!"),
        ("assistant", "Hello Alice!"),
    ]


def test_sessions_know_nothing_of_each_other(fleet: Fleet) -> None:
    """Another id is another conversation; without an id, a new one is generated."""
    one, other = fleet.session(), fleet.session()
    one.Agent().chat("SAY a secret")
    assert one.session_id != other.session_id
    assert list(other.history()) == []
