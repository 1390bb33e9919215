"""The transitions of a session's schedules. A tick that becomes a turn is part of `accept_turn`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from sessions.store.binding import transition
from sessions.store.transitions.shared import Full, Missing, OtherOwner


@dataclass(frozen=True, slots=True)
class Put:
    """The schedule is written, with this revision."""

    revision: int


@dataclass(frozen=True, slots=True)
class Exists:
    """Nothing was written: there is a schedule of this id."""


@dataclass(frozen=True, slots=True)
class Changed:
    """Nothing was written: the schedule was changed since it was read."""


@transition
def put_schedule(
    *,
    operation: str,
    schedule: str,
    revision: int | None,
    user: str | None,
    job: bytes,
    rules: str,
    next_ms: int | str | None,
    most: int,
    queue: str,
    session_ttl_ms: int | None,
) -> Put | Exists | Changed | Missing | Full | OtherOwner:
    """Create a schedule, or change one."""


@dataclass(frozen=True, slots=True)
class Removed:
    """This many schedules were removed: one, or none."""

    count: int


@transition
def remove_schedule(*, schedule: str, user: str | None) -> Removed | OtherOwner:
    """Remove a schedule."""


@dataclass(frozen=True, slots=True)
class Noted:
    """The ticks have passed without a turn."""


@dataclass(frozen=True, slots=True)
class Passed:
    """Nothing was written: the schedule is not due for this tick."""


@transition
def pass_tick(*, schedule: str, due_ms: int, next_ms: int | None, missed: int) -> Noted | Passed:
    """Let ticks of a schedule pass without a turn."""


class StoredSchedule(NamedTuple):
    """A schedule as it is stored."""

    schedule_id: str
    job: bytes
    state: bytes
    due_ms: int | None
    last_status: str | None


@dataclass(frozen=True, slots=True)
class SchedulesFound:
    """The session's schedules, and the store's time."""

    now_ms: int
    schedules: tuple[tuple[str, bytes, bytes, int | None, str | None], ...]


@transition
def read_schedules(*, schedule: str | None) -> SchedulesFound:
    """Read one schedule of a session, or all."""
