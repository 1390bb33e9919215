"""The transitions of budgets."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from sessions.store.binding import transition


@dataclass(frozen=True, slots=True)
class Noted:
    """What the turn has spent is noted, and what it asked for is reserved."""


@dataclass(frozen=True, slots=True)
class Stale:
    """Nothing was written: the turn has ended, or another worker has it."""


@dataclass(frozen=True, slots=True)
class Exceeded:
    """Nothing was reserved: with it, more would be spent than the budget allows. `used`: spent or reserved already."""

    unit: Literal["tokens", "nanodollars"]
    used: int


@transition
def spend_budget(
    *,
    day: str,
    turn: str,
    token: str,
    tokens: int,
    nanodollars: int,
    more_tokens: int,
    more_nanodollars: int,
    most_tokens: int | None,
    most_nanodollars: int | None,
    reserved_ms: int,
    kept_ms: int,
    ended: bool,
) -> Noted | Stale | Exceeded:
    """Note what a turn has spent so far, and reserve what its next model request may cost."""
