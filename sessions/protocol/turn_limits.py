"""What a turn may do at most."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class TurnLimits(BaseModel):
    """The most that a turn may do; None for no limit.

    Attributes:
        tokens, cost: its budget: input and output tokens, and US dollars.
    """

    model_config = ConfigDict(frozen=True)

    model_calls: int | None = None
    tool_calls: int | None = None
    tokens: int | None = None
    cost: float | None = None

    @property
    def given(self) -> bool:
        """Whether it limits anything."""
        return self != NO_LIMITS

    def and_also(self, other: TurnLimits | None) -> TurnLimits:
        """The limits of both: of each, the smaller one."""
        if other is None:
            return self
        mine, theirs = dict(self), dict(other)
        return TurnLimits(**{name: _smaller(mine[name], theirs[name]) for name in mine})


def _smaller(one: float | None, other: float | None) -> float | None:
    found = [value for value in (one, other) if value is not None]
    return min(found, default=None)


NO_LIMITS = TurnLimits()
