"""Agents that ask other agents, on two real workers."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from sessions import Agent, AgentTeam, Event, EventType, Session, Task, Turn, TurnStatus
from sessions.errors import TurnCancelled, TurnDeadlineExceeded, TurnFailed, UnknownModel, UnknownTool
from tests.support.fleet import Fleet, keys_without_ttl, running_fleet
from tests.support.servers import Server, running
from tests.support.waiting import wait_until

B, C = Agent("B", tools=["charge", "refund"]), Agent("C")


def asking(name: str, *lines: str) -> str:
    """A line that has the double ask an agent: the message is what that one's double does."""
    return f"CALL ask_{name}({json.dumps({'message': chr(10).join(lines)})})"


def boss(fleet: Fleet, *tools: Agent, **options: Any) -> Agent:
    return fleet.session(uuid.uuid4().hex, **options).Agent("A", tools=list(tools) or [B, C])


def children(turn: Turn, count: int = 1) -> list[str]:
    """The turns of the agents that were asked, once there are this many."""
    found: list[str] = []
    for event in turn.events():
        if event.type is EventType.TASK_STARTED:
            found.append(event.data["turn"])
            if len(found) == count:
                break
    return found


def of(fleet: Fleet, turn_id: str) -> Turn:
    return fleet.session(turn_id.rpartition("~")[0]).turn(turn_id)


def test_an_agent_asks_another_one(fleet: Fleet) -> None:
    """Its answer is the tool's result; the usage of both is the caller's; events name the other turn."""
    agent = boss(fleet)
    turn = agent.submit(asking("B", 'CALL charge({"amount": 3})'))
    assert turn.result(timeout=30) == "ok: ok: charged 3"
    record, events = turn.record(), list(turn.events())
    assert (record.attempt, record.crashes) == (1, 0)
    child = of(fleet, children(turn)[0]).record()
    assert record.usage is not None
    assert child.usage is not None
    assert (record.usage.requests, child.usage.requests) == (4, 2)
    assert record.usage.tool_calls == 2
    assert record.usage.input_tokens > child.usage.input_tokens > 0
    assert [e.type for e in events] == [
        EventType.STARTED, EventType.TOOL_CALL, EventType.TASK_STARTED, EventType.TOOL_RESULT, EventType.TEXT,
        EventType.ENDED,
    ]  # fmt: skip
    call, started, result = events[1:4]
    assert (call.data["tool"], started.data["tool"], result.data["tool"]) == ("ask_B", "ask_B", "ask_B")
    assert started.data["agent"] == "B"
    assert started.data["turn"] == result.data["turn"]
    assert started.data["call_id"] == result.data["call_id"] == call.data["call_id"]
    assert (result.data["result"], result.data["outcome"]) == ("ok: charged 3", "ok")
    assert agent.session.get_context()["message_count"] == 2


def test_a_calling_agent_streams(fleet: Fleet) -> None:
    """Its text arrives in deltas, once, although it waited in between."""
    events = list(boss(fleet).stream(asking("B", "SAY one two three")))
    assert "".join(event.text for event in events) == "ok: one two three"
    assert [e.data["result"] for e in events if e.type is EventType.TOOL_RESULT] == ["one two three"]
    assert EventType.ATTEMPT_RESET not in {e.type for e in events}


def test_a_typed_answer_comes_as_an_object(fleet: Fleet) -> None:
    """The caller's model gets the JSON of the asked agent's output type."""
    turn = boss(fleet, Agent("Typed", output_type=dict[str, int])).submit(asking("Typed", 'PLAN {"a": 1}'))
    assert turn.result(timeout=30) == "ok: {'a': 1}"


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Fleet]:
    """Two workers of one slot each: a caller that held its slot would leave no two for those that it asks."""
    env = {"SESSIONFLEET_CONCURRENCY": "1", "SESSIONFLEET_LEASE": "1"}
    with (
        running(Server(tmp_path / "server")) as server,
        running_fleet(tmp_path / "fleet", server, env, workers=("first", "second")) as fleet,
    ):
        yield fleet


