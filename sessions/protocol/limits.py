"""What a turn may do at most."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class TurnLimits(BaseModel):
    """The most model calls and tool calls of a turn; None for no limit."""

    model_config = ConfigDict(frozen=True)

    model_calls: int | None = None
    tool_calls: int | None = None

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


def _smaller(one: int | None, other: int | None) -> int | None:
    found = [value for value in (one, other) if value is not None]
    return min(found, default=None)


NO_LIMITS = TurnLimits()
