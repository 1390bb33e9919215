"""Teams on real workers: order, context, failures, cancel, the manager, and agents of sessions."""

from __future__ import annotations

import json
import os
import signal
import sys
import uuid
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from sessions import Agent, AgentTeam, Event, EventType, Task, TaskStatus, TeamRun, TurnStatus
from sessions.errors import (
    IdempotencyConflict,
    OutputInvalid,
    SessionOwnerError,
    TurnCancelled,
    TurnDeadlineExceeded,
    UnknownTool,
)
from tests.support import preloaded
from tests.support.fleet import ROOT, Fleet, keys_without_ttl, running_fleet
from tests.support.servers import Server, running
from tests.support.waiting import wait_until

A, B = Agent("A"), Agent("B")


def word() -> str:
    """Part of a message, to find the message's lines in the shared ledger."""
    return uuid.uuid4().hex


def test_a_sequence_passes_each_answer_on(fleet: Fleet) -> None:
    """Each task is given the answer of the one before, and `str()` of the result is the last one's text."""
    mark = word()
    tasks = [Task("research\nSAY it rains", agent=A, name="research"), Task(f"write {mark}\nSAY an article", agent=B)]
    result = AgentTeam([A, B], tasks, settings=fleet.settings).start()
    assert str(result) == "an article"
    assert (result.ok, [task.agent for task in result.tasks]) == (True, ["A", "B"])
    told = next(line["prompt"] for line in fleet.ledger("model") if mark in line["prompt"])
    assert "## research (A)\nit rains" in told
    assert result.usage.requests == 2
    assert result.usage.input_tokens == sum(task.usage.input_tokens for task in result.tasks) > 0
    assert all(task.worker and task.attempts == 1 for task in result.tasks)


async def test_a_team_is_started_from_asyncio(fleet: Fleet) -> None:
    """`astart` gives the same result as `start`."""
    assert str(await AgentTeam([A], [Task("SAY hi")], settings=fleet.settings).astart()) == "hi"


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Fleet]:
    """Two workers of two slots each, so that four tasks need both."""
    env = {"SESSIONFLEET_CONCURRENCY": "2", "SESSIONFLEET_LEASE": "1"}
    with (
        running(Server(tmp_path / "server")) as server,
        running_fleet(tmp_path / "fleet", server, env, workers=("first", "second")) as fleet,
    ):
        yield fleet


def test_tasks_that_do_not_need_each_other_run_at_the_same_time(pair: Fleet) -> None:
    """Four at once on two workers, while the run itself holds no slot."""
    tasks = [Task(f"SLEEP 3\nSAY {n}", agent=A) for n in range(4)]
    result = AgentTeam([A], tasks, "parallel", settings=pair.settings).start()
    assert [task.text for task in result.tasks] == ["0", "1", "2", "3"]
    began, ended = pair.ledger("model_started"), pair.ledger("model")
    assert len(began) == len(ended) == 4
    assert max(line["at"] for line in began) < min(line["at"] for line in ended)
    assert len({line["pid"] for line in began}) == 2


def test_a_failed_task_takes_only_those_along_that_build_on_it(fleet: Fleet) -> None:
    """Tasks that depend on it are skipped, the others run, and the result reports it."""
    mark = word()
    bad = Task(f"{mark}\nFAIL 400 1", agent=A, name="bad")
    poor = Task("SAY never", agent=B, context=[bad], name="poor")
    worse = Task("SAY never", agent=B, context=[poor], name="worse")
    good = Task("SAY fine", agent=B, name="good")
    result = AgentTeam([A, B], [bad, poor, worse, good], "parallel", settings=fleet.settings).start()
    assert [task.status for task in result.tasks] == ["failed", "skipped", "skipped", "succeeded"]
    assert (result.ok, str(result)) == (False, "fine")
    assert result["bad"].error is not None
    assert result["bad"].error.type == "ModelError"
    assert "'bad'" in str(result["poor"])
    assert result["poor"].turn is None


