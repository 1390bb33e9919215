"""State that tools read and change, as part of their turn's one commit."""

from __future__ import annotations

import uuid
from collections.abc import Callable

import pytest

from sessions import Session
from sessions.errors import TurnFailed
from sessions.store.keys import SessionKeys
from tests.support.fleet import Fleet, keys_without_ttl
from tests.support.waiting import wait_until

TOOLS = ["tally", "read_state", "look_up", "charge", "wire"]


@pytest.fixture
def session(fleet: Fleet) -> Session:
    return fleet.session(uuid.uuid4().hex, user_id=f"user-{uuid.uuid4().hex}")


def test_a_tool_changes_state_with_its_turn(session: Session) -> None:
    """Its own change is seen at once by the turn, and by everybody after the commit; `temp:` stays in the turn."""
    session.set_state("n", 10)
    agent = session.Agent(tools=TOOLS)
    said = agent.chat('CALL tally({"key": "n"})\nCALL tally({"key": "temp:t"})\nCALL read_state({})')
    assert "'n': 11" in said or '"n":11' in said.replace(" ", "")
    assert "temp:t" in said
    assert session.get_state() == {"n": 11}


def test_a_turn_that_fails_changes_no_state(session: Session) -> None:
    """All or nothing: the tool ran, but its turn did not succeed."""
    agent = session.Agent(tools=TOOLS)
    with pytest.raises(TurnFailed):
        agent.chat('CALL tally({"key": "n"})\nCALL no_such_tool({})\nFAIL 400 9')
    assert session.get_state() == {}


def test_a_user_s_state_is_changed_once_from_all_sessions(fleet: Fleet, session: Session) -> None:
    """It is in another slot: the commit writes it to an outbox, which is applied exactly once."""
    other = fleet.session(uuid.uuid4().hex, user_id=session.user_id)
    for one in (session, other, session):
        one.Agent(tools=TOOLS).chat('CALL tally({"key": "user:n"})\nCALL tally({"key": "app:sum"})')
    wait_until(lambda: session.get_state("user:n") == 3, description="three turns are counted")
    assert other.get_state("user:n") == 3
    with fleet.server.client() as client:
        both = (f"{session.keys.base}:outbox", f"{other.keys.base}:outbox")
        wait_until(lambda: not client.exists(*both), description="the outboxes are empty")
    assert session.get_state("user:n") == 3


def test_state_survives_a_killed_worker_once(new_fleet: Callable[..., Fleet]) -> None:
    """A change that was journalled before the worker died is made once by the next one, without running its tool."""
    fleet = new_fleet(SESSIONFLEET_LEASE="1")
    fleet.start("a")
    fleet.start("b")
    fleet.ready()
    session = fleet.session("s", user_id="u")
    turn = session.Agent(tools=TOOLS).submit(
        'CALL tally({"key": "n"})\nCALL tally({"key": "user:n"})\nCALL look_up({"query": "x", "seconds": 2})'
    )
    fleet.worker_of_pid(fleet.noted("look_up")[0]["pid"]).kill()
    assert turn.result(timeout=30) == "ok: x found"
    assert len(fleet.ledger("tally")) == 2
    assert session.get_state("n") == 1
    wait_until(lambda: session.get_state("user:n") == 1, description="the user's count is there")
    wait_until(lambda: keys_without_ttl(fleet.server) == [], description="what sent it is gone")


def test_an_effect_that_was_left_behind_is_applied_before_the_next_turn(new_fleet: Callable[..., Fleet]) -> None:
    """A worker that died between commit and effect leaves it in the outbox, where the rescue finds it."""
    fleet = new_fleet()
    fleet.start("a")
    fleet.ready()
    session = fleet.session("s", user_id="u")
    agent = session.Agent(tools=TOOLS)
    agent.chat('CALL tally({"key": "user:n"})')
    wait_until(lambda: session.get_state("user:n") == 1, description="the first effect is applied")
    _put_back(fleet, session.keys)
    wait_until(lambda: session.get_state("user:n") == 8, description="the rescued effect is applied", timeout=15)
    with fleet.server.client() as client:
        wait_until(lambda: not client.exists(f"{session.keys.base}:outbox"), description="the outbox is empty")
        wait_until(
            lambda: client.zscore(f"{session.keys.partition}:wakeups", session.keys.ref) is None,
            description="nobody has to look any more",
        )


def _put_back(fleet: Fleet, keys: SessionKeys) -> None:
    """What a worker leaves that dies right after its commit: an effect, and the session in the index."""
    from sessions.protocol.state_ops import increment_op
    from sessions.store.state import Effect, wide_scope

    effect = Effect(
        "left-behind", wide_scope("default", "u", fleet.settings.partitions), [increment_op("user:n", 7, 0)]
    )
    with fleet.server.client() as client:
        client.rpush(f"{keys.base}:outbox", effect.dump())
        client.zadd(f"{keys.partition}:wakeups", {keys.ref: 1})