def test_several_are_asked_at_the_same_time(pair: Fleet) -> None:
    """Calls in one response of the model run side by side, while the caller holds no slot."""
    message = "\n".join(["TOGETHER", asking("B", "SLEEP 2", "SAY one"), asking("C", "SLEEP 2", "SAY two")])
    turn = boss(pair).submit(message)
    assert turn.result(timeout=40) == "ok: two"
    slow = [line for line in pair.ledger("model_started") if line["prompt"].startswith("SLEEP")]
    done = [line for line in pair.ledger("model") if line["prompt"].startswith("SLEEP")]
    assert len(slow) == len(done) == 2
    assert max(line["at"] for line in slow) < min(line["at"] for line in done)
    results = {e.data["tool"]: e.data["result"] for e in turn.events() if e.type is EventType.TOOL_RESULT}
    assert results == {"ask_B": "one", "ask_C": "two"}


def test_an_agent_that_fails_is_a_result_that_says_so(fleet: Fleet) -> None:
    """The calling turn continues, and its model gets the reason."""
    turn = boss(fleet).submit("\n".join([asking("B", "FAIL 400 1"), asking("C", "SAY fine")]))
    assert turn.result(timeout=30) == "ok: fine"
    failed, _ = [e for e in turn.events() if e.type is EventType.TOOL_RESULT]
    assert failed.data["outcome"] == "failed"
    assert "ModelError" in failed.data["result"]


def test_agents_ask_in_turn(fleet: Fleet) -> None:
    """One that is asked asks the next; the first one's usage is that of all."""
    middle = Agent("Middle", tools=[C])
    turn = boss(fleet, middle).submit(asking("Middle", asking("C", "SAY deep")))
    assert turn.result(timeout=30) == "ok: ok: deep"
    usage = turn.record().usage
    assert usage is not None
    assert (usage.requests, usage.tool_calls) == (5, 2)


def test_a_cancel_reaches_all_that_were_asked(fleet: Fleet) -> None:
    """Those that were asked by others included; it does not take until the next look."""
    middle = Agent("Middle", tools=[C])
    turn = boss(fleet, middle).submit(asking("Middle", asking("C", "SLEEP 60")))
    first = of(fleet, children(turn)[0])
    second = of(fleet, children(first)[0])
    wait_until(lambda: second.status is TurnStatus.RUNNING, description="the last one runs")
    wait_until(lambda: turn.status is TurnStatus.WAITING, description="the caller waits")
    turn.cancel()
    for each in (turn, first, second):
        with pytest.raises(TurnCancelled):
            each.result(timeout=20)


@pytest.mark.parametrize("policy", ["interrupt", "rollback"])
def test_a_newer_message_ends_what_was_asked(fleet: Fleet, policy: str) -> None:
    """The agent that was asked is cancelled; an interrupt leaves a transcript that says that it did not answer."""
    agent = boss(fleet)
    turn = agent.submit("\n".join([asking("B", "SAY one"), asking("C", "SLEEP 60")]))
    child = of(fleet, children(turn, 2)[1])
    wait_until(lambda: child.status is TurnStatus.RUNNING, description="it runs")
    assert agent.submit("SAY next", policy=policy).result(timeout=30) == "next"
    with pytest.raises(TurnCancelled):
        child.result(timeout=20)
    said = [m.text for m in agent.session.history(limit=50) if m.role == "tool"]
    if policy == "rollback":
        assert said == []
    else:
        assert said[0] == "one"
        assert "before this agent answered" in said[1]


def test_the_deadline_is_one_for_all(fleet: Fleet) -> None:
    """The calling turn's deadline also ends the agents that it asked."""
    turn = boss(fleet).submit(asking("C", "SLEEP 60"), timeout=3.0)
    child = of(fleet, children(turn)[0])
    with pytest.raises(TurnDeadlineExceeded):
        turn.result(timeout=20)
    with pytest.raises((TurnDeadlineExceeded, TurnCancelled)):  # by its own clock, or by the caller's end: both are now
        child.result(timeout=20)


