"""A session's schedules in the fleet's store."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Final

from sessions.client.arguments.schedules import NewSchedule, ScheduleChange
from sessions.client.fleet_client import FleetClient
from sessions.client.ports import SessionRef
from sessions.client.schedule_info import ScheduleInfo
from sessions.errors import SessionBusy
from sessions.protocol.access import Access
from sessions.protocol.cron import Cron
from sessions.store.schedule_record import Job, ScheduleRecord
from sessions.store.schedules import KEEP, Rules
from sessions.store.submission import ScheduleTick

_TRIES: Final = 20


class LocalSchedules:
    """`ScheduleCalls` over the fleet's store."""

    def __init__(self, fleet: Callable[[], FleetClient]) -> None:
        self._fleet = fleet

    async def _checked(self, session: SessionRef, access: Access = "read") -> FleetClient:
        fleet = self._fleet()
        await fleet.ownership.check(session.keys, session.user_id, access)
        return fleet

    async def create(self, session: SessionRef, new: NewSchedule) -> ScheduleInfo:
        """Create a schedule; see `ScheduleMethods.aschedule`."""
        fleet = await self._checked(session, "write")
        await fleet.admission.admit(new.submission)
        schedules = fleet.stores.schedules
        rules = Rules(new.cron, new.missed, new.overlap, paused=False)
        next_ms = new.cron.after(await schedules.now_ms(session.keys))
        job = Job.of(new.submission)
        return ScheduleInfo.of(await schedules.create(session.keys, new.schedule_id, job, rules, next_ms, session.ttl))

    async def get(self, session: SessionRef, schedule_id: str) -> ScheduleInfo:
        """One schedule."""
        fleet = await self._checked(session)
        return ScheduleInfo.of(await fleet.stores.schedules.read(session.keys, schedule_id))

    async def all(self, session: SessionRef) -> list[ScheduleInfo]:
        """All schedules, in the order of their creation."""
        fleet = await self._checked(session)
        return [ScheduleInfo.of(record) for record in await fleet.stores.schedules.all(session.keys)]

    async def update(self, session: SessionRef, schedule_id: str, change: ScheduleChange) -> ScheduleInfo:
        """Change a schedule; see `Schedule.aupdate`."""
        fleet = await self._checked(session, "write")
        if change.agent is not None:
            await fleet.admission.admit(change.agent)
        schedules = fleet.stores.schedules
        for _ in range(_TRIES):
            known = await schedules.read(session.keys, schedule_id)
            rules = _rules(known, change)
            if await schedules.change(
                session.keys,
                known,
                _job(known.job, change, session.user_id),
                rules,
                _next_ms(known, rules),
                session.user_id,
            ):
                return ScheduleInfo.of(await schedules.read(session.keys, schedule_id))
        raise SessionBusy(f"schedule {schedule_id!r} is being changed by others all the time; try again later")

    async def trigger(self, session: SessionRef, schedule_id: str, idempotency_key: str | None) -> str:
        """Send what a tick sends, now; returns the turn's part of its id."""
        fleet = await self._checked(session, "write")
        record = await fleet.stores.schedules.read(session.keys, schedule_id)
        submission = record.job.submission(ScheduleTick(schedule_id), idempotency_key=idempotency_key)
        return await fleet.turns.submit(session.keys, replace(submission, sender=session.user_id))

    async def delete(self, session: SessionRef, schedule_id: str) -> bool:
        """Delete a schedule; returns whether it existed."""
        fleet = await self._checked(session, "write")
        return await fleet.stores.schedules.remove(session.keys, schedule_id, session.user_id)

    async def next_runs(self, session: SessionRef, schedule_id: str, count: int) -> list[datetime]:
        """The next ticks; of a paused schedule those that it would have."""
        fleet = await self._checked(session)
        record = await fleet.stores.schedules.read(session.keys, schedule_id)
        due = [] if record.next_ms is None else [record.next_ms]
        later = record.cron.runs(due[0] if due else record.now_ms, count - len(due))
        return [datetime.fromtimestamp(ms / 1000, UTC) for ms in [*due, *later]]


def _rules(known: ScheduleRecord, change: ScheduleChange) -> Rules:
    old = Rules.of(known.state)
    cron, zone = change.cron or old.cron.expression, change.timezone or old.cron.timezone
    return Rules(
        cron=old.cron if (cron, zone) == (old.cron.expression, old.cron.timezone) else _checked(cron, zone, known),
        missed=change.missed or old.missed,
        overlap=change.overlap or old.overlap,
        paused=old.paused if change.paused is None else change.paused,
    )


def _checked(cron: str, zone: str, known: ScheduleRecord) -> Cron:
    return Cron.checked(cron, zone, known.now_ms)


def _next_ms(known: ScheduleRecord, rules: Rules) -> int | str | None:
    """When it is due next. A tick that is due already, and that no worker has acted on, stays due."""
    if rules.paused:
        return None
    if rules.cron == known.cron and not known.state.paused:
        return KEEP
    return rules.cron.after(known.now_ms)


def _job(old: Job, change: ScheduleChange, user_id: str | None) -> Job:
    """What is sent from now on. Who changes that is the one who sends it: no user speaks for another one."""
    request, changes = old.request, dict[str, object]()
    if user_id is not None and (change.agent is not None or change.message is not None):
        changes = {"user_id": user_id}
    if change.agent is not None:
        new = Job.of(change.agent)
        request = request.model_copy(update={"agent": new.request.agent, "recalls": new.request.recalls})
        changes |= {"agent": new.agent, "config": new.config, "named": new.named}
    if change.message is not None:
        request = request.model_copy(update={"message": change.message})
    return old.model_copy(update={**changes, "request": request})
