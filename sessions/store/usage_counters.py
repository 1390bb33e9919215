"""What turns have used, counted for each day, tenant, user and model.

The counters of a tenant's day are one hash in each partition, in the slots of the sessions, so that the script that
ends a turn also counts it: once, whatever crashes (ADR 0042). Reading adds up the partitions.

A counter's name is `<what>|<model>|<user>`, each percent-encoded. Money is counted in whole nanodollars, because a sum
of floats depends on their order.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Final, Self
from urllib.parse import unquote

from sessions.protocol.budgets import nanodollars
from sessions.protocol.turn import ModelUsage
from sessions.store.keys import escaped, usage_counters

COST: Final = "nanodollars"
COUNTED: Final = (
    *("requests", "unpriced_requests", "input_tokens", "cache_read_tokens", "cache_write_tokens"),
    *("output_tokens", "tool_calls"),
)
"""The counts of a `Usage`, besides its cost."""


def day_of(ms: int) -> date:
    """The day (UTC) of a time of the store."""
    return datetime.fromtimestamp(ms / 1000, UTC).date()


@dataclass(frozen=True, slots=True)
class Spending:
    """What a turn adds to the counters of its day.

    Attributes:
        key: the end of the name of the counters.
        expires_ms: when they expire.
        amounts: counter -> what is added.
    """

    key: str
    expires_ms: int
    amounts: Mapping[str, int]

    @classmethod
    def of(cls, tenant: str, user_id: str | None, day: date, used: Iterable[ModelUsage], days_kept: int) -> Self | None:
        """What a turn of this user used on this day; None if that is nothing."""
        amounts: dict[str, int] = {}
        for usage in used:
            counts = {name: getattr(usage, name) for name in COUNTED} | {COST: nanodollars(usage.cost or 0.0)}
            names = f"{escaped(usage.model)}|{escaped(user_id or '')}"
            amounts |= {f"{what}|{names}": amount for what, amount in counts.items() if amount}
        if not amounts:
            return None
        last = datetime.combine(day + timedelta(days=days_kept + 1), time(), UTC)
        return cls(usage_counters(tenant, day.isoformat()), round(last.timestamp() * 1000), amounts)


@dataclass(frozen=True, slots=True)
class CounterName:
    """A counter: what it counts, of which model and user. Empty for a model or user that is not known."""

    what: str
    model: str
    user: str

    @classmethod
    def parse(cls, name: str) -> Self:
        """A counter by its name."""
        return cls(*map(unquote, name.split("|")))
