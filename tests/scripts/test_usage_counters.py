"""What turns used: counted once, in the step that ends them, and added up over all partitions."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import pytest

from broker_config.settings import Settings
from sessions.protocol.turn import ModelUsage
from sessions.protocol.usage import UsageDimension, UsageRow
from sessions.store.keys import SessionKeys, usage_counters
from sessions.store.usage import UsageRange, UsageStore
from sessions.store.usage_counters import Spending
from tests.scripts.test_scripts import DONE, PLACES, Store, settings_for

DAY = datetime.now(UTC).date()
PRICED = ModelUsage(model="openai:gpt-5", requests=2, input_tokens=100, output_tokens=7, tool_calls=1, cost=0.1)
UNPRICED = ModelUsage(model="local|odd%", requests=1, input_tokens=5, unpriced_requests=1)


class Counters(Store):
    """A store with a tenant of the test's own."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self.tenant = f"t{uuid.uuid4().hex[:12]}"
        self.usage = UsageStore(self.scripts, self.client, settings)

    async def end_turn(
        self, session: str, user: str | None, *used: ModelUsage, day: date = DAY, again: bool = False
    ) -> None:
        self.keys = SessionKeys.of(self.tenant, session, self.settings.partitions)
        await self.accept()
        begun = await self.begin()
        ending = replace(DONE, spent=Spending.of(self.tenant, user, day, used, 10))
        for _ in range(1 + again):
            await self.leases.commit(self.keys, begun, ending, 9, go_on=False, last_ok=True)

    async def rows(self, *by: UsageDimension, user: str | None = None, days: int = 1) -> list[UsageRow]:
        return await self.usage.read(UsageRange(self.tenant, user, DAY - timedelta(days=days - 1), DAY, by))


@pytest.fixture(params=PLACES)
async def counters(request: pytest.FixtureRequest) -> AsyncIterator[Counters]:
    made = Counters(settings_for(request))
    yield made
    await made.client.aclose()


async def test_a_commit_that_is_repeated_counts_once(counters: Counters) -> None:
    """Its reply was lost: the second one finds the turn ended."""
    await counters.end_turn("a", "alice", PRICED, again=True)
    (row,) = await counters.rows("day", "user", "model")
    assert (row.day, row.user_id, row.model) == (DAY, "alice", "openai:gpt-5")
    assert (row.requests, row.input_tokens, row.output_tokens, row.tool_calls, row.cost) == (2, 100, 7, 1, 0.1)


async def test_sessions_of_all_partitions_are_added_up(counters: Counters) -> None:
    """By what was asked for; one user's alone; names with odd characters come back as they were."""
    for number in range(6):
        await counters.end_turn(f"s{number}", "bob|~%" if number % 2 else None, PRICED, UNPRICED)
    await counters.end_turn("old", None, PRICED, day=DAY - timedelta(days=1))
    (today,) = await counters.rows()
    assert (today.day, today.user_id, today.model) == (None, None, None)
    assert (today.requests, today.unpriced_requests, today.cost) == (18, 6, pytest.approx(0.6))
    assert [row.day for row in await counters.rows("day", days=3)] == [DAY - timedelta(days=1), DAY]
    assert [(row.user_id, row.requests) for row in await counters.rows("user")] == [(None, 9), ("bob|~%", 9)]
    by_model = {row.model: row.cost for row in await counters.rows("model", user="bob|~%")}
    assert by_model == {"local|odd%": None, "openai:gpt-5": pytest.approx(0.3)}
    assert await counters.rows(user="nobody") == []


async def test_the_counters_of_a_day_expire(counters: Counters) -> None:
    """When the number of days is over for which they are kept."""
    await counters.end_turn("a", None, PRICED)
    left = await counters.client.pttl(
        f"{counters.keys.partition}:usage{usage_counters(counters.tenant, DAY.isoformat())}"
    )
    assert timedelta(days=9) < timedelta(milliseconds=left) <= timedelta(days=11)


def test_nothing_used_is_nothing_counted() -> None:
    """A turn that asked no model adds no key."""
    assert Spending.of("t", None, DAY, [], 10) is None
    assert Spending.of("t", None, DAY, [ModelUsage()], 10) is None
