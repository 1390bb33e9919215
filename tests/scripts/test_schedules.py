"""Schedules in the store: a tick is one turn, whoever acts on it and how often."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from broker_config.settings import Settings
from sessions.errors import BadRequest, ScheduleExists, ScheduleNotFound, SealError, SessionOwnerError
from sessions.protocol.agent import AgentConfig
from sessions.protocol.cron import Cron, Missed, Overlap
from sessions.protocol.turn import TurnRequest, TurnStatus
from sessions.store.resealing import Resealing
from sessions.store.schedule_record import Job, ScheduleRecord
from sessions.store.schedules import MOST, Rules, ScheduleStore
from sessions.store.sealing import KeyRing
from sessions.store.submission import ScheduleTick
from sessions.store.transitions import schedules as transitions
from sessions.store.transitions.fleet import rescue_partition
from tests.scripts.test_scheduled_turns import Schedule
from tests.scripts.test_scripts import OLD, PLACES, settings_for

HOURLY = Cron("0 * * * *")
ID = "report"


class Scheduled(Schedule):
    """A session, its schedules, and their clock: `tick` makes one due."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self.schedules = ScheduleStore(self.scripts, settings)

    def job(self, **options: Any) -> Job:
        request = TurnRequest(message="the report", agent="A")
        return Job(
            request=request, agent=AgentConfig(name="A"), config="{}", timeout=900, approval_timeout=60, **options
        )

    async def create(self, name: str = ID, *, ttl: float | None = None, **rules: Any) -> ScheduleRecord:
        made = {"cron": HOURLY, "missed": Missed.SKIP, "overlap": Overlap.SKIP, "paused": False, **rules}
        now = await self.schedules.now_ms(self.keys)
        return await self.schedules.create(self.keys, name, self.job(), Rules(**made), HOURLY.after(now), ttl)

    async def record(self, name: str = ID) -> ScheduleRecord:
        return await self.schedules.read(self.keys, name)

    async def due(self, *, ago_ms: int = 0, name: str = ID) -> int:
        """Make the schedule due, since this time; returns the tick."""
        at = await self.schedules.now_ms(self.keys) - ago_ms
        await self.client.zadd(f"{self.keys.base}:schedules:due", {name: at})
        await self.client.zadd(f"{self.keys.partition}:wakeups", {self.keys.ref: at})
        return at

    async def act(self) -> int:
        """As a worker does; returns how many wake-ups it would publish."""
        return len(await self.schedules.act(self.keys))

    async def run(self, nonce: str = "n") -> None:
        """A worker runs the turn at the head of the mailbox."""
        await self.commit(await self.begin(nonce))

    async def counts(self) -> tuple[int, int, int]:
        state = (await self.record()).state
        return state.runs, state.missed_runs, state.skipped_runs


@pytest.fixture(params=PLACES)
async def line(request: pytest.FixtureRequest) -> AsyncIterator[Scheduled]:
    line = Scheduled(settings_for(request))
    yield line
    await line.turns.delete_session(line.keys)
    assert all(":op:" in key for key in await line.left())
    await line.client.aclose()


async def test_a_tick_is_a_turn_and_the_schedule_is_due_again(line: Scheduled) -> None:
    """The turn has the message, its record names the schedule, and the index has the next tick."""
    made = await line.create()
    assert (made.next_ms, await line.score()) == (HOURLY.after(made.now_ms), made.next_ms)
    at = await line.due()
    assert await line.act() == 1
    begun = await line.begin()
    assert (json.loads(begun.request)["message"], begun.part) == ("the report", made.turn_part(at))
    record = await line.record()
    assert (record.last_turn, record.last_status) == (line.keys.public_id(begun.part), TurnStatus.RUNNING)
    assert (record.state.last_run, record.next_ms) == (at, HOURLY.after(record.now_ms))
    assert (await line.turns.read(line.keys, begun.part)).schedule_id == ID
    assert await line.counts() == (1, 0, 0)


async def test_a_rescuer_finds_it_while_a_turn_runs_or_none(line: Scheduled) -> None:
    """A lease does not hide a tick. It is found again until somebody acted on it."""
    await line.create(overlap=Overlap.QUEUE)

    async def ticking() -> bool:

        looked = await line.scripts.run(rescue_partition((line.keys.partition,), most=100))
        return line.keys.ref in looked.ticking

    await line.due()
    assert await ticking()
    await line.client.zadd(f"{line.keys.partition}:wakeups", {line.keys.ref: 1})
    assert await ticking(), "nobody has acted on it"
    await line.act()
    await line.begin()
    await line.due()
    assert await ticking(), "while a turn runs"
    assert await line.act() == 0, "the worker that has the lease needs no wake-up"
    assert len(await line.mailbox()) == 2
    assert not await ticking()


