"""What is spent and reserved of a budget: exact over crashes, repetitions and late notes, on each kind of server."""

from __future__ import annotations

import asyncio
import random
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import date

import pytest

from broker_config.redis_clients import async_store
from broker_config.settings import Settings
from sessions.protocol.budgets import Budget, BudgetScope, Spent
from sessions.store.budgets import BudgetName, BudgetStore, Exceeded, Noted, Purse, Stale
from sessions.store.scripts import ScriptRunner
from tests.scripts.test_scripts import PLACES, settings_for
from tests.support.servers import Server

DAY = date(2026, 11, 30)
NOTHING = Spent()


class Spending:
    """A tenant of the test's own."""

    def __init__(self, settings: Settings) -> None:
        self.client = async_store(settings)
        self.store = BudgetStore(ScriptRunner(self.client), self.client)
        self.tenant = f"t{uuid.uuid4().hex[:12]}"
        self.purse = self.with_budget(Budget(tokens=1000, cost=1.0))

    def with_budget(self, budget: Budget) -> Purse:
        return Purse.of(BudgetName(BudgetScope.TENANT, self.tenant), DAY, budget)

    async def note(
        self, turn: str, spent: int, more: int = 0, *, token: int = 1, patience: float = 60, ended: bool = False
    ) -> Noted | Stale | Exceeded:
        """Tokens, and as many thousandths of a dollar."""
        wanted = Spent(more, more * 1_000_000)
        return await self.store.note(
            self.purse, turn, str(token), Spent(spent, spent * 1_000_000), more=wanted, patience=patience, ended=ended
        )

    async def used(self) -> int:
        found = await self.store.spent(self.purse)
        assert found.nanodollars == found.tokens * 1_000_000
        return found.tokens


@pytest.fixture(params=PLACES[:2])
async def spending(request: pytest.FixtureRequest) -> AsyncIterator[Spending]:
    made = Spending(settings_for(request))
    yield made
    await made.client.aclose()


async def test_what_was_reserved_is_replaced_by_what_was_spent(spending: Spending) -> None:
    """The next note of the turn has its sum so far, and reserves for its next request."""
    assert await spending.note("a", 0, 300) == Noted()
    assert await spending.used() == 300
    assert await spending.note("a", 120, 300) == Noted()
    assert await spending.used() == 420
    assert await spending.note("a", 250) == Noted()
    assert await spending.note("a", 250, ended=True) == Noted()
    assert await spending.used() == 250


async def test_turns_cannot_exceed_a_budget_together(spending: Spending) -> None:
    """Each reserves before it asks, so of many at once only as many are let through as fit."""
    replies = await asyncio.gather(*(spending.note(f"t{n}", 0, 300) for n in range(10)))
    assert [type(reply) for reply in replies].count(Noted) == 3
    assert {reply for reply in replies if reply != Noted()} == {Exceeded("tokens", 900)}
    assert await spending.used() == 900
    spending.purse = spending.with_budget(Budget(cost=0.95))
    assert await spending.note("more", 0, 60) == Exceeded("nanodollars", 900_000_000)


async def test_a_refusal_settles_what_was_spent(spending: Spending) -> None:
    """The turn ends then; what it had reserved for the request before is released."""
    await spending.note("a", 0, 900)
    assert await spending.note("a", 850, 200) == Exceeded("tokens", 850)
    assert await spending.used() == 850


async def test_a_repeated_note_changes_nothing(spending: Spending) -> None:
    """Its reply was lost; or the worker died, and the replay says the same."""
    for _ in range(3):
        assert await spending.note("a", 100, 200) == Noted()
        assert await spending.used() == 300
    for _ in range(3):
        assert await spending.note("a", 100, 200, token=2) == Noted()
        assert await spending.used() == 300


async def test_a_worker_that_lost_the_turn_changes_nothing(spending: Spending) -> None:
    """Neither while the next worker runs it, nor after its end."""
    await spending.note("a", 100, 200, token=7)
    assert await spending.note("a", 0, 500, token=6) == Stale()
    await spending.note("a", 180, token=7, ended=True)
    assert await spending.note("a", 100, 500, token=6) == Stale()
    assert await spending.note("a", 180, token=7, ended=True) == Stale()
    assert await spending.used() == 180


async def test_a_reservation_of_a_turn_that_is_gone_expires(spending: Spending) -> None:
    """Its session was deleted, say. It is released when the room is needed; what it had spent stays."""
    await spending.note("gone", 100, 700, patience=0)
    key = f"{spending.purse.base}:open:{DAY}"
    raw = (await spending.client.hget(key, "gone")).decode()
    await spending.client.hset(key, "gone", ",".join([*raw.split(",")[:-1], "1"]))  # as time does
    assert await spending.note("b", 0, 800) == Noted()
    assert await spending.used() == 900


