"""Moments that a command takes: a time, or how long ago."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Final

from sessions.errors import BadRequest

WHEN: Final = "A time such as 2026-11-26T12:00+01:00, or an age such as 30d, 12h, 5min."
_UNITS: Final = {"s": 1, "min": 60, "h": 3600, "d": 86400}
_AGE: Final = re.compile(r"(?P<number>\d+)(?P<unit>s|min|h|d)\Z")


def time_of(option: str, text: str) -> datetime:
    """The moment that an option means.

    Raises:
        BadRequest: it is neither a time nor an age.
    """
    if age := _AGE.match(text):
        return datetime.now(UTC) - timedelta(seconds=int(age["number"]) * _UNITS[age["unit"]])
    try:
        return datetime.fromisoformat(text).astimezone()
    except ValueError:
        raise BadRequest(f"{option} {text!r}: use {WHEN[0].lower()}{WHEN[1:]}") from None
