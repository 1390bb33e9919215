"""A task is submitted once, however often its run resumes: there is no gap between accepting and journalling."""

from __future__ import annotations

import uuid
from collections.abc import Awaitable, Callable
from typing import TypeVar

import pytest

from sessions import TurnStatus
from sessions.errors import SessionOwnerError
from sessions.protocol.agent import AgentConfig
from sessions.protocol.team import MemberSpec
from tests.support.fleet import Fleet
from tests.support.waiting import wait_until
from workers.teams.tasks import TaskSlot, TaskTurns

T = TypeVar("T")


@pytest.fixture
def turns(fleet: Fleet) -> TaskTurns:
    async def make() -> TaskTurns:
        client = fleet.client
        await client.open()
        return TaskTurns(client.settings, client.stores.scripts, client.stores.redis, client.connection.dispatcher.wake)

    return fleet.client.portal.call(make())


def slot(member: MemberSpec, *, separate: bool = True, user_id: str | None = None) -> TaskSlot:
    return TaskSlot(f"team-x~{uuid.uuid4().hex}", "0", "default", user_id, member, separate)


ALONE = MemberSpec(config=AgentConfig(name="A"))


def call(fleet: Fleet, work: Callable[[], Awaitable[T]]) -> T:
    async def run() -> T:
        return await work()

    return fleet.client.portal.call(run())


def test_a_task_submitted_again_is_the_same_turn(fleet: Fleet, turns: TaskTurns) -> None:
    """A worker that died before it journalled the task leaves no duplicate behind, even if the text has changed."""
    place, mark = slot(ALONE), f"SAY {uuid.uuid4().hex}"
    first = call(fleet, lambda: turns.submit(place, mark, 30))
    again = call(fleet, lambda: turns.submit(place, mark, 20))
    other_words = call(fleet, lambda: turns.submit(place, "SAY other", 20))
    assert first == again == other_words
    assert fleet.session(place.session_id).turn(first).result(timeout=20) == mark.removeprefix("SAY ")
    assert len(fleet.ledger("model", prompt=mark)) == 1


def test_a_task_that_was_accepted_and_not_journalled_is_cancelled_too(fleet: Fleet, turns: TaskTurns) -> None:
    """It is found by its key; one that was never accepted is nothing to cancel."""
    place = slot(ALONE)
    call(fleet, lambda: turns.cancel(place, None))
    first = call(fleet, lambda: turns.submit(place, "SLEEP 60", 30))
    call(fleet, lambda: turns.cancel(place, None))
    turn = fleet.session(place.session_id).turn(first)
    wait_until(lambda: turn.status is TurnStatus.CANCELLED, description="the task is cancelled")


def test_a_lane_is_a_copy_of_its_agents_session_made_once(fleet: Fleet, turns: TaskTurns) -> None:
    """What is said in that session afterwards is not part of it; another user's session is not copied at all."""
    session = fleet.session(uuid.uuid4().hex, user_id="ann")
    session.Agent("A").chat("SAY before")
    place = slot(MemberSpec(config=AgentConfig(name="A"), session=session.session_id), user_id="ann")
    turn = call(fleet, lambda: turns.submit(place, "SAY mine", 30))
    lane = fleet.session(place.session_id, user_id="ann")
    assert lane.turn(turn).result(timeout=20) == "mine"
    session.Agent("A").chat("SAY after")
    assert call(fleet, lambda: turns.submit(place, "SAY mine", 30)) == turn
    assert [m.text for m in lane.history().messages if m.role == "assistant"] == ["before", "mine"]

    stranger = slot(MemberSpec(config=AgentConfig(name="A"), session=session.session_id), user_id="bob")
    with pytest.raises(SessionOwnerError):
        call(fleet, lambda: turns.submit(stranger, "SAY mine", 30))
