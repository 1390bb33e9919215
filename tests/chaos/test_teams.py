"""Runs of teams while their workers are killed, one after the other."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import pytest

from sessions import Agent, AgentTeam, Task
from tests.support.fleet import Fleet

RUNS, TASKS, KILLS = 4, 8, 3


@pytest.mark.chaos
@pytest.mark.slow
def test_teams_end_though_workers_are_killed_again_and_again(new_fleet: Callable[..., Fleet]) -> None:
    """kill -9 of worker after worker: every run ends, and no task's effect happens twice."""
    fleet = new_fleet(SESSIONFLEET_LEASE="1", SESSIONFLEET_MAX_ATTEMPTS="50")
    # All of them before the runs begin: on a busy machine a worker starts more slowly than the runs end.
    for number in range(2 + KILLS):
        fleet.start(f"w{number}")
    fleet.ready()
    agent = Agent("Charger", tools=["charge"])
    runs = []
    for run in range(RUNS):
        tasks: list[Task] = []
        for task in range(TASKS):
            amount = run * TASKS + task
            text = f'SLEEP 1\nCALL charge({{"amount": {amount}}})'
            tasks.append(Task(text, context=tasks[-2:]))  # two chains that meet: never more than two at once
        runs.append(AgentTeam([agent], tasks, "parallel", settings=fleet.settings).submit(timeout=100))
    for _ in range(KILLS):
        seen = len(fleet.ledger("model_started"))
        busy = fleet.noted("model_started", seen + 1, timeout=60)[-1]["pid"]
        fleet.worker_of_pid(busy).kill()
    results = [run.result(timeout=90) for run in runs]

    charges = Counter(line["amount"] for line in fleet.ledger("charge"))
    assert all(result.ok for result in results), [result.failed for result in results]
    assert max(charges.values()) == 1
    assert max(task.attempts for result in results for task in result.tasks) > 1
