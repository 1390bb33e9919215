"""Checks of limits that a message or an agent sets for its turns."""

from __future__ import annotations

from typing import Final

from sessions.errors import BadRequest
from sessions.protocol.limits import TurnLimits

_MOST: Final = 1_000_000


def turn_limits(max_model_calls: object, max_tool_calls: object) -> TurnLimits | None:
    """The limits of a turn; None if none is given.

    Raises:
        BadRequest: one is not a whole number in its range.
    """
    limits = TurnLimits(
        model_calls=_whole("max_model_calls", max_model_calls, least=1),
        tool_calls=_whole("max_tool_calls", max_tool_calls, least=0),
    )
    return limits if limits.given else None


def _whole(name: str, value: object, least: int) -> int | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= _MOST:
        raise BadRequest(f"{name}={value!r}: use a whole number from {least} to {_MOST:,}, or None for no limit")
    return value
