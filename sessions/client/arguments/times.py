"""Checks of points in time: when a turn is to begin."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from typing import Final

from sessions.errors import BadRequest

FURTHEST: Final = 366 * 86400.0
"""Seconds: how far ahead a turn may be scheduled."""


def start_time(name: str, value: object) -> datetime | float:
    """Check the time before which a turn does not begin: a datetime with a time zone, or seconds from now.

    A time in the past is allowed: the turn begins when its turn comes.

    Raises:
        BadRequest: it is neither, or more than a year ahead.
    """
    if isinstance(value, datetime):
        if value.tzinfo is None or value.utcoffset() is None:
            raise BadRequest(
                f"{name} {value.isoformat()!r} has no time zone, so it is another moment on each machine: pass an "
                "aware datetime, such as datetime.now(UTC) + timedelta(hours=1)"
            )
        _refuse_far(name, value, (value - datetime.now(UTC)).total_seconds())
        return value
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or value < 0:
        raise BadRequest(f"{name} {value!r}: use a datetime with a time zone, or a number of seconds from now")
    _refuse_far(name, value, value)
    return float(value)


def _refuse_far(name: str, value: object, ahead: float) -> None:
    if ahead > FURTHEST:
        raise BadRequest(f"{name} {str(value)!r} is more than {FURTHEST / 86400:g} days ahead, which is the limit")
