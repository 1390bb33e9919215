"""A team is agents with tasks. Each task is a turn, so it has everything that turns have: order, recovery, cancel."""

from __future__ import annotations

import uuid

from sessions import Agent, AgentTeam, Task
from tests.support.fleet import Fleet


def test_a_team_passes_each_answer_on(fleet: Fleet) -> None:
    """One task after the other; the second agent gets the first one's answer."""
    researcher, writer = Agent("Researcher"), Agent("Writer")
    mark = uuid.uuid4().hex
    tasks = [
        Task("SAY it rains", agent=researcher, name="weather"),
        Task(f"Write about it {mark}\nSAY Take an umbrella.", agent=writer),
    ]
    result = AgentTeam([researcher, writer], tasks, settings=fleet.settings).start()
    assert str(result) == "Take an umbrella."
    assert [task.agent for task in result.tasks] == ["Researcher", "Writer"]

    (told,) = [line["prompt"] for line in fleet.ledger("model") if mark in line["prompt"]]
    assert "it rains" in told
