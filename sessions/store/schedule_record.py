"""A schedule as it is stored: its job, which is encrypted, and its state, which scripts read and change."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict, ValidationError

from sessions.errors import CorruptRecord
from sessions.protocol.agent import AgentConfig
from sessions.protocol.cron import Cron, Missed, Overlap
from sessions.protocol.turn import TurnRequest, TurnStatus
from sessions.protocol.version import WIRE_VERSION, WireVersion
from sessions.store.submission import ScheduleTick, Submission


class Job(BaseModel):
    """What is sent at each tick: everything of a `Submission` that does not depend on the tick."""

    model_config = ConfigDict(frozen=True)

    v: WireVersion = WIRE_VERSION
    request: TurnRequest
    agent: AgentConfig
    config: str = ""
    named: bool = False
    user_id: str | None = None
    queue: str = "turns"
    timeout: float
    waiting_blocks: bool = True
    approval_timeout: float
    webhook: str = ""

    @classmethod
    def of(cls, submission: Submission) -> Job:
        """The job that sends this again and again."""
        return cls(
            request=submission.request,
            agent=submission.agent or AgentConfig(name=submission.request.agent),
            config=submission.config.decode(),
            named=submission.named,
            user_id=submission.user_id,
            queue=submission.queue,
            timeout=submission.timeout,
            waiting_blocks=submission.waiting_blocks,
            approval_timeout=submission.approval_timeout,
            webhook=submission.webhook,
        )

    def submission(self, tick: ScheduleTick, part: str | None = None, idempotency_key: str | None = None) -> Submission:
        """The turn of a tick; `part` is that of its id, a new one if None."""
        made = Submission(
            request=self.request,
            agent=self.agent,
            config=self.config.encode(),
            named=self.named,
            user_id=self.user_id,
            queue=self.queue,
            timeout=self.timeout,
            waiting_blocks=self.waiting_blocks,
            approval_timeout=self.approval_timeout,
            webhook=self.webhook,
            idempotency_key=idempotency_key,
            tick=tick,
        )
        return made if part is None else made.with_part(part)


class ScheduleState(BaseModel):
    """The rules of a schedule, and what became of its ticks. Times in milliseconds since the epoch, by the store."""

    model_config = ConfigDict(frozen=True)

    cron: str
    timezone: str
    missed: Missed
    overlap: Overlap
    paused: bool
    created: int
    made_by: str
    revision: int
    runs: int
    missed_runs: int
    skipped_runs: int
    last_turn: str | None = None
    last_run: int | None = None
    last_skipped: int | None = None
    last_skip_reason: str | None = None


@dataclass(frozen=True, slots=True)
class ScheduleRecord:
    """A schedule.

    Attributes:
        next_ms: its next tick; None if it is paused, or never due again.
        last_turn: id of the last turn, last_status: its status, None once its record expired.
        now_ms: the store's time when this was read.
    """

    schedule_id: str
    job: Job
    state: ScheduleState
    next_ms: int | None
    last_turn: str | None
    last_status: TurnStatus | None
    now_ms: int

    @property
    def cron(self) -> Cron:
        """When it is due."""
        return Cron(self.state.cron, self.state.timezone)

    def turn_part(self, tick_ms: int) -> str:
        """The part of the turn's id for a tick: the same on every worker, and another for another schedule."""
        return hashlib.sha256(f"tick {self.state.made_by} {tick_ms}".encode()).hexdigest()[:32]


def read_state(schedule_id: str, raw: bytes) -> ScheduleState:
    """A schedule's state.

    Raises:
        CorruptRecord: it cannot be read.
    """
    try:
        return ScheduleState.model_validate_json(raw)
    except ValidationError as error:
        raise CorruptRecord(f"schedule {schedule_id!r} cannot be read: {error}") from error


def read_job(schedule_id: str, raw: bytes) -> Job:
    """A schedule's job.

    Raises:
        CorruptRecord: it cannot be read.
    """
    try:
        return Job.model_validate_json(raw)
    except ValidationError as error:
        raise CorruptRecord(f"the job of schedule {schedule_id!r} cannot be read: {error}") from error
