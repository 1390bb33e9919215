"""Checkpoints, context, history, forks, expiry and middleware, on real workers."""

from __future__ import annotations

import uuid
from datetime import datetime

import pytest

from sessions import Session
from sessions.errors import (
    MiddlewareError,
    SessionExists,
    SessionExpired,
    SessionOwnerError,
    StateNotFoundError,
    TurnNotFound,
)
from tests.support.fleet import Fleet
from tests.support.waiting import wait_until


@pytest.fixture
def session(fleet: Fleet) -> Session:
    return fleet.session(uuid.uuid4().hex, user_id="ann")


def test_restoring_what_was_never_saved_says_so(session: Session) -> None:
    """The sample program's `try/except` prints "Starting new session" for exactly this error."""
    with pytest.raises(StateNotFoundError, match=session.session_id):
        session.restore_state()


def test_a_saved_session_is_restored_in_another_handle(session: Session, fleet: Fleet) -> None:
    """Restoring attaches to the live session: later state stays, and the agents keep their configuration."""
    session.Agent("Writer", instructions="write").chat("SAY one")
    assert session.save_state({"step": 1}) == 1
    session.set_state("step", 2)
    again = fleet.session(session.session_id)
    assert again.restore_state() == {"step": 2}
    assert again.get_context()["agents"] == ["Writer"]
    assert again.Agent("Writer").chat("SAY two") == "two"


def test_a_checkpoint_rewinds_state_and_never_history(session: Session) -> None:
    """`restore_state(checkpoint=N)` brings back the state of that moment; the transcript stays whole."""
    session.save_state({"a": 1, "list": [1], "empty": {}})
    session.Agent().chat("SAY hello")
    session.update_state({"a": 2, "b": 3})
    session.save_state()
    assert session.restore_state(checkpoint=1) == {"a": 1, "list": [1], "empty": {}}
    assert session.get_state() == {"a": 1, "list": [1], "empty": {}}
    assert session.get_context()["message_count"] == 2
    with pytest.raises(StateNotFoundError, match=r"no checkpoint 9.*there are \[1, 2\]"):
        session.restore_state(checkpoint=9)


def test_the_context_counts_messages(session: Session) -> None:
    """Two messages per plain turn, the session's owner, when it began, what it cost."""
    agent = session.Agent("Helper")
    agent.chat("SAY 1")
    agent.chat("SAY 2")
    context = session.get_context()
    assert (context["session_id"], context["user_id"]) == (session.session_id, "ann")
    assert isinstance(context["created_at"], datetime)
    assert (context["message_count"], context["turns"], context["open_turns"]) == (4, 2, 0)
    assert context["requests"] == 2
    assert context["input_tokens"] > 0


def test_a_query_gets_what_was_said_about_it(session: Session) -> None:
    """`get_context(query)` is prompt text: the messages that fit."""
    agent = session.Agent("Helper")
    agent.chat("I prefer green tea\nSAY noted")
    agent.chat("The weather is grey\nSAY indeed")
    text = session.get_context("preferences about tea")
    assert "green tea" in text
    assert "weather" not in text


def test_history_is_read_by_pages(session: Session) -> None:
    """Oldest or newest turns first; each message once; tools are seen."""
    agent = session.Agent("Helper", tools=["charge"])
    for number in range(5):
        agent.chat(f"SAY {number}")
    agent.chat('CALL charge({"amount": 1})')
    first = session.history(limit=4)
    rest = session.history(limit=4, cursor=first.cursor)
    said = [m.text for m in [*first, *rest] if m.role == "assistant" and m.text]
    assert said == ["0", "1", "2", "3", "4", "ok: charged 1"]
    assert rest.cursor is None
    newest = session.history(limit=1, order="newest")
    assert [(m.role, m.tool) for m in newest] == [
        ("user", None),
        ("assistant", "charge"),
        ("tool", "charge"),
        ("assistant", None),
    ]
    assert newest.messages[1].args == {"amount": 1}


def test_agents_of_a_session_share_its_transcript(session: Session) -> None:
    """The writer sees what the researcher said, quoted by name; each message is marked with its agent."""
    session.Agent("Researcher", instructions="research", model="offline").chat("My topic is otters")
    article = session.Agent("Writer", instructions="write", model="offline").chat("What is my topic?")
    assert "otters" in article
    assert [m.agent for m in session.history()] == ["Researcher", "Researcher", "Writer", "Writer"]


def test_an_agent_is_known_by_its_name_in_any_process(session: Session, fleet: Fleet) -> None:
    """A changed configuration takes effect with the next accepted turn."""
    session.Agent("Worker", tools=["charge"]).chat("SAY hi")
    again = fleet.session(session.session_id).Agent("Worker")
    assert again.chat('CALL charge({"amount": 2})') == "ok: charged 2"


def test_a_fork_shares_the_past_and_nothing_else(session: Session) -> None:
    """Both continue separately from any turn."""
    agent = session.Agent("Helper", instructions="help")
    first = agent.submit("SAY one")
    first.result(timeout=20)
    agent.chat("SAY two")
    session.set_state("k", 1)
    fork = session.fork(at=first.id)
    fork.set_state("k", 2)
    fork.Agent("Helper").chat("SAY three")
    assert [m.text for m in fork.history() if m.role == "assistant"] == ["one", "three"]
    assert [m.text for m in session.history() if m.role == "assistant"] == ["one", "two"]
    assert session.get_state("k") == 1
    assert fork.get_context()["user_id"] == "ann"
    with pytest.raises(SessionExists):
        session.fork(fork.session_id)
    with pytest.raises(TurnNotFound):
        session.fork(at=f"{session.session_id}~{'0' * 32}")


def test_a_session_expires_after_its_last_use(fleet: Fleet) -> None:
    """While a turn is open nothing expires; afterwards the whole session does, and says so when restored."""
    session = fleet.session(uuid.uuid4().hex, ttl=1.5)
    assert not session.is_expired()
    turn = session.Agent().submit("SLEEP 1.7\nSAY slow")
    assert session.time_to_expiry() is None
    assert turn.result(timeout=20) == "slow"
    assert 0 < (session.time_to_expiry() or 0) <= 1.5
    session.save_state({"x": 1})
    wait_until(session.is_expired, description="the session has expired")
    with pytest.raises(SessionExpired):
        session.restore_state()
    session.Agent().chat("SAY fresh")
    assert session.get_context()["message_count"] == 2


def test_middleware_sees_and_changes_answers(fleet: Fleet) -> None:
    """In order; None keeps the answer; an exception is ours, and the turn stays committed."""
    seen: list[tuple[str, str]] = []

    def log(message: str, response: str) -> None:
        seen.append((message, response))

    async def shout(_: str, response: str) -> str:
        return response.upper()

    session = fleet.session(uuid.uuid4().hex, middleware=[log, shout])
    assert session.Agent().chat("SAY hi") == "HI"
    assert seen == [("SAY hi", "hi")]

    def fail(_: str, __: str) -> None:
        raise KeyError("x")

    broken = fleet.session(session.session_id, middleware=[fail])
    with pytest.raises(MiddlewareError, match="fail"):
        broken.Agent().chat("SAY again")
    assert session.get_context()["message_count"] == 4


def test_records_are_their_owner_s(session: Session, fleet: Fleet) -> None:
    """Another user reads nothing of a session."""
    session.Agent().chat("SAY secret")
    eve = fleet.session(session.session_id, user_id="eve")
    for look in (eve.get_context, eve.history, eve.fork, eve.restore_state, eve.save_state, eve.delete):
        with pytest.raises(SessionOwnerError):
            look()