async def test_many_workers_act_on_one_tick(line: Scheduled) -> None:
    """Twenty at the same time, each with what it read before: one turn, and nothing else."""
    await line.create(overlap=Overlap.QUEUE)
    for round_ in range(5):
        await line.due(ago_ms=1000 * round_)
        await asyncio.gather(*(ScheduleStore(line.scripts, line.settings).act(line.keys) for _ in range(20)))
    assert len(await line.mailbox()) == 5
    assert await line.counts() == (5, 0, 0)


async def test_a_tick_that_comes_again_is_not_run_again(line: Scheduled) -> None:
    """The clock was set back, and somebody resumed the schedule: it goes on with the tick after."""
    await line.create(overlap=Overlap.QUEUE)
    at = await line.due()
    await line.act()
    await line.client.zadd(f"{line.keys.base}:schedules:due", {ID: at})
    await line.act()
    record = await line.record()
    assert (await line.counts(), record.next_ms) == ((1, 0, 0), HOURLY.after(record.now_ms))
    assert len(await line.mailbox()) == 1


async def test_a_worker_that_comes_back_late_changes_nothing(line: Scheduled) -> None:
    """It read the schedule, was stopped, and acts when another one has; its script sent twice is one turn, too."""
    await line.create(overlap=Overlap.QUEUE)
    at = await line.due()
    record = await line.record()
    tick = ScheduleTick(ID, due_ms=at, at_ms=at, next_ms=record.now_ms + 10**7)
    late = record.job.submission(tick, record.turn_part(at))
    await line.act()
    before = await line.record()
    await line.turns.accept(line.keys, late)  # its turn is there: the reply of a retry
    other = record.job.submission(tick, record.turn_part(at + 1))
    with pytest.raises(ScheduleNotFound):
        await line.turns.accept(line.keys, other)
    after = await line.record()
    assert (after.state, after.next_ms) == (before.state, before.next_ms)
    assert len(await line.mailbox()) == 1


@pytest.mark.parametrize(("missed", "turns"), [(Missed.SKIP, 0), (Missed.RUN_ONCE, 1)])
async def test_ticks_at_which_no_worker_ran(line: Scheduled, missed: Missed, turns: int) -> None:
    """Five hours without a worker: none of the ticks, or one turn for all."""
    await line.create(missed=missed)
    now = await line.schedules.now_ms(line.keys)
    first = (HOURLY.after(now - 6 * 3_600_000) or 0) - now
    await line.due(ago_ms=-first)
    ticks = len([1 for at in HOURLY.runs(now + first, 10) if at <= now]) + 1
    late = now - max(at for at in [now + first, *HOURLY.runs(now + first, 10)] if at <= now)
    on_time = late <= 60_000  # the test runs in the first minute of an hour
    await line.act()
    runs = 1 if on_time else turns
    assert await line.counts() == (runs, ticks - runs, 0)
    assert (await line.record()).next_ms == HOURLY.after(now)


async def test_overlapping_ticks(line: Scheduled) -> None:
    """`skip` records that it skipped while the previous turn is open; afterwards it runs again."""
    await line.create()
    await line.due()
    await line.act()
    at = await line.due()
    assert await line.act() == 0
    state = (await line.record()).state
    assert (state.last_skipped, state.last_skip_reason) == (at, "overlap")
    assert await line.counts() == (1, 0, 1)
    await line.run()
    await line.due()
    assert await line.act() == 1
    assert await line.counts() == (2, 0, 1)


async def test_a_full_mailbox_skips_the_tick(line: Scheduled) -> None:
    """It is recorded, and the schedule goes on."""
    line.schedules = ScheduleStore(line.scripts, line.settings.model_copy(update={"mailbox_limit": 1}))
    await line.create()
    await line.send()
    await line.due()
    await line.act()
    record = await line.record()
    assert (record.state.last_skip_reason, record.next_ms) == ("full", HOURLY.after(record.now_ms))


async def test_an_active_schedule_keeps_the_session(line: Scheduled) -> None:
    """As an open turn does; a paused or deleted one does not."""
    made = await line.create(ttl=60.0)
    keys = [line.keys.meta, line.keys.schedules, f"{line.keys.base}:schedules:state"]
    await line.due()
    await line.act()
    await line.run()
    assert [await line.client.pttl(key) for key in keys] == [-1, -1, -1]
    known = await line.record()
    paused = Rules(HOURLY, Missed.SKIP, Overlap.SKIP, paused=True)
    assert await line.schedules.change(line.keys, known, known.job, paused, None)
    assert all([0 < await line.client.pttl(key) <= 60_000 for key in keys])
    assert (await line.score(), (await line.record()).next_ms) == (None, None)
    known = await line.record()
    assert await line.schedules.change(line.keys, known, known.job, Rules.of(made.state), made.next_ms)
    assert [await line.client.pttl(key) for key in keys] == [-1, -1, -1]
    assert await line.schedules.remove(line.keys, ID, None)
    assert 0 < await line.client.pttl(line.keys.meta) <= 60_000
    assert await line.schedules.all(line.keys) == []


