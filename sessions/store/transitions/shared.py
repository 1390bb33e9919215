"""Replies that several transitions have, and types that their callers share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Change = tuple[str, str, str | bytes, str | bytes]
"""A change of state: kind, field, and two operands, as write_state.lua describes them."""

Refusal = Literal["mismatch", "type", "range"]
"""Why a change of state is impossible, as write_state.lua describes it."""


@dataclass(frozen=True, slots=True)
class Cancelled:
    """The turn is cancelled: it has ended."""


@dataclass(frozen=True, slots=True)
class Lost:
    """Nothing was written: the lease is no longer ours."""


@dataclass(frozen=True, slots=True)
class Missing:
    """There is no such turn, checkpoint or session."""


@dataclass(frozen=True, slots=True)
class OtherOwner:
    """Nothing was written: the session belongs to another user."""


@dataclass(frozen=True, slots=True)
class Moved:
    """Nothing was written: the history has changed since a turn was looked up in it. Look it up again."""


@dataclass(frozen=True, slots=True)
class PackedAway:
    """Nothing was written: the entries of the history from this position on must be unpacked first."""

    at: int


@dataclass(frozen=True, slots=True)
class Full:
    """Nothing was written: there are this many, the most that are allowed."""

    count: int
