"""Which budgets apply to a turn, and when one has something to release."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any, cast

import pytest

from broker_config.settings import Settings
from sessions.errors import BudgetExceeded
from sessions.protocol.budgets import Budget, BudgetScope, Spent
from sessions.protocol.turn_limits import NO_LIMITS, TurnLimits
from sessions.store.budgets import BudgetName, Noted, Purse
from sessions.store.keys import SessionKeys
from workers.engine.ports import RequestEstimate
from workers.engine.prices import PriceList
from workers.turns.budgets import Budgets, TurnBudget

NOON = 1_796_040_000_000


class Store:
    """Has these budgets, and keeps what turns note."""

    def __init__(self, budgets: Mapping[BudgetName, Budget]) -> None:
        self.budgets = {name.field: budget for name, budget in budgets.items()}
        self.noted: list[tuple[BudgetScope, Spent, bool]] = []

    async def version(self) -> int:
        return 1

    async def all(self) -> Mapping[str, Budget]:
        return self.budgets

    def note(self, purse: Purse, *_: str | Spent, more: Spent, ended: bool, **__: float) -> asyncio.Future[Noted]:
        self.noted.append((purse.scope, more, ended))
        reply: asyncio.Future[Noted] = asyncio.get_running_loop().create_future()
        reply.set_result(Noted())
        return reply


async def budgets(settings: Mapping[str, Any] | None = None, **stored: Any) -> Budgets:
    store = stored.get("store") or Store(stored.get("stored", {}))
    scripts = cast(Any, stored.get("scripts"))
    made = Budgets(Settings(**(settings or {})), cast(Any, store), scripts, PriceList())
    await made.refresh()
    return made


def limits_of(found: TurnBudget | None) -> dict[str, Budget]:
    assert found is not None
    limits = found._limits
    shared = {purse.scope.value: purse.budget for purse in limits.purses}
    return {"turn": limits.turn, "session": limits.session, **shared}


def held(user: str | None = "ann", session: str = "s", *, ms: int = 0) -> Any:
    """A turn that began this many milliseconds ago."""
    keys = SessionKeys.from_id("acme", session, 256)
    turn = SimpleNamespace(user_id=user, first_started_ms=NOON, now_ms=NOON + ms, part="1", token="1")
    return SimpleNamespace(keys=keys, turn=turn, steps={}, seconds_left=60.0)


async def test_without_a_budget_a_turn_has_none() -> None:
    """So nothing is read or written for it."""
    assert (await budgets()).of(held(), NO_LIMITS) is None
    assert (await budgets()).of(held(), TurnLimits(model_calls=3)) is None
    other = BudgetName(BudgetScope.TENANT, "other")
    assert (await budgets(stored={other: Budget(5)})).of(held(), NO_LIMITS) is None


async def test_what_was_set_comes_before_the_settings() -> None:
    """For a user that of this user, then that of all users of the tenant. One without limits lifts a setting."""
    settings = {"budget_user_tokens": 1, "budget_tenant_cost": 2.0, "budget_session_tokens": 3}
    assert limits_of((await budgets(settings)).of(held(), NO_LIMITS)) == {
        "turn": Budget(), "session": Budget(3), "user": Budget(1), "tenant": Budget(cost=2.0),
    }  # fmt: skip
    everyone, ann = BudgetName(BudgetScope.USER, "acme"), BudgetName(BudgetScope.USER, "acme", "ann")
    found = await budgets(settings, stored={everyone: Budget(10), ann: Budget(20)})
    assert limits_of(found.of(held(), NO_LIMITS))["user"] == Budget(20)
    assert limits_of(found.of(held("bob"), NO_LIMITS))["user"] == Budget(10)
    assert "user" not in limits_of(found.of(held(None), NO_LIMITS))
    lifted = await budgets(settings, stored={ann: Budget()})
    assert "user" not in limits_of(lifted.of(held(), NO_LIMITS))


async def test_a_message_can_only_make_a_turns_budget_smaller() -> None:
    """Of tokens and of money the smaller one counts, whoever says it."""
    found = await budgets({"budget_turn_tokens": 100, "budget_turn_cost": 0.5})
    assert limits_of(found.of(held(), TurnLimits(tokens=500, cost=0.1)))["turn"] == Budget(100, 0.1)


async def test_a_lane_has_no_session_budget() -> None:
    """Titles and facts count for the user and the tenant; summaries for the session as well."""
    found = await budgets({"budget_session_tokens": 3, "budget_tenant_tokens": 9})
    assert limits_of(found.of(held(session="s~title"), NO_LIMITS))["session"] == Budget()
    assert limits_of(found.of(held(session="s~compact"), NO_LIMITS))["session"] == Budget(3)


async def test_a_summary_is_not_asked_for_when_the_budget_of_its_session_is_used_up() -> None:
    """Its own lane has used nothing."""
    read = list[str]()

    class Scripts:
        async def read(self, command: str, key: str, *fields: str) -> list[bytes]:
            read.append(key)
            return [b"5", b"1", b"0"]

    found = await budgets({"budget_session_tokens": 7}, scripts=Scripts())
    summary = held(session="s~compact")
    spending = found.of(summary, NO_LIMITS)
    assert spending is not None
    with pytest.raises(BudgetExceeded, match="the budget of this session is 7 tokens; 6 tokens are spent"):
        await spending.reserve(RequestEstimate(tokens=2, cost=0.0))
    assert read == [summary.keys.home.meta]


async def test_a_turn_that_was_started_before_releases_what_it_may_have_reserved() -> None:
    """Its worker may have died in its first request. To end it then is no new attempt, and its journal is empty."""
    store = Store({})
    found = await budgets({"budget_tenant_tokens": 9}, store=store)
    fresh = found.of(held(), NO_LIMITS)
    assert fresh is not None
    await fresh.settle()
    fresh.end()
    assert store.noted == [], "a turn that asked nothing has nothing to release"
    begun = found.of(held(ms=1), NO_LIMITS)
    assert begun is not None
    await begun.settle()
    begun.end()
    assert store.noted == [(BudgetScope.TENANT, Spent(), False), (BudgetScope.TENANT, Spent(), True)]