def test_an_asker_that_fails_leaves_nobody_at_work(fleet: Fleet) -> None:
    """Another tool fails the turn: the agent that was asked is cancelled."""
    agent = fleet.session(uuid.uuid4().hex).Agent("A", tools=[C, "divide"])
    turn = agent.submit("\n".join(["TOGETHER", asking("C", "SLEEP 60"), 'CALL divide({"number": 1, "by": 0})']))
    with pytest.raises(TurnFailed):
        turn.result(timeout=30)
    for child in [e.data["turn"] for e in turn.events() if e.type is EventType.TASK_STARTED]:
        with pytest.raises(TurnCancelled):
            of(fleet, child).result(timeout=20)


def test_people_are_asked_after_agents(fleet: Fleet) -> None:
    """An approval together with a question to an agent: first the agent answers, then the person is asked."""
    agent = fleet.session(uuid.uuid4().hex).Agent("A", tools=[C, "refund"])
    message = "\n".join(["TOGETHER", 'CALL refund({"amount": 4})', asking("C", "SAY fine")])
    turn = agent.submit(message)
    wait_until(turn.approvals, description="a person is asked", timeout=30)
    (call,) = turn.approvals()
    turn.approve(call.call_id)
    assert turn.result(timeout=30) in ("ok: fine", "ok: refunded 4")
    returned = {m.text for m in agent.session.history(limit=50) if m.role == "tool"}
    assert returned == {"fine", "refunded 4"}
    second = agent.submit(message)
    wait_until(second.approvals, description="a person is asked", timeout=30)
    assert second.cancel() is TurnStatus.QUEUED


def test_an_agent_that_was_asked_may_ask_a_person(fleet: Fleet) -> None:
    """It waits at its own turn, which an event of the caller names."""
    turn = boss(fleet).submit(asking("B", 'CALL refund({"amount": 9})'))
    child = of(fleet, children(turn)[0])
    wait_until(child.approvals, description="it asks", timeout=30)
    child.approve(child.approvals()[0].call_id)
    assert turn.result(timeout=30) == "ok: ok: refunded 9"


def test_an_end_that_nobody_told_of_is_found(fleet: Fleet) -> None:
    """No worker runs what waits for a person: when it is cancelled, the caller finds out by looking."""
    turn = boss(fleet).submit(asking("B", 'CALL refund({"amount": 9})'))
    child = of(fleet, children(turn)[0])
    wait_until(child.approvals, description="it asks", timeout=30)
    wait_until(lambda: turn.status is TurnStatus.WAITING, description="the caller waits")
    assert child.cancel() is TurnStatus.QUEUED
    assert "TurnCancelled" in turn.result(timeout=30)


def test_a_sessions_agent_knows_what_was_said_there(fleet: Fleet) -> None:
    """It gets a copy of its session; what it says stays there."""
    session: Session = fleet.session(uuid.uuid4().hex, user_id="ann")
    session.Agent("Writer", instructions="write").chat("SAY hello")
    turn = session.Agent("A", tools=[session.Agent("Writer")]).submit(asking("Writer", "SAY bye"))
    assert turn.result(timeout=30) == "ok: bye"
    lane = fleet.session(children(turn)[0].rpartition("~")[0], user_id="ann")
    assert [m.text for m in lane.history(limit=50) if m.role == "assistant"] == ["hello", "bye"]
    assert session.get_context()["message_count"] == 4


def test_an_agent_of_a_team_may_ask_others(fleet: Fleet) -> None:
    """The run's usage includes that of every agent."""
    agent = Agent("A", tools=[C])
    result = AgentTeam([agent], [Task(asking("C", "SAY hi"))], settings=fleet.settings).start()
    assert (str(result), result.usage.requests) == ("ok: hi", 3)


def test_what_an_agent_needs_is_known_before_it_is_asked(fleet: Fleet) -> None:
    """Unknown tools and models are refused at submission, however deep."""
    with pytest.raises(UnknownTool, match="nothing_like_it"):
        boss(fleet, Agent("M", tools=[Agent("N", tools=["nothing_like_it"])])).submit("hi")
    with pytest.raises(UnknownModel, match="strange"):
        boss(fleet, Agent("M", model="strange:model")).submit("hi")