def test_progress_comes_as_events(fleet: Fleet) -> None:
    """Which task began and ended, with its agent and the beginning of its text."""
    run = AgentTeam([A, B], [Task("SAY one", agent=A), Task("SAY two", agent=B)], settings=fleet.settings).submit()
    events = list(run.events())
    told = [(e.type, e.data["index"], e.data["agent"]) for e in events if e.type.startswith("task_")]
    assert told == [
        (EventType.TASK_STARTED, 0, "A"), (EventType.TASK_ENDED, 0, "A"),
        (EventType.TASK_STARTED, 1, "B"), (EventType.TASK_ENDED, 1, "B"),
    ]  # fmt: skip
    assert [e.data["text"] for e in events if e.type is EventType.TASK_ENDED] == ["one", "two"]
    assert [e.type for e in events if not e.type.startswith("task_")] == [EventType.STARTED, EventType.ENDED]
    assert list(run.events(after=events[2].id)) == events[3:]
    assert run.attempt == 1


def test_a_run_is_taken_up_by_its_id(fleet: Fleet) -> None:
    """Any process of the same user can do so, and no other user."""
    run = AgentTeam([A], [Task("SAY again")], user_id="ann", settings=fleet.settings).submit()
    again = TeamRun.attach(run.id, user_id="ann", settings=fleet.settings)
    assert str(again.result(timeout=20)) == "again"
    assert again.status is TurnStatus.SUCCEEDED
    with pytest.raises(SessionOwnerError):
        TeamRun.attach(run.id, user_id="bob", settings=fleet.settings)


def test_the_same_key_gives_the_same_run(fleet: Fleet) -> None:
    """Another team under the same key is a conflict."""
    mark = word()
    team = AgentTeam([A], [Task(f"SAY {mark}")], settings=fleet.settings)
    first, second = (team.submit(idempotency_key=mark) for _ in range(2))
    assert first.id == second.id
    assert str(second.result(timeout=20)) == mark
    assert len(fleet.ledger("model", prompt=f"SAY {mark}")) == 1
    with pytest.raises(IdempotencyConflict):
        AgentTeam([A], [Task("SAY other")], settings=fleet.settings).submit(idempotency_key=mark)


def test_a_cancelled_run_cancels_its_tasks(fleet: Fleet) -> None:
    """Running tasks are stopped, waiting ones never begin."""
    slow, mark = f"{word()}\nSLEEP 60", word()
    tasks = [Task(slow, agent=A), Task(f"SAY {mark}", agent=B)]
    run = AgentTeam([A, B], tasks, settings=fleet.settings).submit()
    fleet.noted("model_started", prompt=slow)
    wait_until(lambda: run.status is TurnStatus.WAITING, description="the run waits for its task")
    run.cancel()
    with pytest.raises(TurnCancelled):
        run.result(timeout=20)
    child = next(e.data["turn"] for e in run.events() if e.type is EventType.TASK_STARTED)
    turn = fleet.session(child.rpartition("~")[0]).turn(child)
    wait_until(lambda: turn.status is TurnStatus.CANCELLED, description="the task is cancelled")
    assert not fleet.ledger("model", prompt=slow)
    assert not [line for line in fleet.ledger("model_started") if mark in line["prompt"]]


def test_a_cancelled_task_is_not_the_whole_run(fleet: Fleet) -> None:
    """Tasks that depend on it are skipped; the others run to their end."""
    slow = f"{word()}\nSLEEP 60"
    run = AgentTeam([A], [Task(slow), Task("SAY fine")], "parallel", settings=fleet.settings).submit()
    fleet.noted("model_started", prompt=slow)
    child = next(e.data["turn"] for e in run.events() if e.type is EventType.TASK_STARTED)
    fleet.session(child.rpartition("~")[0]).turn(child).cancel()
    assert [task.status for task in run.result(timeout=20).tasks] == [TaskStatus.CANCELLED, TaskStatus.SUCCEEDED]


def test_the_deadline_of_a_run_is_that_of_its_tasks(fleet: Fleet) -> None:
    """No task continues after the run's deadline."""
    slow = f"{word()}\nSLEEP 60"
    run = AgentTeam([A], [Task(slow)], settings=fleet.settings).submit(timeout=2)
    with pytest.raises(TurnDeadlineExceeded):
        run.result(timeout=30)
    child = next(e.data["turn"] for e in run.events() if e.type is EventType.TASK_STARTED)
    turn = fleet.session(child.rpartition("~")[0]).turn(child)
    wait_until(lambda: turn.status is TurnStatus.FAILED, description="the task is over")


def test_a_tool_that_no_worker_knows_is_refused_at_once(fleet: Fleet) -> None:
    """The run is not accepted."""
    with pytest.raises(UnknownTool, match="'nope'"):
        AgentTeam([Agent("C", tools=["nope"])], [Task("x")], settings=fleet.settings).submit()


# --- the manager ----------------------------------------------------------------------------------------


