"""When a schedule is due: cron expressions in time zones, and what to do about ticks that have passed.

Everything here is a function of its arguments: no clock is read. Times are milliseconds since the epoch; the caller has
them from the store.

An expression means what it means to Debian's cron, as cronsim implements it. If the clocks go forward over a tick, it
is at the first minute after the gap. If they go back, a tick at a given hour is once, at the first of the two times,
and one whose minute or hour begins with `*` is at each minute that matches.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from enum import StrEnum
from typing import Final

from sessions.errors import BadRequest

LATE_MS: Final = 60_000
"""A tick that no worker has acted on for this long was missed."""
_LONGEST: Final = 256
_FIELDS: Final = 5
_COUNTED: Final = 1000
_SECOND: Final = timedelta(seconds=1)
_DAY: Final = timedelta(days=1)
_WINDOWS: Final = (timedelta(hours=1), _DAY, timedelta(days=32), timedelta(days=400))


class Missed(StrEnum):
    """What to do about ticks at whose time no worker ran."""

    SKIP = "skip"  # wait for the next tick
    RUN_ONCE = "run_once"  # one turn for all of them


class Overlap(StrEnum):
    """What to do about a tick if the turn of the previous one is still open."""

    SKIP = "skip"  # no turn for this tick
    QUEUE = "queue"  # another turn, which waits for its place


@dataclass(frozen=True, slots=True)
class Cron:
    """A cron expression with five fields, in a time zone."""

    expression: str
    timezone: str = "UTC"

    @classmethod
    def checked(cls, expression: object, timezone: object, now_ms: int) -> Cron:
        """The schedule, if it has a tick after this time.

        Raises:
            BadRequest: it is not an expression, or not a time zone, or it is never due.
        """
        if not isinstance(expression, str) or not 0 < len(expression) <= _LONGEST:
            raise BadRequest(f"cron {expression!r}: use an expression such as '0 9 * * 1-5'")
        if len(expression.split()) != _FIELDS:
            raise BadRequest(
                f"cron {expression!r} has {len(expression.split())} fields: use five, for minute, hour, day of the "
                "month, month and day of the week"
            )
        if not isinstance(timezone, str):
            raise BadRequest(f"timezone {timezone!r}: use a name such as 'Europe/Berlin'")
        cron = cls(" ".join(expression.split()), timezone)
        zone_of(timezone)
        if cron.after(now_ms) is None:
            raise BadRequest(f"cron {expression!r} is never due: no date matches it")
        return cron

    def after(self, ms: int) -> int | None:
        """The first tick after this time; None if there is none within 50 years.

        Raises:
            BadRequest: it is not an expression, or this machine does not know the time zone.
        """
        zone, since = zone_of(self.timezone), datetime.fromtimestamp(ms // 1000, UTC)
        ticks = self._every_minute(zone, since) if self._by_minute else self._of(zone, since)
        found = next((tick for tick in ticks if tick > since), None)
        return None if found is None else int(found.timestamp()) * 1000

    def runs(self, ms: int, count: int) -> list[int]:
        """The first ticks after this time."""
        found: list[int] = []
        while len(found) < count and (tick := self.after(found[-1] if found else ms)) is not None:
            found.append(tick)
        return found

    @property
    def _by_minute(self) -> bool:
        """Whether it is due at each minute that matches, also while the clocks are changed."""
        minute, hour = self.expression.split()[:2]
        return minute.startswith("*") or hour.startswith("*")

    def _of(self, zone: tzinfo, since: datetime) -> Iterator[datetime]:
        """Cronsim's ticks. The first ones may be before `since`, if the clocks were just set back."""
        from cronsim import CronSim  # noqa: PLC0415 - only programs with schedules need it

        try:
            for tick in CronSim(self.expression, since.astimezone(zone)):
                yield tick.astimezone(UTC)
        except Exception as error:
            raise BadRequest(f"cron {self.expression!r} is not a cron expression: {error}") from error

    def _every_minute(self, zone: tzinfo, since: datetime) -> Iterator[datetime]:
        """The ticks, computed between two changes of the clocks at a time, as if there were none.

        Across a change of half an hour (Lord Howe Island), cronsim would leave out ticks.
        """
        while True:
            offset = (since + _SECOND).astimezone(zone).utcoffset() or timedelta()
            for tick in self._of(timezone(offset), since):
                change = _change(zone, since + _SECOND, tick)
                if change is not None:
                    since = change - _SECOND  # a tick may be at the very second of the change
                    break
                yield tick
                since = tick
            else:
                return


def _change(zone: tzinfo, since: datetime, until: datetime) -> datetime | None:
    """The first second after `since`, and not after `until`, at which the zone's offset is another."""

    def offset(at: datetime) -> timedelta | None:
        return at.astimezone(zone).utcoffset()

    first, low = offset(since), since
    while low < until:
        high = min(low + _DAY, until)
        if offset(high) != first:
            while high - low > _SECOND:
                middle = low + (high - low) // 2 // _SECOND * _SECOND
                low, high = (middle, high) if offset(middle) == first else (low, middle)
            return high
        low = high
    return None


def zone_of(name: str) -> tzinfo:
    """A time zone by its name in the IANA database: the machine's, else that of the package tzdata.

    Raises:
        BadRequest: there is none of this name.
    """
    from zoneinfo import ZoneInfo  # noqa: PLC0415 - only programs with schedules need it

    if name == "UTC":
        return UTC
    try:
        return ZoneInfo(name)
    except (ValueError, OSError, KeyError) as error:
        raise BadRequest(f"timezone {name!r} is not known: use a name such as 'Europe/Berlin' or 'UTC'") from error


@dataclass(frozen=True, slots=True)
class Decision:
    """What to do about the ticks of a schedule that have passed.

    Attributes:
        run_ms: the tick that is to become a turn; None for none.
        missed: how many other ticks have passed, counted up to a thousand.
        next_ms: when the schedule is due next; None for never.
    """

    run_ms: int | None
    missed: int
    next_ms: int | None


def decide(cron: Cron, missed: Missed, due_ms: int, now_ms: int) -> Decision:
    """What to do at this time about a schedule that has been due since `due_ms`.

    Only the newest tick can become a turn: if it is not late, or if a turn is to make up for what was missed.
    """
    newest, passed, upcoming = due_ms, 0, cron.after(due_ms)
    while upcoming is not None and upcoming <= now_ms:
        newest, passed = upcoming, passed + 1
        if passed == _COUNTED:
            newest = _newest(cron, newest, now_ms)
            upcoming = cron.after(now_ms)
            break
        upcoming = cron.after(newest)
    if missed is Missed.RUN_ONCE or now_ms - newest <= LATE_MS:
        return Decision(newest, passed, upcoming)
    return Decision(None, passed + 1, upcoming)


def _newest(cron: Cron, newest: int, now_ms: int) -> int:
    """The newest tick up to this time, without going through all of them."""
    for window in _WINDOWS:
        tick = cron.after(max(newest, now_ms - int(window / _SECOND) * 1000))
        if tick is not None and tick <= now_ms:
            break
    else:
        tick = cron.after(newest)
    while tick is not None and tick <= now_ms:
        newest, tick = tick, cron.after(tick)
    return newest
