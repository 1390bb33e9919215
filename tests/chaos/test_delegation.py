"""Agents that ask one another while their workers are killed, one after the other."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator

import pytest

from sessions import Agent, EventType, Turn
from tests.support.fleet import Fleet

TURNS, KILLS = 6, 3


def asking(name: str, *lines: str) -> str:
    return f"CALL ask_{name}({json.dumps({'message': chr(10).join(lines)})})"


def charged(fleet: Fleet, turn: Turn) -> Iterator[str]:
    """The outcomes of all charges that a turn and those that it asked called for."""
    for event in turn.events():
        if event.type is EventType.TOOL_RESULT and event.data["tool"] == "charge":
            yield event.data["outcome"]
        elif event.type is EventType.TASK_STARTED:
            child = event.data["turn"]
            yield from charged(fleet, fleet.session(child.rpartition("~")[0]).turn(child))


@pytest.mark.chaos
@pytest.mark.slow
def test_nobody_is_asked_twice_though_workers_are_killed_again_and_again(new_fleet: Callable[..., Fleet]) -> None:
    """kill -9 of worker after worker: every turn ends with all its answers, and no effect happens twice."""
    fleet = new_fleet(SESSIONFLEET_LEASE="1", SESSIONFLEET_MAX_ATTEMPTS="50")
    # All of them before the work, which must outlast the kills.
    for name in ("w0", "w1", *(f"next{kill}" for kill in range(KILLS))):
        fleet.start(name)
    fleet.ready(timeout=90)
    worker = Agent("Worker", tools=["charge"])
    helper = Agent("Helper", tools=["charge", Agent("Deep", tools=["charge"])])
    turns = []
    for number in range(TURNS):
        charge = [f'CALL charge({{"amount": {number * 10 + part}}})' for part in range(3)]
        deep = asking("Deep", f"SLEEP 1\n{charge[2]}")
        message = ["TOGETHER", asking("Worker", "SLEEP 1", charge[0]), asking("Helper", "SLEEP 1", charge[1], deep)]
        turns.append(fleet.session().Agent("A", tools=[worker, helper]).submit("\n".join(message), timeout=120))
    for _ in range(KILLS):
        seen = len(fleet.ledger("model_started"))
        busy = fleet.noted("model_started", seen + 1, timeout=60)[-1]["pid"]
        fleet.worker_of_pid(busy).kill()
    for number, turn in enumerate(turns):
        turn.result(timeout=90)
        results = [event.data for event in turn.events() if event.type is EventType.TOOL_RESULT]
        assert [data["outcome"] for data in results] == ["ok", "ok"], (number, results)
        asked = [event.data["call_id"] for event in turn.events() if event.type is EventType.TASK_STARTED]
        assert sorted(asked) == ["call1", "call2"]
    charges = Counter(line["amount"] for line in fleet.ledger("charge"))
    assert max(charges.values()) == 1
    # A charge that was about to run when its worker was killed is in doubt, and may not have taken effect.
    calls = Counter(outcome for turn in turns for outcome in charged(fleet, turn))
    assert calls.total() == TURNS * 3
    assert len(charges) >= calls["ok"] >= TURNS
    assert set(calls) <= {"ok", "unknown"}