async def test_a_reservation_of_tokens_alone_expires(spending: Spending) -> None:
    """The model costs nothing, so no money was reserved that could be released."""
    day, free = spending.purse, Spent(700, 0)
    await spending.store.note(day, "gone", "1", NOTHING, more=free, patience=0)
    key = f"{day.base}:open:{DAY}"
    raw = (await spending.client.hget(key, "gone")).decode()
    await spending.client.hset(key, "gone", ",".join([*raw.split(",")[:-1], "1"]))  # as time does
    assert await spending.store.note(day, "b", "1", NOTHING, more=free, patience=60) == Noted()
    assert await spending.store.spent(day) == free


async def test_the_counters_of_a_day_expire(spending: Spending) -> None:
    """None of their keys stays."""
    await spending.note("a", 1, 2)
    await spending.note("b", 1, ended=True)
    keys = [key async for key in spending.client.scan_iter(f"{spending.purse.base}:*")]
    assert len(keys) == 3
    assert all([0 < await spending.client.pttl(key) <= 8 * 86_400_000 for key in keys])


async def test_budgets_that_are_set(spending: Spending) -> None:
    """By scope, tenant and user; each change is a new version."""
    store, name = spending.store, BudgetName(BudgetScope.USER, spending.tenant, "ann|~%")
    assert BudgetName.parse(name.field) == name
    before = await store.version()
    await store.set(name, Budget(5, 0.5))
    assert (await store.all())[name.field] == Budget(5, 0.5)
    assert await store.version() != before
    assert await store.remove(name)
    assert not await store.remove(name)
    assert name.field not in await store.all()


# --- crashes at random ---------------------------------------------------------------------------------------


@dataclass
class Turn:
    """A turn as its journal has it: what its finished requests used. `late` are notes that a dead worker may send."""

    name: str
    token: int = 1
    journal: list[int] = field(default_factory=list)
    reserved: int = 0
    late: list[tuple[int, int, int]] = field(default_factory=list)
    ended: bool = False


class Crashes:
    """Turns whose workers die at any point, next to what their journals have."""

    def __init__(self, spending: Spending, seed: int) -> None:
        self.spending = spending
        self.rng = random.Random(seed)
        self.turns = [Turn(f"{number}") for number in range(4)]

    @property
    def used(self) -> int:
        return sum(sum(turn.journal) + turn.reserved for turn in self.turns)

    async def step(self) -> None:
        turn, rng = self.rng.choice(self.turns), self.rng
        if turn.late and rng.random() < 0.3:
            await self.wake(turn)
        elif not turn.ended:
            await (self.ask(turn) if rng.random() < 0.5 else self.settle(turn))

    async def wake(self, turn: Turn) -> None:
        """A worker that was suspended, and has lost the turn, goes on."""
        token, spent, more = self.rng.choice(turn.late)
        assert await self.spending.note(turn.name, spent, more, token=token) == Stale()

    async def ask(self, turn: Turn) -> None:
        """Reserve, perhaps twice; ask the model; journal what it used. The worker may die before or after that."""
        rng, spent, wanted = self.rng, sum(turn.journal), self.rng.randint(1, 250)
        for _ in range(rng.choice((1, 1, 2))):
            reply = await self.spending.note(turn.name, spent, wanted, token=turn.token)
        turn.reserved = 0
        fits = self.used + wanted <= 1000
        assert (reply == Noted()) is fits
        if fits:
            used = rng.randint(0, wanted) if rng.random() < 0.7 else 0
            turn.journal.append(used)
            turn.reserved = wanted - used  # until the next note
        if rng.random() < 0.4:
            turn.late.append((turn.token, spent, wanted))
            turn.token += 1
            await self.settle(turn)

    async def settle(self, turn: Turn) -> None:
        """Before a commit, which the worker may not live to make."""
        spent = sum(turn.journal)
        await self.spending.note(turn.name, spent, token=turn.token)
        turn.reserved = 0
        if self.rng.random() < 0.2:
            await self.spending.note(turn.name, spent, token=turn.token, ended=True)
            turn.late.append((turn.token, 0, 100))
            turn.ended = True


@pytest.mark.parametrize("seed", range(6))
async def test_crashes_neither_lose_nor_double_anything(server: Server, seed: int) -> None:
    """Between reserving, asking, journalling, settling and committing, in any order, with late and repeated notes.

    After each step, what is used of the budget is what the journals have and what is reserved: to the token.
    """
    spending = Spending(Settings(redis_url=server.url))  # type: ignore[call-arg]
    crashes = Crashes(spending, seed)
    for _ in range(60):
        await crashes.step()
        assert await spending.used() == crashes.used <= 1000
    for turn in crashes.turns:
        if not turn.ended:
            await crashes.settle(turn)
    assert await spending.used() == sum(sum(turn.journal) for turn in crashes.turns)
    await spending.client.aclose()