async def test_changes_at_the_same_time(line: Scheduled) -> None:
    """One of two that read the same revision changes it; a tick in between changes nothing of its rules."""
    await line.create()
    known = await line.record()
    await line.due()
    await line.act()
    job = line.job().model_copy(update={"timeout": 5.0})
    assert await line.schedules.change(line.keys, known, job, Rules.of(known.state), "keep")
    assert not await line.schedules.change(line.keys, known, known.job, Rules.of(known.state), "keep")
    record = await line.record()
    assert (record.job.timeout, record.state.runs, record.state.revision) == (5.0, 1, 2)
    await line.schedules.remove(line.keys, ID, None)
    with pytest.raises(ScheduleNotFound):
        await line.schedules.change(line.keys, record, job, Rules.of(record.state), "keep")


async def test_creating_it_again(line: Scheduled) -> None:
    """The same schedule is the same; another one under its id is refused; one made anew has other turns."""
    first = await line.create()
    assert (await line.create()).state == first.state
    with pytest.raises(ScheduleExists):
        await line.create(overlap=Overlap.QUEUE)
    await line.schedules.remove(line.keys, ID, None)
    assert (await line.create()).turn_part(1) != first.turn_part(1)


async def test_there_is_a_limit(line: Scheduled) -> None:
    """A session has so many schedules."""
    fields = {f"s{n}": "x" for n in range(MOST)}
    await line.client.hset(line.keys.schedules, mapping=fields)
    with pytest.raises(BadRequest, match="limit"):
        await line.create()


async def test_they_are_the_owners(line: Scheduled) -> None:
    """Another user can neither add, change nor remove one."""
    await line.send(user_id="ann")
    now = await line.schedules.now_ms(line.keys)
    rules = Rules(HOURLY, Missed.SKIP, Overlap.SKIP, paused=False)
    with pytest.raises(SessionOwnerError):
        await line.schedules.create(line.keys, ID, line.job(user_id="bob"), rules, HOURLY.after(now), None)
    await line.schedules.create(line.keys, ID, line.job(user_id="ann"), rules, HOURLY.after(now), None)
    with pytest.raises(SessionOwnerError):
        await line.schedules.remove(line.keys, ID, "bob")
    assert len(await line.schedules.all(line.keys)) == 1


async def test_a_lost_reply_changes_nothing(line: Scheduled) -> None:
    """The script sent again with the same operation says the same, and writes nothing."""
    await line.create()
    call = transitions.put_schedule(
        line.keys.pair, operation="op", schedule="b", revision=None, user=None, job=b"{}",
        rules='{"cron":"x"}', next_ms=5, most=10, queue="turns", session_ttl_ms=None,
    )  # fmt: skip
    assert [await line.scripts.run(call) for _ in range(2)] == [transitions.Put(1)] * 2
    passing = transitions.pass_tick(line.keys.pair, schedule="b", due_ms=5, next_ms=None, missed=2)
    replies = [await line.scripts.run(passing) for _ in range(2)]
    assert replies == [transitions.Noted(), transitions.Passed()]


@pytest.mark.parametrize("line", ["sealed"], indirect=True)
async def test_a_job_is_encrypted_and_reencrypted(line: Scheduled) -> None:
    """The message is readable with the key only; a worker without it lets the tick pass, and the schedule goes on."""
    await line.create()
    raw = await line.client.hget(line.keys.schedules, ID)
    assert b"report" not in raw
    without = line.settings.model_copy(update={"encryption_keys": None})
    with pytest.raises(SealError):
        await ScheduleStore(line.scripts, without).read(line.keys, ID)
    await line.due()
    await ScheduleStore(line.scripts, without).act(line.keys)
    assert await line.counts() == (0, 1, 0)
    new = "new:" + "A" * 43 + "="
    keyring = KeyRing.of(Settings(redis_url=line.settings.redis_url, encryption_keys=f"{new},{OLD}"))  # type: ignore[arg-type]
    done = await Resealing(line.scripts, line.client, keyring, line.settings.partitions).run(line.keys)
    assert (done.values, done.closed) == (1, {})
    assert keyring.current(await line.client.hget(line.keys.schedules, ID))
