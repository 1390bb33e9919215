"""The transitions of the limits of tenants and users: a turn is counted, and taken back if it is not accepted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

from sessions.store.binding import transition

Whose = Literal["tenant", "user"]


@dataclass(frozen=True, slots=True)
class Admitted:
    """The turn counts, and may be accepted."""


@dataclass(frozen=True, slots=True)
class Minute:
    """Nothing was counted: there were too many turns in the last minute."""

    whose: Whose
    wait_ms: int


@dataclass(frozen=True, slots=True)
class Full:
    """Too many turns are in flight, or open; this one counts among those of the minute only."""

    what: Literal["flight", "open"]
    whose: Whose


@dataclass(frozen=True, slots=True)
class LookFor:
    """A limit would refuse the turn, unless some of these have ended."""

    turns: tuple[str, ...]


@transition
def admit_turn(
    *,
    turn: str,
    user: str,
    later: bool,
    tenant_minute: int,
    tenant_flight: int,
    tenant_open: int,
    user_minute: int,
    user_flight: int,
    user_open: int,
    look: bool,
    ended: Sequence[str],
    missing: Sequence[str],
    waiting: Sequence[str],
    running: Sequence[str],
) -> Admitted | Minute | Full | LookFor:
    """Admit a turn if the limits of its tenant and its user allow it."""


class TurnWithdrawn(StrEnum):
    """The turn does not count."""

    WITHDRAWN = "withdrawn"


@transition
def withdraw_turn(*, turn: str, user: str, counts: bool) -> TurnWithdrawn:
    """Take back the admission of a turn that was not accepted."""


@dataclass(frozen=True, slots=True)
class Announced:
    """Sessions that were announced before this one, and may not exist yet: the user's first, then the tenant's."""

    by_user: int
    earlier: tuple[str, ...]


@transition
def announce_session(*, session: str, user: str) -> Announced:
    """Announce a session that is about to be created."""
