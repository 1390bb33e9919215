"""The schedules of sessions: write, read and remove them, and turn their ticks into turns."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Final

import uuid_utils

from broker_config.settings import Settings
from broker_config.telemetry import get_logger
from sessions.errors import BadRequest, CorruptRecord, ScheduleExists, ScheduleNotFound, SealError
from sessions.protocol.access import refused
from sessions.protocol.cron import Cron, Decision, Missed, Overlap, decide
from sessions.protocol.turn import TurnStatus
from sessions.store.acceptance import acceptance
from sessions.store.keys import SessionKeys
from sessions.store.schedule_record import Job, ScheduleRecord, ScheduleState, read_job, read_state
from sessions.store.scripts import ScriptRunner
from sessions.store.sealing import KeyRing
from sessions.store.submission import ScheduleTick
from sessions.store.transitions import schedules as transitions
from sessions.store.transitions import turns
from sessions.store.transitions.shared import Full, Missing, OtherOwner
from sessions.store.wake_up import WakeUp

MOST: Final = 100
"""Schedules of one session."""
KEEP: Final = "keep"
"""For a change that leaves the next tick as it is."""
_log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Rules:
    """When a schedule is due, and what its ticks do."""

    cron: Cron
    missed: Missed
    overlap: Overlap
    paused: bool

    @property
    def as_json(self) -> str:
        """For the script."""
        return json.dumps(
            {
                "cron": self.cron.expression,
                "timezone": self.cron.timezone,
                "missed": self.missed,
                "overlap": self.overlap,
                "paused": self.paused,
            }
        )

    @classmethod
    def of(cls, state: ScheduleState) -> Rules:
        """Those of a schedule."""
        return cls(Cron(state.cron, state.timezone), state.missed, state.overlap, state.paused)


class ScheduleStore:
    """Schedules in the store. Jobs are encrypted and decrypted here."""

    def __init__(self, scripts: ScriptRunner, settings: Settings) -> None:
        self._scripts = scripts
        self._settings = settings
        self._keyring = KeyRing.of(settings)

    # --- for clients ------------------------------------------------------------------------------------

    async def now_ms(self, keys: SessionKeys) -> int:
        """The store's time."""
        return (await self._scripts.run(transitions.read_schedules((keys.base,), schedule="-"))).now_ms

    async def create(
        self, keys: SessionKeys, schedule_id: str, job: Job, rules: Rules, next_ms: int | None, ttl: float | None
    ) -> ScheduleRecord:
        """Create a schedule; creating the same one again has no effect.

        Raises:
            ScheduleExists: there is another one under this id. BadRequest: the session has as many as it may have.
            SessionOwnerError: the session belongs to another user.
        """
        reply = await self._put(keys, schedule_id, None, job, rules, next_ms, ttl, job.user_id)
        if isinstance(reply, transitions.Exists):
            known = await self.read(keys, schedule_id)
            if (known.job, Rules.of(known.state)) != (job, rules):
                raise ScheduleExists(f"schedule {schedule_id!r}: {ScheduleExists.__doc__}")
            return known
        return await self.read(keys, schedule_id)

    async def change(
        self,
        keys: SessionKeys,
        known: ScheduleRecord,
        job: Job,
        rules: Rules,
        next_ms: int | str | None,
        user_id: str | None = None,
    ) -> bool:
        """Change a schedule; False if it was changed meanwhile, and nothing was written.

        Raises:
            ScheduleNotFound: it was deleted. SessionOwnerError: the session belongs to another user.
        """
        reply = await self._put(keys, known.schedule_id, known.state.revision, job, rules, next_ms, None, user_id)
        return isinstance(reply, transitions.Put)

    async def _put(
        self,
        keys: SessionKeys,
        schedule_id: str,
        revision: int | None,
        job: Job,
        rules: Rules,
        next_ms: int | str | None,
        ttl: float | None,
        user_id: str | None,
    ) -> transitions.Put | transitions.Exists | transitions.Changed:
        call = transitions.put_schedule(
            keys.pair,
            operation=uuid_utils.uuid4().hex,
            schedule=schedule_id,
            revision=revision,
            user=user_id,
            job=self._keyring.seal(keys.schedules, schedule_id, job.model_dump_json().encode()),
            rules=rules.as_json,
            next_ms=next_ms,
            most=MOST,
            queue=job.queue,
            session_ttl_ms=None if ttl is None else int(ttl * 1000),
        )
        match await self._scripts.run(call):
            case OtherOwner():
                raise refused(keys.session_id, user_id)
            case Missing():
                raise _not_found(keys, schedule_id)
            case Full(count=count):
                raise BadRequest(
                    f"session {keys.session_id!r} has {count} schedules, which is the limit; delete those that it does "
                    "not need any more"
                )
            case reply:
                return reply

    async def read(self, keys: SessionKeys, schedule_id: str) -> ScheduleRecord:
        """One schedule.

        Raises:
            ScheduleNotFound: there is none. SealError, CorruptRecord: it cannot be read.
        """
        found = await self._stored(keys, schedule_id)
        if not found.schedules:
            raise _not_found(keys, schedule_id)
        return self._record(keys, transitions.StoredSchedule(*found.schedules[0]), found.now_ms)

    async def all(self, keys: SessionKeys) -> list[ScheduleRecord]:
        """All schedules of the session, in the order of their creation."""
        found = await self._stored(keys, None)
        records = [self._record(keys, transitions.StoredSchedule(*each), found.now_ms) for each in found.schedules]
        return sorted(records, key=lambda record: (record.state.created, record.schedule_id))

    async def remove(self, keys: SessionKeys, schedule_id: str, user_id: str | None) -> bool:
        """Remove a schedule; returns whether there was one.

        Raises:
            SessionOwnerError: the session belongs to another user.
        """
        reply = await self._scripts.run(transitions.remove_schedule(keys.pair, schedule=schedule_id, user=user_id))
        if isinstance(reply, OtherOwner):
            raise refused(keys.session_id, user_id)
        return reply.count > 0

    async def _stored(self, keys: SessionKeys, schedule_id: str | None) -> transitions.SchedulesFound:
        return await self._scripts.run(transitions.read_schedules((keys.base,), schedule=schedule_id))

    def _record(self, keys: SessionKeys, stored: transitions.StoredSchedule, now_ms: int) -> ScheduleRecord:
        job = self._keyring.open(keys.schedules, stored.schedule_id, stored.job)
        state = read_state(stored.schedule_id, stored.state)
        return ScheduleRecord(
            schedule_id=stored.schedule_id,
            job=read_job(stored.schedule_id, job),
            state=state,
            next_ms=stored.due_ms,
            last_turn=None if state.last_turn is None else keys.public_id(state.last_turn),
            last_status=None if stored.last_status is None else TurnStatus(stored.last_status),
            now_ms=now_ms,
        )

    # --- for workers ------------------------------------------------------------------------------------

    async def act(self, keys: SessionKeys) -> list[WakeUp]:
        """Act on the session's schedules that are due: accept a turn for each, or let the ticks pass.

        Any number of workers may do so at the same time: one of them acts on a tick, the others change nothing.

        Returns:
            The wake-ups to publish.

        Raises:
            BackendError: the store did not answer. What was not acted on stays due.
        """
        found = await self._stored(keys, None)
        stored = [transitions.StoredSchedule(*each) for each in found.schedules]
        due = [each for each in stored if each.due_ms is not None and each.due_ms <= found.now_ms]
        wake_ups = [
            await self._act(keys, each, found.now_ms) for each in sorted(due, key=lambda each: each.due_ms or 0)
        ]
        return [wake_up for wake_up in wake_ups if wake_up is not None]

    async def _act(self, keys: SessionKeys, stored: transitions.StoredSchedule, now_ms: int) -> WakeUp | None:
        try:
            state = read_state(stored.schedule_id, stored.state)
            decision = decide(Cron(state.cron, state.timezone), state.missed, stored.due_ms or 0, now_ms)
            if decision.run_ms is None:
                await self._pass(keys, stored, decision, decision.missed)
                return None
            try:
                record = self._record(keys, stored, now_ms)
            except (SealError, CorruptRecord) as error:
                _log.error("schedule_unreadable", session=keys.ref, schedule=stored.schedule_id, error=str(error))
                await self._pass(keys, stored, decision, decision.missed + 1)
                return None
            return await self._run(keys, record, decision)
        except (BadRequest, CorruptRecord) as error:  # for instance a time zone that this machine does not know
            _log.error("schedule_not_computed", session=keys.ref, schedule=stored.schedule_id, error=str(error))
            return None

    async def _run(self, keys: SessionKeys, record: ScheduleRecord, decision: Decision) -> WakeUp | None:
        assert decision.run_ms is not None  # noqa: S101 - the caller has checked it
        tick = ScheduleTick(
            schedule_id=record.schedule_id,
            due_ms=record.next_ms,
            at_ms=decision.run_ms,
            next_ms=decision.next_ms,
            missed=decision.missed,
            overlap=record.state.overlap,
        )
        submission = record.job.submission(tick, record.turn_part(decision.run_ms))
        reply: Any = await self._scripts.run(acceptance(self._settings, self._keyring, keys, submission, ""))
        match reply:
            case turns.Accepted(wake=wake):
                _log.info("schedule_ran", session=keys.ref, schedule=record.schedule_id, turn=submission.part)
                return WakeUp.of(keys, reply.queue, reply.now_ms) if wake else None
            case turns.Skipped(why=why):
                _log.info("schedule_skipped", session=keys.ref, schedule=record.schedule_id, why=why)
            case OtherOwner():  # the owner does not share the session with that user any more
                _log.warning("schedule_refused", session=keys.ref, schedule=record.schedule_id)
                call = transitions.pass_tick(
                    keys.pair,
                    schedule=record.schedule_id,
                    due_ms=record.next_ms or 0,
                    next_ms=decision.next_ms,
                    missed=decision.missed + 1,
                )
                await self._scripts.run(call)
        return None

    async def _pass(
        self, keys: SessionKeys, stored: transitions.StoredSchedule, decision: Decision, missed: int
    ) -> None:
        call = transitions.pass_tick(
            keys.pair,
            schedule=stored.schedule_id,
            due_ms=stored.due_ms or 0,
            next_ms=decision.next_ms,
            missed=missed,
        )
        await self._scripts.run(call)
        _log.warning("schedule_missed", session=keys.ref, schedule=stored.schedule_id, ticks=missed)


def _not_found(keys: SessionKeys, schedule_id: str) -> ScheduleNotFound:
    return ScheduleNotFound(f"session {keys.session_id!r} has no schedule {schedule_id!r}; it may have been deleted")
