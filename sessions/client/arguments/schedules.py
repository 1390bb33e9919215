"""Requests about schedules. Their arguments are checked here, once, for both back ends."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Final, Self

import uuid_utils

from broker_config.names import name_problem
from sessions.client.arguments.values import boolean, message_text
from sessions.errors import BadRequest
from sessions.protocol.cron import Cron, Missed, Overlap
from sessions.store.submission import Submission

LONGEST_SCHEDULE_ID: Final = 64
MOST_RUNS: Final = 1000


@dataclass(frozen=True, slots=True)
class NewSchedule:
    """A schedule to create.

    Attributes:
        submission: what each tick sends.
    """

    schedule_id: str
    cron: Cron
    missed: Missed
    overlap: Overlap
    submission: Submission

    @classmethod
    def of(
        cls,
        submission: Submission,
        schedule_id: object,
        cron: object,
        timezone: object,
        missed: object,
        overlap: object,
    ) -> Self:
        """The request of `schedule`.

        Raises:
            BadRequest: an argument cannot be used.
        """
        return cls(
            schedule_id=str(uuid_utils.uuid4().hex) if schedule_id is None else schedule_name(schedule_id),
            cron=Cron.checked(cron, timezone, int(time.time() * 1000)),
            missed=missed_named(missed),
            overlap=overlap_named(overlap),
            submission=submission,
        )


@dataclass(frozen=True, slots=True)
class ScheduleChange:
    """What to change in a schedule; None leaves it as it is.

    Attributes:
        agent: a submission to the new agent; of it only the agent counts.
    """

    cron: str | None = None
    timezone: str | None = None
    missed: Missed | None = None
    overlap: Overlap | None = None
    paused: bool | None = None
    message: str | None = None
    agent: Submission | None = None

    @classmethod
    def of(
        cls,
        cron: object,
        timezone: object,
        missed: object,
        overlap: object,
        paused: object,
        message: object,
        agent: Submission | None,
    ) -> Self:
        """The request of `Schedule.update`.

        Raises:
            BadRequest: an argument cannot be used.
        """
        if cron is not None or timezone is not None:
            known = "* * * * *" if cron is None else cron
            Cron.checked(known, "UTC" if timezone is None else timezone, int(time.time() * 1000))
        return cls(
            cron=None if cron is None else str(cron),
            timezone=None if timezone is None else str(timezone),
            missed=None if missed is None else missed_named(missed),
            overlap=None if overlap is None else overlap_named(overlap),
            paused=None if paused is None else boolean("paused", paused),
            message=None if message is None else message_text(message),
            agent=agent,
        )


def schedule_name(value: object) -> str:
    """Check a schedule's id.

    Raises:
        BadRequest: it is not a string of 1 to 64 allowed characters.
    """
    if problem := name_problem(value, LONGEST_SCHEDULE_ID):
        raise BadRequest(f"schedule_id {value!r}: {problem}")
    return str(value)


def missed_named(value: object) -> Missed:
    """Check what to do about missed ticks.

    Raises:
        BadRequest: there is no such rule.
    """
    try:
        return Missed(str(value))
    except ValueError:
        raise BadRequest(f"missed {value!r}: use 'skip' or 'run_once'") from None


def overlap_named(value: object) -> Overlap:
    """Check what to do about overlapping ticks.

    Raises:
        BadRequest: there is no such rule.
    """
    try:
        return Overlap(str(value))
    except ValueError:
        raise BadRequest(f"overlap {value!r}: use 'skip' or 'queue'") from None


def run_count(value: object) -> int:
    """Check a number of runs to list.

    Raises:
        BadRequest: it is not an integer from 1 to 1,000.
    """
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= MOST_RUNS:
        raise BadRequest(f"next_runs({value!r}): use a number from 1 to {MOST_RUNS}")
    return value
