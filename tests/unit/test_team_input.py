"""Teams that cannot work are refused when they are made, each with its own clear error."""

from __future__ import annotations

from typing import Any

import pytest

from broker_config.settings import Settings
from sessions import Agent, Agents, AgentTeam, Session, Task, TeamRun
from sessions.errors import BadRequest, InvalidMessage, InvalidTurnId, MessageTooLarge, UnknownAgent

# There is no server: a test that reached the store would fail.
NOWHERE = Settings(redis_url="redis://127.0.0.1:1/0")  # type: ignore[call-arg]
A, B = Agent("A"), Agent("B")


def circle() -> list[Task]:
    first, second = Task("one", agent=A, name="first"), Task("two", agent=A, name="second")
    first.context, second.context = (second,), (first,)
    return [first, second]


ONE = Task("one", agent=A)


@pytest.mark.parametrize(
    ("agents", "tasks", "options", "said"),
    [
        ([], [ONE], {}, "at least one Agent"),
        ([A], [], {}, "at least one Task"),
        ([A], ["one"], {}, r"Task\(description=\.\.\., agent=\.\.\.\)"),
        ([A, "B"], [ONE], {}, "use Agents"),
        ([A, Agent("A")], [ONE], {}, "two agents of the team are named 'A'"),
        ([A], [ONE, ONE], {}, "in tasks= twice"),
        ([A], [Task("1", name="x"), Task("2", name="x")], {}, "two tasks of the team are named 'x'"),
        ([A, B], [Task("one")], {}, "has no agent"),
        ([A], [Task("one", context=[ONE])], {}, "not one of the team's tasks"),
        ([A], [Task("one", context=["nobody"])], {}, "'nobody' in its context"),
        ([A], [Task("two", context=["later"]), Task("one", name="later")], {}, "comes later in the list"),
        ([A], circle(), {"process": "parallel"}, "'first', 'second' wait for each other in a cycle"),
        ([A], [ONE], {"process": "swarm"}, "'sequential', 'parallel', 'hierarchical'"),
        ([A], [ONE], {"manager_model": "x"}, 'use process="hierarchical"'),
        ([A], [ONE], {"process": "hierarchical", "manager_model": "x", "manager": B}, "not both"),
        ([A], [ONE], {"process": "hierarchical", "manager": "x"}, "use an Agent"),
        ([A], [ONE], {"queue": "a b"}, "queue 'a b'"),
        ([A], [ONE], {"user_id": ""}, "user_id"),
    ],
)
def test_a_team_that_cannot_work_is_refused(agents: Any, tasks: Any, options: dict[str, Any], said: str) -> None:
    """It raises BadRequest before anything is sent."""
    with pytest.raises(BadRequest, match=said):
        AgentTeam(agents, tasks, **options)


@pytest.mark.parametrize("agent", [B, "B"])
def test_a_task_for_somebody_outside_the_team_is_refused(agent: Any) -> None:
    """It raises UnknownAgent, which lists the agents of the team."""
    with pytest.raises(UnknownAgent, match=r"'B', which is not in the team \('A'\)"):
        AgentTeam([A], [Task("one", agent=agent)])


def test_agents_of_two_users_make_no_team() -> None:
    """What one user said must not reach the other's session (P8)."""
    agents = [Session(f"s-{user}", user, settings=NOWHERE).Agent(user) for user in ("ann", "bob")]
    with pytest.raises(BadRequest, match="'ann', 'bob'"):
        AgentTeam(agents, [Task("one", agent="ann")])


@pytest.mark.parametrize("options", [{"description": ""}, {"description": "x", "expected_output": 5}])
def test_a_task_is_a_text(options: dict[str, Any]) -> None:
    """Its description and its expected output are texts."""
    with pytest.raises(InvalidMessage):
        Task(**options)


@pytest.mark.parametrize("options", [{"agent": 5}, {"context": "x"}, {"context": [5]}, {"name": ""}])
def test_what_else_a_task_takes_is_checked(options: dict[str, Any]) -> None:
    """Agents, tasks and names are accepted, and nothing else."""
    with pytest.raises(BadRequest):
        Task("x", **options)


def test_what_is_submitted_is_checked_before_it_is_sent() -> None:
    """Its size, deadline and key are checked."""
    small = Settings(redis_url="redis://127.0.0.1:1/0", message_limit_bytes=1000)  # type: ignore[call-arg]
    with pytest.raises(MessageTooLarge):
        AgentTeam([A], [Task("x" * 1000)], settings=small).submit()
    for options in ({"timeout": 0}, {"idempotency_key": ""}):
        with pytest.raises(BadRequest):
            AgentTeam([A], [Task("x")], settings=NOWHERE).submit(**options)  # type: ignore[arg-type]


def test_a_run_is_known_by_a_turns_id() -> None:
    """Anything else is InvalidTurnId."""
    with pytest.raises(InvalidTurnId):
        TeamRun.attach("team-1")


def test_both_names_mean_the_team() -> None:
    """`AgentTeam` is our name, `Agents` PraisonAI's."""
    assert Agents is AgentTeam