def managed(fleet: Fleet, plan: dict[str, Any], **options: Any) -> AgentTeam:
    """The double makes the plan that a task's description holds."""
    tasks = [Task(f"SAY one\nPLAN {json.dumps(plan)}", name="one"), Task("SAY two", name="two")]
    return AgentTeam([A, B], tasks, "hierarchical", settings=fleet.settings, **options)


def test_a_manager_says_who_does_what_in_which_order(fleet: Fleet) -> None:
    """Its turn is one of the run's, paid for by the run; the later step is given the earlier one's answer."""
    plan = {"task_1": {"agent": "B", "step": 2}, "task_2": {"agent": "A", "step": 1}}
    run = managed(fleet, plan).submit()
    result = run.result(timeout=30)
    assert [task.agent for task in result.tasks] == ["B", "A"]
    assert str(result) == "one"
    assert result.usage.requests == 3
    told = [(e.type, e.data["name"]) for e in run.events() if e.type.startswith("task_")]
    assert told == [(kind, name) for name in ("manager", "two", "one") for kind in ("task_started", "task_ended")]


def test_an_agent_can_be_the_manager(fleet: Fleet) -> None:
    """It manages under its own name, with its own model."""
    plan = {"task_1": {"agent": "A", "step": 1}, "task_2": {"agent": "B", "step": 1}}
    run = managed(fleet, plan, manager=Agent("Boss", model="double")).submit()
    assert run.result(timeout=30).ok
    assert [e.data["agent"] for e in run.events() if e.data.get("name") == "manager"] == ["Boss", "Boss"]


def test_a_plan_with_an_unknown_agent_is_a_clear_error(fleet: Fleet) -> None:
    """The error lists the agents that exist, and no task is begun."""
    run = managed(fleet, {"task_1": {"agent": "Nobody", "step": 1}, "task_2": {"agent": "B", "step": 1}}).submit()
    with pytest.raises(OutputInvalid, match=r"the manager 'Manager' made no usable plan.*one of 'A', 'B'"):
        run.result(timeout=30)
    assert {e.data["name"] for e in run.events() if e.type is EventType.TASK_STARTED} == {"manager"}


# --- agents of sessions -----------------------------------------------------------------------------------


def test_a_sequence_of_a_sessions_agents_is_part_of_its_transcript(fleet: Fleet) -> None:
    """The writer sees what the researcher said, and so does everyone who asks later."""
    session = fleet.session(word(), user_id="ann")
    researcher, writer = session.Agent("Researcher"), session.Agent("Writer", instructions="write")
    researcher.chat("SAY hello")
    team = AgentTeam([researcher, writer], [Task("SAY found", agent=researcher), Task("SAY done", agent="Writer")])
    result = team.start()
    assert [(m.role, m.agent, m.text) for m in session.history().messages if m.role == "assistant"] == [
        ("assistant", "Researcher", "hello"), ("assistant", "Researcher", "found"), ("assistant", "Writer", "done"),
    ]  # fmt: skip
    assert all(task.turn and task.turn.startswith(f"{session.session_id}~") for task in result.tasks)


def test_a_sessions_agents_work_at_the_same_time_in_copies_of_it(fleet: Fleet) -> None:
    """Each knows what was said; the session itself keeps its order, and is left as it was."""
    session = fleet.session(word())
    helper = session.Agent("Helper", instructions="help")
    helper.chat("SAY hello")
    session.set_state("topic", "tea")
    tasks = [Task(f"SAY {n}", agent=session.Agent("Helper")) for n in range(2)]
    agent = tasks[0].agent
    assert isinstance(agent, Agent)
    tasks[1].agent = agent
    result = AgentTeam([agent], tasks, "parallel").start()
    assert [task.text for task in result.tasks] == ["0", "1"]
    assert session.get_context()["message_count"] == 2
    lane = fleet.session(str(result.tasks[0].turn).rpartition("~")[0])
    assert lane.get_context()["message_count"] == 4
    assert lane.get_state("topic") == "tea"


def test_a_run_belongs_to_the_owner_of_its_agents_session(fleet: Fleet) -> None:
    """Also if the session was opened without a user; a team for another user is refused."""
    session = fleet.session(word(), user_id="ann")
    session.Agent("Helper", instructions="help").chat("SAY hello")
    helper = fleet.session(session.session_id).Agent("Helper")
    run = AgentTeam([helper], [Task("SAY hi")]).submit()
    assert str(run.result(timeout=20)) == "hi"
    with pytest.raises(SessionOwnerError):
        TeamRun.attach(run.id, user_id="bob", settings=fleet.settings)
    with pytest.raises(SessionOwnerError):
        AgentTeam([helper], [Task("SAY hi")], user_id="bob").submit()


