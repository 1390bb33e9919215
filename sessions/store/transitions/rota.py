"""The transitions of a queue's rota: which session gets the next slot."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from sessions.store.binding import transition


@dataclass(frozen=True, slots=True)
class Joined:
    """The sessions are in the rota; those that were not before."""

    new: tuple[str, ...]


@transition
def join_rota(*, at_ms: int, first: bool, sessions: Sequence[str]) -> Joined:
    """Enter sessions that wait for a slot."""


@dataclass(frozen=True, slots=True)
class Next:
    """The session that comes next; it is no longer in the rota."""

    session: str


@dataclass(frozen=True, slots=True)
class Nobody:
    """No session waits."""


@transition
def next_on_rota(*, session: str, at_ms: int, unused: str) -> Next | Nobody:
    """Take the session that comes next."""


@dataclass(frozen=True, slots=True)
class Overdue:
    """Sessions that have waited for a while; none if another worker got them a moment ago."""

    now_ms: int
    sessions: tuple[str, ...]


@transition
def overdue_on_rota(*, waited_ms: int, most: int) -> Overdue:
    """Name sessions of a queue whose wake-ups are used up."""


class Slot(StrEnum):
    """Whether a session may go on in the slot that it has."""

    KEEP = "keep"
    YIELD = "yield"


@transition
def keep_slot(*, tenant: str, turns: int) -> Slot:
    """Ask whether a session may go on with its next turn, or another tenant comes first."""
