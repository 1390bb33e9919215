"""Reads the counters of usage, from all partitions."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any, Final

from broker_config.settings import Settings
from sessions.protocol.budgets import NANO
from sessions.protocol.usage import UsageDimension, UsageRow, known_cost
from sessions.store.keys import escaped, usage_counters
from sessions.store.partition_batches import Batches, PartitionBatches
from sessions.store.scripts import ScriptRunner
from sessions.store.transitions.usage import read_usage
from sessions.store.usage_counters import COST, COUNTED, CounterName

_DAYS_AT_ONCE: Final = 4
_AT_ONCE: Final = 16
"""Partitions that one script reads: it must not keep the server from its other work for long."""
Group = tuple[date | None, str, str]
"""Day, user and model of a row."""


@dataclass(frozen=True, slots=True)
class UsageRange:
    """What to read: a tenant's usage, or one user's, of the days from `since` to `until`, which is included.

    Attributes:
        by: what to keep apart.
    """

    tenant: str
    user_id: str | None
    since: date
    until: date
    by: Collection[UsageDimension]

    @property
    def days(self) -> list[date]:
        """The days, the oldest first."""
        return [self.since + timedelta(days=number) for number in range((self.until - self.since).days + 1)]


class UsageStore:
    """The usage of one deployment's tenants."""

    def __init__(self, scripts: ScriptRunner, client: Any, settings: Settings) -> None:
        self._scripts = scripts
        self._batches = PartitionBatches(client, settings)

    async def read(self, wanted: UsageRange) -> list[UsageRow]:
        """The rows, by day, user and model.

        Raises:
            StoreUnavailable, BackendError: the store did not answer.
        """
        sums: dict[Group, Counter[str]] = {}
        days = wanted.days
        for start in range(0, len(days), _DAYS_AT_ONCE):
            some = days[start : start + _DAYS_AT_ONCE]
            for day, found in zip(some, await asyncio.gather(*(self._day(wanted, day) for day in some)), strict=True):
                for name, amount in found:
                    counter = CounterName.parse(name)
                    group = (day if "day" in wanted.by else None, counter.user, counter.model)
                    sums.setdefault(group, Counter())[counter.what] += amount
        return [_row(group, sums[group]) for group in sorted(sums, key=lambda each: (each[0] or date.min, *each[1:]))]

    async def _day(self, wanted: UsageRange, day: date) -> Sequence[tuple[str, int]]:
        async def read(batches: Batches) -> list[tuple[str, int]]:
            some = [batch[at : at + _AT_ONCE] for batch in batches for at in range(0, len(batch), _AT_ONCE)]
            pages = await asyncio.gather(*(self._sums(wanted, day, each) for each in some))
            return [entry for page in pages for entry in page]

        return await self._batches.read(read)

    async def _sums(self, wanted: UsageRange, day: date, batch: Sequence[str]) -> Sequence[tuple[str, int]]:
        call = read_usage(
            (batch[0],),
            counters=usage_counters(wanted.tenant, day.isoformat()),
            user="*" if wanted.user_id is None else escaped(wanted.user_id),
            by_model="model" in wanted.by,
            by_user="user" in wanted.by,
            partitions=batch[1:],
        )
        return (await self._scripts.run(call)).found


def _row(group: Group, sums: Counter[str]) -> UsageRow:
    day, user, model = group
    return UsageRow(
        day=day,
        user_id=user or None,
        model=model or None,
        **{what: sums[what] for what in COUNTED},
        cost=known_cost(sums[COST] / NANO, sums["requests"], sums["unpriced_requests"]),
    )