def test_a_circle_through_a_session_ends(fleet: Fleet) -> None:
    """A session's agent that is known by its name may have been changed to ask the caller: the chain has a limit."""
    session = fleet.session(uuid.uuid4().hex)
    session.Agent("One", tools=[session.Agent("Two")], instructions="one").chat("SAY known")
    session.Agent("Two", tools=[session.Agent("One")], instructions="two").chat("SAY known")
    message = "SAY end"
    for name in ("One", "Two") * 4:
        message = asking(name, message)
    turn = session.Agent("One").submit(message)
    assert "have asked one another" in turn.result(timeout=60)


def test_what_was_asked_expires(new_fleet: Callable[..., Fleet]) -> None:
    """The sessions of agents that were asked need not be deleted by anyone."""
    fleet = new_fleet(SESSIONFLEET_RESULT_TTL="3", SESSIONFLEET_IDEMPOTENCY_TTL="3")
    fleet.start("only")
    fleet.ready()
    boss(fleet, ttl=3.0).chat(asking("C", "SAY one"))
    assert keys_without_ttl(fleet.server) == []


# --- crashes ----------------------------------------------------------------------------------------------


def counted(fleet: Fleet) -> list[int]:
    return sorted(line["amount"] for line in fleet.ledger("charge"))


@pytest.mark.parametrize("victim", ["who asked", "who was asked"])
def test_a_worker_may_die_while_an_agent_answers(new_fleet: Callable[..., Fleet], victim: str) -> None:
    """kill -9 of the caller's worker, or of the answering one: no agent is asked twice, nothing is lost."""
    fleet = new_fleet(SESSIONFLEET_LEASE="1")
    workers = {name: fleet.start(name) for name in ("one", "two")}
    fleet.ready()
    agent = fleet.session(uuid.uuid4().hex).Agent("A", tools=[B, "charge"])
    hang = "HANG 1 60" if victim == "who was asked" else "HANG 1 4"
    turn = agent.submit('CALL charge({"amount": 1})\n' + asking("B", 'CALL charge({"amount": 2})', hang))
    child = of(fleet, children(turn)[0])
    wait_until(lambda: fleet.ledger("hung"), description="it answers", timeout=30)
    wait_until(lambda: turn.status is TurnStatus.WAITING, description="the caller waits", timeout=30)
    worker = (turn if victim == "who asked" else child).record().worker
    assert worker is not None
    workers[worker.partition("@")[0]].kill()
    assert turn.result(timeout=60) == "ok: ok: charged 2"
    assert counted(fleet) == [1, 2]
    assert len({event.data["turn"] for event in turn.events() if event.type is EventType.TASK_STARTED}) == 1


def test_an_asker_whose_worker_died_in_the_middle_asks_nobody_twice(new_fleet: Callable[..., Fleet]) -> None:
    """kill -9 while another tool runs: the next attempt attaches to the turn that was submitted."""
    fleet = new_fleet(SESSIONFLEET_LEASE="1")
    for name in ("one", "two"):
        fleet.start(name)
    fleet.ready()
    agent = fleet.session(uuid.uuid4().hex).Agent("A", tools=[B, "linger"])
    asked = asking("B", 'CALL charge({"amount": 2})')
    turn = agent.submit("\n".join(["TOGETHER", asked, 'CALL linger({"seconds": 60})']))
    fleet.noted("linger")
    wait_until(lambda: counted(fleet) == [2], description="it was asked", timeout=30)
    wait_until(lambda: of(fleet, children(turn)[0]).status.final, description="it answered", timeout=30)
    fleet.worker_of_pid(fleet.ledger("linger")[0]["pid"]).kill()
    assert turn.result(timeout=60) == "ok: lingered"
    assert counted(fleet) == [2]
    assert turn.attempt == 2
    started: list[Event] = [e for e in turn.events() if e.type is EventType.TASK_STARTED]
    assert len(started) == 1
