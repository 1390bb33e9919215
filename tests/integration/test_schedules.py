"""Schedules on real workers: from Python, a remote session and REST; workers that die at the moment of a tick."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest

from sessions import Schedule, Session, TurnStatus
from sessions.errors import (
    BadRequest,
    NotFound,
    ScheduleExists,
    ScheduleNotFound,
    SessionOwnerError,
    UnknownAgent,
)
from tests.support.fleet import Fleet
from tests.support.gateway import GatewayProcess
from tests.support.http import good, problem
from tests.support.servers import Server
from tests.support.waiting import wait_until

NEVER_SOON = "0 0 29 2 *"  # the next one is in 2028, so that only those ticks happen that the tests make


@pytest.fixture(params=["local", "remote"])
def opened(request: pytest.FixtureRequest, fleet: Fleet) -> Callable[..., Session]:
    """Opens sessions of this process, or at a gateway."""
    if request.param == "local":
        return fleet.session
    gateway: GatewayProcess = request.getfixturevalue("gateway_process")

    def remote(session_id: str | None = None, **options: object) -> Session:
        return Session(session_id or uuid.uuid4().hex, agent_url=f"{gateway.url}/agent", **options)  # type: ignore[arg-type]

    return remote


@pytest.fixture(scope="module")
def http(gateway_process: GatewayProcess) -> Iterator[httpx.Client]:
    with gateway_process.client() as client:
        yield client


def tick(fleet: Fleet, session_id: str, schedule_id: str, seconds_ago: float = 0.0) -> None:
    """Make a schedule due, as if its time had come."""
    keys = fleet.session(session_id).keys
    with fleet.server.client() as store:
        seconds, micros = store.time()
        now = seconds * 1000 + micros // 1000
        store.zadd(f"{keys.base}:schedules:due", {schedule_id: now - int(seconds_ago * 1000)})
        store.zadd(f"{keys.partition}:wakeups", {keys.ref: now})


def ran(schedule: Schedule, runs: int) -> Schedule:
    """Wait until it has become so many turns, and the last one has ended."""

    def look() -> bool:
        info = schedule.refresh().info
        return info.runs == runs and (info.last_status is None or info.last_status.final)

    wait_until(look, description=f"{runs} runs", timeout=30)
    return schedule


def answers(session: Session) -> list[str]:
    return [message.text for message in session.history(limit=500) if message.role == "assistant"]


def test_a_schedule_sends_its_message_at_each_tick(opened: Callable[..., Session], fleet: Fleet) -> None:
    """Made, due, run, listed; its turn is one of the session's; its next run is the expression's."""
    session = opened(user_id="ann")
    agent = session.Agent("Clerk", instructions="x")
    schedule = session.schedule(
        NEVER_SOON, "SAY morning", agent=agent, timezone="Europe/Berlin", schedule_id="daily", timeout=60,
        metadata={"from": "plan"},
    )  # fmt: skip
    assert schedule.next_run_at == datetime(2028, 2, 28, 23, tzinfo=UTC)
    assert schedule.next_runs(2) == [schedule.next_run_at, datetime(2032, 2, 28, 23, tzinfo=UTC)]
    tick(fleet, session.session_id, "daily")
    info = ran(schedule, 1).info
    assert (info.last_status, info.next_run_at) == (TurnStatus.SUCCEEDED, datetime(2028, 2, 28, 23, tzinfo=UTC))
    assert info.last_turn_id is not None
    record = session.turn(info.last_turn_id).record()
    assert (record.schedule_id, record.metadata) == ("daily", {"from": "plan"})
    assert [(each.schedule_id, each.info.message, each.info.agent) for each in session.schedules()] == [
        ("daily", "SAY morning", "Clerk")
    ]
    tick(fleet, session.session_id, "daily")
    ran(schedule, 2)
    assert answers(session) == ["morning", "morning"]


def test_pause_resume_trigger_update_delete(opened: Callable[..., Session], fleet: Fleet) -> None:
    """Each as its name says; a schedule that was deleted is not found."""
    session = opened()
    agent = session.Agent("Clerk", instructions="x")
    schedule = session.schedule(NEVER_SOON, "SAY one", agent=agent)
    schedule.pause()
    assert (schedule.paused, schedule.next_run_at) == (True, None)
    assert schedule.next_runs(1) == [datetime(2028, 2, 29, tzinfo=UTC)]
    assert schedule.trigger().result(timeout=30) == "one"
    assert schedule.refresh().info.runs == 1
    schedule.update(message="SAY two", missed="run_once", overlap="queue", cron="0 9 * * *")
    assert (schedule.paused, schedule.info.missed, schedule.info.overlap) == (True, "run_once", "queue")
    schedule.resume()
    assert schedule.next_run_at is not None
    assert schedule.next_run_at - datetime.now(UTC) < timedelta(days=1, minutes=1)
    assert schedule.trigger(idempotency_key="k").id == schedule.trigger(idempotency_key="k").id
    wait_until(lambda: answers(session) == ["one", "two"], description="two answers", timeout=30)
    other = session.Agent("Writer", instructions="y")
    schedule.update(agent=other, timezone="America/New_York")
    assert (schedule.info.agent, schedule.info.timezone, schedule.info.message) == (
        "Writer", "America/New_York", "SAY two",
    )  # fmt: skip
    assert schedule.delete()
    assert not schedule.delete()
    assert session.schedules() == []
    for use in (schedule.refresh, schedule.pause, schedule.trigger, schedule.next_runs):
        with pytest.raises(ScheduleNotFound):
            use()


def test_what_cannot_be_scheduled_is_refused(opened: Callable[..., Session]) -> None:
    """The error says what to use instead; the same schedule again is no error."""
    session = opened()
    agent = session.Agent("Clerk", instructions="x")
    for arguments, says in (
        ({"cron": "0 9 * *"}, "4 fields"),
        ({"timezone": "Mars/Olympus"}, "not known"),
        ({"missed": "later"}, "'skip' or 'run_once'"),
        ({"overlap": "later"}, "'skip' or 'queue'"),
        ({"schedule_id": "a b"}, "schedule_id"),
        ({"message": " "}, "message"),
    ):
        with pytest.raises(BadRequest, match=says):
            session.schedule(**{"cron": "0 9 * * *", "message": "SAY x", "agent": agent, **arguments})  # type: ignore[arg-type]
    with pytest.raises((UnknownAgent, NotFound)):
        session.schedule("0 9 * * *", "SAY x", agent=session.Agent("nobody-registered-this", registered=True))
    made = [session.schedule("0 9 * * *", "SAY x", agent=agent, schedule_id="a") for _ in range(2)]
    assert made[0].info == made[1].info
    with pytest.raises(ScheduleExists):
        session.schedule("0 10 * * *", "SAY x", agent=agent, schedule_id="a")
    assert len(session.schedules()) == 1


def test_schedules_are_the_owners(opened: Callable[..., Session]) -> None:
    """Another user sees none of them; one that the owner lets read sees them, and changes none."""
    session = opened(user_id="ann")
    schedule = session.schedule("0 9 * * *", "SAY x", agent=session.Agent("Clerk", instructions="x"), schedule_id="a")
    other = opened(session.session_id, user_id="bob")
    with pytest.raises(SessionOwnerError):
        other.schedules()
    session.share("bob", "read")
    theirs = other.get_schedule("a")
    assert theirs.info == schedule.info
    for use in (theirs.pause, theirs.trigger, theirs.delete):
        with pytest.raises(SessionOwnerError):
            use()
    checkpoint = session.save_state()
    schedule.update(overlap="queue")
    session.restore_state(checkpoint)
    assert schedule.refresh().info.overlap == "queue", "a checkpoint is of the state"
    forked = session.fork()
    assert forked.schedules() == []
    session.delete()
    with pytest.raises(ScheduleNotFound):
        schedule.refresh()


def test_tenants_see_nothing_of_each_other(fleet: Fleet) -> None:
    """The same session id in another tenant is another session."""
    one, two = (fleet.session("same-id", tenant=tenant) for tenant in ("acme", "other"))
    one.schedule("0 9 * * *", "SAY x", schedule_id="a")
    assert two.schedules() == []
    assert two.schedule("0 10 * * *", "SAY y", schedule_id="a").info.cron == "0 10 * * *"
    assert one.get_schedule("a").info.cron == "0 9 * * *"


async def test_the_async_forms(fleet: Fleet) -> None:
    """The same under names with an `a`."""
    session = fleet.session()
    schedule = await session.aschedule("0 9 * * *", "SAY x", agent="Assistant", schedule_id="a")
    await schedule.apause()
    await schedule.aresume()
    await schedule.aupdate(overlap="queue")
    assert len(await schedule.anext_runs(3)) == 3
    assert (await (await session.aget_schedule("a")).arefresh()).info == schedule.info
    assert [each.schedule_id for each in await session.aschedules()] == ["a"]
    assert (await schedule.atrigger()).id.startswith(session.session_id)
    assert await schedule.adelete()


def test_over_rest(http: httpx.Client, fleet: Fleet) -> None:
    """Create, show, list, change, trigger, delete; problems say what is wrong."""
    session_id = uuid.uuid4().hex
    base = f"/v1/sessions/{session_id}/schedules"
    agent = {"name": "Clerk", "instructions": "x"}
    body = {"schedule_id": "ä/1", "cron": NEVER_SOON, "timezone": "Europe/Berlin", "message": "SAY hi", "agent": agent}
    made = http.post(base, json=body)
    path = made.headers["location"]
    assert path == f"{base}/%C3%A4%2F1"
    assert good(made, 201)["next_run_at"] == "2028-02-28T23:00:00Z"
    assert good(http.post(base, json=body), 201) == made.json()
    problem(http.post(base, json={**body, "missed": "run_once"}), 409, "ScheduleExists")
    assert "4 fields" in problem(http.post(base, json={**body, "cron": "* * * *"}), 422, "BadRequest")["detail"]
    assert http.post(base, json={**body, "missed": "x"}).status_code == 422
    assert good(http.get(base))["schedules"] == [made.json()]
    assert good(http.get(f"{path}/runs", params={"count": 1}))["runs"] == ["2028-02-28T23:00:00Z"]
    paused = good(http.patch(path, json={"paused": True, "message": "SAY ho"}))
    assert (paused["paused"], paused["next_run_at"], paused["message"]) == (True, None, "SAY ho")
    turn = http.post(f"{path}/trigger", headers={"Prefer": "wait=20"})
    assert good(turn)["result"] == "ho"
    assert good(turn)["schedule_id"] == "ä/1"
    assert http.delete(path).status_code == 204
    problem(http.get(path), 404, "ScheduleNotFound")
    problem(http.delete(path), 404, "ScheduleNotFound")


def test_workers_that_die_at_each_tick(server: Server, tmp_path: Path) -> None:
    """Two workers, one of which is killed at each tick: every tick, and every turn for later, is one turn."""
    fleet = Fleet(tmp_path, server, {"SESSIONFLEET_LEASE": "2", "SESSIONFLEET_RESULT_TTL": "600"})
    try:
        fleet.start("a")
        fleet.start("b")
        fleet.ready()
        session = fleet.session()
        agent = session.Agent("Clerk", instructions="x")
        ids = [f"s{n}" for n in range(10)]
        schedules = [session.schedule(NEVER_SOON, f"SAY {name}", agent=agent, schedule_id=name) for name in ids]
        later = [agent.submit(f"SAY later {n}", not_before=1 + n / 2) for n in range(6)]
        for round_ in range(3):
            for name in ids:
                tick(fleet, session.session_id, name)
            time.sleep(0.05 * round_)
            fleet.workers[-2].kill()
            fleet.start(f"w{round_}")
            for schedule in schedules:
                ran(schedule, round_ + 1)
        assert [turn.result(timeout=30) for turn in later] == [f"later {n}" for n in range(6)]
        found = answers(session)
        assert sorted(found) == sorted([*ids * 3, *(f"later {n}" for n in range(6))])
        assert [schedule.refresh().info.skipped_runs for schedule in schedules] == [0] * len(ids)
    finally:
        fleet.close()
