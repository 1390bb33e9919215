"""Requests for what was used. Checked here, for both back ends."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Final, Self, get_args

from sessions.errors import BadRequest
from sessions.protocol.usage import UsageDimension

LONGEST_RANGE: Final = 400
"""Days."""
TOTAL: Final = "total"
_DIMENSIONS: Final[tuple[UsageDimension, ...]] = get_args(UsageDimension)


@dataclass(frozen=True, slots=True)
class UsageQuery:
    """The days whose usage is wanted, both included, and what to keep apart."""

    since: date
    until: date
    by: tuple[UsageDimension, ...]

    @classmethod
    def of(cls, since: object, until: object, by: object) -> Self:
        """The request of `Session.usage`; by default today.

        Raises:
            BadRequest: an argument cannot be used.
        """
        last = datetime.now(UTC).date() if until is None else _day("until", until)
        first = last if since is None else _day("since", since)
        if not timedelta(0) <= last - first < timedelta(days=LONGEST_RANGE):
            raise BadRequest(f"since={first}, until={last}: use 1 to {LONGEST_RANGE} days, the first one first")
        return cls(first, last, _dimensions(by))


def dimensions_in(text: str) -> tuple[UsageDimension, ...]:
    """What to keep apart, as one text: `day,model`, or `total` for nothing.

    Raises:
        BadRequest: it is not of this form.
    """
    return () if text == TOTAL else _dimensions(text.split(","))


def _day(name: str, value: object) -> date:
    if isinstance(value, datetime) or not isinstance(value, date):
        raise BadRequest(f"{name}={value!r}: use a date, such as date(2026, 11, 30); days are in UTC")
    return value


def _dimensions(by: object) -> tuple[UsageDimension, ...]:
    wanted = [by] if isinstance(by, str) else by
    if not isinstance(wanted, Iterable) or not set(found := tuple(wanted)) <= set(_DIMENSIONS):
        raise BadRequest(f"by={by!r}: use any of {', '.join(map(repr, _DIMENSIONS))}")
    return tuple(each for each in _DIMENSIONS if each in found)
