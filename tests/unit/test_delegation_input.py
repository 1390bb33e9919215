"""Agents as tools: what is sent, and what is refused before anything is."""

from __future__ import annotations

from typing import Any

import pytest

from broker_config.settings import Settings
from sessions import Agent, Session
from sessions.errors import BadRequest, InvalidTool
from sessions.protocol.agent import DELEGATION_DEPTH, AgentConfig

# There is no server: a test that reached the store would fail.
NOWHERE = Settings(redis_url="redis://127.0.0.1:1/0")


def session(user_id: str | None = None, **options: Any) -> Session:
    return Session("s", user_id, settings=NOWHERE, **options)


def test_an_agent_among_the_tools_is_sent_with_all_that_it_is() -> None:
    """Its configuration travels with the caller's, and comes out of its JSON as it was."""
    researcher = Agent("Researcher", instructions="You find  facts.", tools=["search"])
    config = Agent("Writer", tools=["spell", researcher]).config
    assert config.tools == ("spell",)
    (delegate,) = config.delegates
    assert (delegate.tool, delegate.config) == ("ask_Researcher", researcher.config)
    assert "You find facts." in delegate.description
    assert AgentConfig.model_validate_json(config.model_dump_json()) == config
    assert not config.name_only


def test_an_agent_can_have_another_name_as_a_tool() -> None:
    """It can have another description, too; both are checked."""
    (delegate,) = Agent("A", tools=[Agent("B").as_tool("research", "Finds facts")]).config.delegates
    assert (delegate.tool, delegate.description) == ("research", "Finds facts")
    with pytest.raises(InvalidTool, match="no tool"):
        Agent("B").as_tool("no tool")
    with pytest.raises(BadRequest):
        Agent("B").as_tool("fine", "")


@pytest.mark.parametrize(
    ("name", "tool"),
    [
        ("Re searcher", "ask_Re_searcher"),
        ("  Größe (2) ", "ask_Gr_e_2"),
        ("x" * 100, "ask_" + "x" * 60),
    ],
)
def test_names_become_names_that_model_providers_take(name: str, tool: str) -> None:
    """Letters, digits, '_' and '-', at most 64."""
    assert Agent("A", tools=[Agent(name)]).config.delegates[0].tool == tool


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Agent("A", tools=[Agent("A")]), "in a cycle: 'A' -> 'A'"),
        (lambda: Agent("A", tools=[Agent("B", tools=[Agent("A")])]), "in a cycle: 'A' -> 'B' -> 'A'"),
        (lambda: Agent("A", tools=[Agent("B"), Agent("B")]), "'ask_B' is listed twice"),
        (lambda: Agent("A", tools=["ask_B", Agent("B")]), "'ask_B' is listed twice"),
        (lambda: Agent("A", tools=[Agent("研究")]), r"as_tool\(name=\.\.\.\)"),
        (lambda: Agent("A", tools=Agent("B")), "a list"),  # type: ignore[arg-type]
        (lambda: session("ann").Agent("A", tools=[session("bob").Agent("B")]), "user 'bob'"),
    ],
)
def test_what_cannot_work_is_refused(make: Any, said: str) -> None:
    """The error is raised at once, and says what to change."""
    with pytest.raises(BadRequest, match=said):
        make()


def test_a_chain_has_an_end() -> None:
    """Five agents may be asked in a row, and no more."""
    agent = Agent("agent0")
    for number in range(1, DELEGATION_DEPTH + 1):
        agent = Agent(f"agent{number}", tools=[agent])
    with pytest.raises(BadRequest, match=f"at most {DELEGATION_DEPTH}"):
        Agent("one more", tools=[agent])


def test_an_agent_runs_on_the_caller_s_queue_unless_its_session_says_otherwise() -> None:
    """The tools and the model are then looked for on that queue."""
    caller = session(queue="fast").Agent("A", tools=[Agent("B", tools=[Agent("C")]), session(queue="gpu").Agent("D")])
    reached = [(config.name, queue) for config, queue in caller.config.with_delegates("fast")]
    assert reached == [("A", "fast"), ("B", "fast"), ("C", "fast"), ("D", "turns.gpu")]
    assert [delegate.session for delegate in caller.config.delegates] == [None, "s"]