def test_a_task_waits_for_its_approval_like_any_turn(fleet: Fleet) -> None:
    """Its event names its turn, where it is answered; the other tasks continue meanwhile."""
    clerk = Agent("Clerk", tools=["refund"])
    tasks = [Task('CALL refund({"amount": 9})', name="pay"), Task("SAY fine")]
    run = AgentTeam([clerk], tasks, "parallel", settings=fleet.settings).submit()
    assert next(e.data["text"] for e in run.events() if e.type is EventType.TASK_ENDED) == "fine"
    child = next(e.data["turn"] for e in run.events() if e.type is EventType.TASK_STARTED and e.data["name"] == "pay")
    turn = fleet.session(child.rpartition("~")[0]).turn(child)
    wait_until(turn.approvals, description="the task asks")
    turn.approve(turn.approvals()[0].call_id)
    assert run.result(timeout=30)["pay"].text == "ok: refunded 9"


# --- what a run leaves ------------------------------------------------------------------------------------


def test_everything_of_a_run_expires_with_its_result(new_fleet: Callable[..., Fleet]) -> None:
    """Lanes expire, too, so that nobody needs to delete a run."""
    fleet = new_fleet(SESSIONFLEET_RESULT_TTL="3", SESSIONFLEET_IDEMPOTENCY_TTL="3")
    fleet.start("only")
    fleet.ready()
    run = AgentTeam([A, B], [Task("SAY one", agent=A), Task("SAY two", agent=B)], settings=fleet.settings).submit()
    assert run.result(timeout=30).ok
    assert keys_without_ttl(fleet.server) == []

    def left() -> list[str]:
        with fleet.server.client() as client:
            names = [raw.decode() for raw in client.scan_iter("sf:v1:*team-*")]
        return [name for name in names if not name.endswith(":expired")]

    assert left()
    wait_until(lambda: not left(), description="no key of the run is left")


# --- crashes ----------------------------------------------------------------------------------------------


def test_a_worker_killed_in_the_middle_repeats_no_finished_task(pair: Fleet) -> None:
    """kill -9 of a worker while a task runs: it continues elsewhere, ended tasks are not done again, the run ends."""
    charger = Agent("Charger", tools=["charge", "linger"])
    tasks = [Task(f'CALL charge({{"amount": {n}}})', name=f"done{n}") for n in range(3)]
    tasks.append(Task('CALL charge({"amount": 3})\nCALL linger({"seconds": 60})'))
    tasks.append(Task("SAY whole", context=list(tasks), name="last"))
    run = AgentTeam([charger], tasks, "parallel", settings=pair.settings).submit()
    pair.noted("linger")
    assert len(list(first_ended(run, 3))) == 3
    pair.worker_of_pid(pair.ledger("linger")[0]["pid"]).kill()
    result = run.result(timeout=60)
    assert (result.ok, str(result)) == (True, "whole")
    assert sorted(line["amount"] for line in pair.ledger("charge")) == [0, 1, 2, 3]
    assert [task.attempts for task in result.tasks] == [1, 1, 1, 2, 1]


def first_ended(run: TeamRun, count: int) -> Iterator[Event]:
    """The events of the first `count` tasks to end, as they come."""
    return islice((event for event in run.events() if event.type is EventType.TASK_ENDED), count)


CLIENT = """
import os, signal, sys
from sessions import Agent, AgentTeam, Task

agent = Agent("A")
tasks = [Task("SLEEP 2\\nSAY one", agent=agent), Task("SAY two", agent=agent)]
print(AgentTeam([agent], tasks).submit().id, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_run_outlives_its_client(fleet: Fleet) -> None:
    """kill -9 of the process that submitted it: another one finds the run, with its answer."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("SESSIONFLEET_")}
    environment = {**kept, "REDIS_URL": fleet.server.url}
    client = preloaded.run([sys.executable, "-c", CLIENT], env=environment, cwd=ROOT)
    assert client.returncode == -signal.SIGKILL, client.stderr
    run = TeamRun.attach(client.stdout.strip(), settings=fleet.settings)
    assert not run.status.final
    assert [task.text for task in run.result(timeout=30).tasks] == ["one", "two"]
