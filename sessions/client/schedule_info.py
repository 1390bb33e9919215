"""A schedule as its users see it, from either back end."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from sessions.protocol.turn import TurnStatus
from sessions.store.schedule_record import ScheduleRecord


@dataclass(frozen=True, slots=True)
class ScheduleInfo:
    """A schedule: its rules, and what became of its ticks.

    Attributes:
        cron: the expression, interpreted in `timezone`.
        message: what each tick sends, and agent: the name of the agent it is sent to.
        missed: `skip` or `run_once`, for ticks at whose time no worker ran.
        overlap: `skip` or `queue`, for ticks while the previous one's turn is open.
        next_run_at: None while it is paused, and if no date matches any more.
        runs: how many turns it has become, triggered ones included.
        missed_runs: how many ticks had no turn because no worker ran.
        skipped_runs: how many had none because the previous turn was open, or the session's mailbox full.
        last_status: of the last turn; None once its record has expired.
        last_skip_reason: `overlap` or `full`.
    """

    schedule_id: str
    cron: str
    timezone: str
    message: str
    agent: str
    missed: str
    overlap: str
    paused: bool
    created_at: datetime
    next_run_at: datetime | None
    runs: int
    missed_runs: int
    skipped_runs: int
    last_run_at: datetime | None
    last_turn_id: str | None
    last_status: TurnStatus | None
    last_skipped_at: datetime | None
    last_skip_reason: str | None

    @classmethod
    def of(cls, record: ScheduleRecord) -> ScheduleInfo:
        """A stored schedule."""
        state = record.state
        return cls(
            schedule_id=record.schedule_id,
            cron=state.cron,
            timezone=state.timezone,
            message=record.job.request.message,
            agent=record.job.request.agent,
            missed=state.missed.value,
            overlap=state.overlap.value,
            paused=state.paused,
            created_at=_time(state.created),
            next_run_at=None if record.next_ms is None else _time(record.next_ms),
            runs=state.runs,
            missed_runs=state.missed_runs,
            skipped_runs=state.skipped_runs,
            last_run_at=None if state.last_run is None else _time(state.last_run),
            last_turn_id=record.last_turn,
            last_status=record.last_status,
            last_skipped_at=None if state.last_skipped is None else _time(state.last_skipped),
            last_skip_reason=state.last_skip_reason,
        )


def _time(ms: int) -> datetime:
    return datetime.fromtimestamp(ms / 1000, UTC)
