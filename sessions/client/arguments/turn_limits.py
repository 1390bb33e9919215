"""Checks of limits that a message or an agent sets for its turns."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Final

from sessions.errors import BadRequest
from sessions.protocol.turn_limits import TurnLimits

MOST_CALLS: Final = 1_000_000


def turn_limits(max_model_calls: object, max_tool_calls: object, budget: object) -> TurnLimits | None:
    """The limits of a turn; None if none is given.

    Raises:
        BadRequest: one is not a number in its range.
    """
    tokens, cost = _budget(budget)
    limits = TurnLimits(
        model_calls=_whole("max_model_calls", max_model_calls, least=1),
        tool_calls=_whole("max_tool_calls", max_tool_calls, least=0),
        tokens=tokens,
        cost=cost,
    )
    return limits if limits.given else None


def _budget(value: object) -> tuple[int | None, float | None]:
    """A turn's budget, in tokens and in US dollars."""
    if value is None:
        return None, None
    if not isinstance(value, Mapping) or not value or not set(value) <= {"tokens", "cost"}:
        raise BadRequest(f'budget={value!r}: use {{"tokens": ..., "cost": ...}}, one or both; cost is in US dollars')
    tokens, cost = value.get("tokens"), value.get("cost")
    if tokens is not None and (isinstance(tokens, bool) or not isinstance(tokens, int) or tokens < 0):
        raise BadRequest(f"budget: tokens is {tokens!r}; use a whole number, 0 or more")
    if cost is not None and (isinstance(cost, bool) or not isinstance(cost, int | float) or not 0 <= cost < math.inf):
        raise BadRequest(f"budget: cost is {cost!r}; use US dollars, 0 or more")
    return tokens, None if cost is None else float(cost)


def _whole(name: str, value: object, least: int) -> int | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= MOST_CALLS:
        raise BadRequest(f"{name}={value!r}: use a whole number from {least} to {MOST_CALLS:,}, or None for no limit")
    return value
