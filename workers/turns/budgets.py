"""The budgets of turns: which apply, and what a turn has spent and reserved of them.

A turn and its session are run by one worker at a time, so their budgets are checked here, against the journal and the
session's record. The days of users and tenants are shared, so what is spent of them is in the store. A turn notes its
whole sum there, which its journal has, and not what was added: a replay notes the same.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from typing import Final

from broker_config.settings import Settings
from broker_config.telemetry import get_logger
from sessions.errors import BackendError, BudgetExceeded, TurnConfigurationError
from sessions.protocol.budgets import NANO, NO_BUDGET, Budget, BudgetScope, Spent, nanodollars
from sessions.protocol.lanes import COMPACT
from sessions.protocol.turn import ModelUsage
from sessions.protocol.turn_limits import TurnLimits
from sessions.store.budgets import BudgetName, BudgetStore, Exceeded, Noted, Purse, Stale
from sessions.store.keys import SessionKeys
from sessions.store.scripts import ScriptRunner
from sessions.store.usage_counters import day_of
from workers.engine.ports import LeaseLost, RequestEstimate
from workers.engine.prices import PriceList
from workers.engine.usage import RequestMeter
from workers.lease.held_turn import HeldTurn

_log = get_logger(__name__)
_PERIOD: Final = 1.0
Reply = Noted | Stale | Exceeded


@dataclass(frozen=True, slots=True)
class _Limits:
    """The budgets that apply to a turn; `purses` are the days of its user and tenant."""

    turn: Budget
    session: Budget
    purses: tuple[Purse, ...]

    @property
    def money(self) -> bool:
        """Whether one of them is in money."""
        return any(each.cost is not None for each in (self.turn, self.session, *(p.budget for p in self.purses)))


class Budgets:
    """The budgets of this deployment, as far as this process knows them. One per worker process."""

    def __init__(self, settings: Settings, store: BudgetStore, scripts: ScriptRunner, prices: PriceList) -> None:
        self._defaults = {
            BudgetScope.TURN: Budget(settings.budget_turn_tokens, settings.budget_turn_cost),
            BudgetScope.SESSION: Budget(settings.budget_session_tokens, settings.budget_session_cost),
            BudgetScope.USER: Budget(settings.budget_user_tokens, settings.budget_user_cost),
            BudgetScope.TENANT: Budget(settings.budget_tenant_tokens, settings.budget_tenant_cost),
        }
        self._any = any(budget.limits for budget in self._defaults.values())
        self._store = store
        self._scripts = scripts
        self._prices = prices
        self._set: Mapping[str, Budget] = {}
        self._version = 0

    async def refresh(self) -> None:
        """Read the budgets that operators set, if they have changed.

        Raises:
            BackendError: the store did not answer.
        """
        version = await self._store.version()
        if version != self._version:
            self._set, self._version = await self._store.all(), version

    async def run(self) -> None:
        """Keep up with changes, for ever."""
        while True:
            await asyncio.sleep(_PERIOD)
            try:
                await self.refresh()
            except BackendError as error:
                _log.warning("budgets_not_read", error=str(error))

    def of(self, held: HeldTurn, limits: TurnLimits) -> TurnBudget | None:
        """The budgets of a turn; None if none applies to it.

        Args:
            limits: those of its message and agent.
        """
        if not (self._any or self._set or limits.tokens is not None or limits.cost is not None):
            return None
        tenant, user = held.keys.tenant, held.turn.user_id
        turn = self._budget(BudgetName(BudgetScope.TURN, tenant))
        session = self._budget(BudgetName(BudgetScope.SESSION, tenant)) if _is_of_session(held.keys) else NO_BUDGET
        owners = [BudgetName(BudgetScope.TENANT, tenant)]
        if user is not None:
            owners.append(BudgetName(BudgetScope.USER, tenant, user))
        day = day_of(held.turn.first_started_ms)
        purses = tuple(Purse.of(name, day, budget) for name in owners if (budget := self._budget(name)).limits)
        both = TurnLimits(tokens=turn.tokens, cost=turn.cost).and_also(limits)
        found = _Limits(Budget(both.tokens, both.cost), session, purses)
        if not (found.turn.limits or session.limits or purses):
            return None
        return TurnBudget(held, found, self._store, self._scripts, self._prices)

    def _budget(self, name: BudgetName) -> Budget:
        """The one that was set for this user; else for the tenant's users, sessions or turns; else the settings'."""
        own = self._set.get(name.field)
        if own is None and name.user is not None:
            own = self._set.get(BudgetName(name.scope, name.tenant).field)
        return self._defaults[name.scope] if own is None else own


class TurnBudget:
    """What one turn spends. `workers.engine.ports.ModelBudget` and `workers.lease.held_turn.TurnSpending`."""

    def __init__(
        self, held: HeldTurn, limits: _Limits, store: BudgetStore, scripts: ScriptRunner, prices: PriceList
    ) -> None:
        self._held = held
        self._limits = limits
        self._store = store
        self._scripts = scripts
        self._meter = RequestMeter(held.steps, prices)
        self._before: Spent | None = None  # what the session's earlier turns have spent
        self._last = Spent()
        # A worker that had the turn before may have reserved something. Not each start is an attempt or a retry.
        self._noted = held.turn.now_ms > held.turn.first_started_ms

    async def reserve(self, estimate: RequestEstimate) -> None:
        """Reserve what the next model request may cost; see `ModelBudget`."""
        if self._limits.money and estimate.unpriced:
            raise TurnConfigurationError(
                f"a budget in money applies, and the price of model {estimate.unpriced!r} is not known: set it with "
                "SESSIONFLEET_PRICES on the workers (0 for a model that costs nothing)"
            )
        spent, more = self._spent(), Spent(estimate.tokens, nanodollars(estimate.cost))
        self._check(BudgetScope.TURN, self._limits.turn, spent, more)
        if self._limits.session.limits:
            self._check(BudgetScope.SESSION, self._limits.session, await self._of_session() + spent, more)
        for purse, reply in zip(self._limits.purses, await self._note(spent, more), strict=True):
            if isinstance(reply, Stale):
                raise LeaseLost
            if isinstance(reply, Exceeded):
                used = reply.used if reply.unit == "tokens" else reply.used / NANO
                raise self._refusal(purse.scope, purse.budget, reply.unit, used, more)

    async def settle(self, cut_short: ModelUsage | None = None) -> None:
        """Note what the journal shows, and release what was reserved."""
        spent = self._spent() if cut_short is None else self._spent() + spent_of(cut_short)
        if self._noted or spent != Spent():
            await self._note(spent, Spent())

    def end(self) -> None:
        """Note that the turn has ended. If that is lost, its entry expires with the day's."""
        if self._noted:
            for reply in self._start(self._last, Spent(), ended=True):
                reply.add_done_callback(_retrieved)

    def _spent(self) -> Spent:
        """What the turn's journal shows."""
        return sum(map(spent_of, self._meter.read()), Spent())

    async def _of_session(self) -> Spent:
        """What the session's earlier turns have spent. No other turn of it is committed while this one runs."""
        if self._before is None:
            keys, fields = self._held.keys, ("input_tokens", "output_tokens", "cost")
            session = keys.home if keys.is_lane else keys
            found = [float(each or 0) for each in await self._scripts.read("HMGET", session.meta, *fields)]
            self._before = Spent(round(found[0] + found[1]), nanodollars(found[2]))
        return self._before

    def _check(self, scope: BudgetScope, budget: Budget, used: Spent, more: Spent) -> None:
        after = used + more
        if budget.tokens is not None and after.tokens > budget.tokens:
            raise self._refusal(scope, budget, "tokens", used.tokens, more)
        if budget.nanodollars is not None and after.nanodollars > budget.nanodollars:
            raise self._refusal(scope, budget, "cost", used.nanodollars / NANO, more)

    def _start(self, spent: Spent, more: Spent, *, ended: bool = False) -> list[asyncio.Future[Reply]]:
        turn, patience = self._held.turn, self._held.seconds_left
        self._noted, self._last = True, spent
        return [
            self._store.note(purse, turn.part, turn.token, spent, more=more, patience=patience, ended=ended)
            for purse in self._limits.purses
        ]

    async def _note(self, spent: Spent, more: Spent) -> list[Reply]:
        """Note it in all purses, in one round trip."""
        return list(await asyncio.gather(*self._start(spent, more)))

    def _refusal(self, scope: BudgetScope, budget: Budget, unit: str, used: float, more: Spent) -> BudgetExceeded:
        tokens = unit == "tokens"
        limit, wanted = (budget.tokens, more.tokens) if tokens else (budget.cost, more.nanodollars / NANO)
        what = "{:,} tokens" if tokens else "${:,.4f}"
        whose, resets_at = f"this {scope}", None
        if scope in (BudgetScope.USER, BudgetScope.TENANT):
            day = day_of(self._held.turn.first_started_ms)
            whose = f"this {scope} on {day}"
            resets_at = datetime.combine(day + timedelta(days=1), time(), UTC).isoformat()
        return BudgetExceeded(
            f"the budget of {whose} is {what.format(limit)}; {what.format(used)} are spent or reserved, and the next "
            f"model request may need {what.format(wanted)}. What the turn finished is in the session's history",
            scope=scope.value,
            unit="tokens" if tokens else "cost",
            limit=limit,
            used=used,
            resets_at=resets_at,
        )


def _is_of_session(keys: SessionKeys) -> bool:
    """Whether a turn's usage counts as its session's. Of the lanes, that is the one in which summaries are written."""
    return not keys.is_lane or keys.session_id.endswith(f"~{COMPACT}")


def spent_of(usage: ModelUsage) -> Spent:
    """A request as budgets count it."""
    return Spent(usage.input_tokens + usage.output_tokens, nanodollars(usage.cost or 0.0))


def _retrieved(reply: asyncio.Future[Reply]) -> None:
    with suppress(asyncio.CancelledError):
        reply.exception()
