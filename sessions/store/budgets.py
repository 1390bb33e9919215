"""Budgets in the store: those that operators set, and what is spent of a user's or a tenant's day.

What is spent is a hash for each day, in a slot of its user or tenant. A turn that is about to ask a model reserves what
the request may cost; with its next note the reservation is replaced by what it cost (ADR 0042).
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import date
from typing import Any, Final
from urllib.parse import unquote

from sessions.errors import CorruptRecord
from sessions.protocol.budgets import Budget, BudgetScope, Spent
from sessions.store.keys import BUDGETS, BUDGETS_VERSION, budget_key, escaped
from sessions.store.scripts import ScriptRunner
from sessions.store.transitions import budgets as transitions
from sessions.store.transitions.budgets import Exceeded, Noted, Stale
from sessions.store.versioned_hash import VersionedHash

__all__ = ["BudgetName", "BudgetStore", "Exceeded", "Noted", "Purse", "Stale"]

_KEPT_MS: Final = 8 * 86_400_000
"""Longer than a turn may take, since a turn counts for the day on which it began."""


@dataclass(frozen=True, slots=True)
class BudgetName:
    """Which budget it is: of a tenant; of all of its users, sessions or turns, each; or of one user."""

    scope: BudgetScope
    tenant: str
    user: str | None = None

    @property
    def field(self) -> str:
        """Its field in the hash of budgets."""
        user = () if self.user is None else (escaped(self.user),)
        return "|".join((self.scope.value, escaped(self.tenant), *user))

    @classmethod
    def parse(cls, field: str) -> BudgetName:
        """A budget by its field."""
        scope, tenant, *user = field.split("|")
        return cls(BudgetScope(scope), unquote(tenant), unquote(user[0]) if user else None)


@dataclass(frozen=True, slots=True)
class Purse:
    """A user's or a tenant's day, and what may be spent on it."""

    scope: BudgetScope
    base: str
    day: date
    budget: Budget

    @classmethod
    def of(cls, name: BudgetName, day: date, budget: Budget) -> Purse:
        """The day of a tenant or of one user."""
        return cls(name.scope, budget_key(name.tenant, name.user), day, budget)


class BudgetStore:
    """Every method raises `BackendError` if the store did not answer."""

    def __init__(self, scripts: ScriptRunner, client: Any) -> None:
        self._scripts = scripts
        self._set = VersionedHash(client, BUDGETS, BUDGETS_VERSION)

    async def set(self, name: BudgetName, budget: Budget) -> None:
        """Set a budget. Workers apply it within two seconds."""
        await self._set.set(name.field, json.dumps(asdict(budget)))

    async def remove(self, name: BudgetName) -> bool:
        """Remove a budget; whether there was one."""
        return await self._set.remove(name.field)

    async def version(self) -> int:
        """Changes with each change of a budget."""
        return await self._set.version()

    async def all(self) -> Mapping[str, Budget]:
        """The budgets that were set, by field."""
        raw = await self._set.all()
        try:
            return {field: _budget(json.loads(value)) for field, value in raw.items()}
        except (ValueError, TypeError, AttributeError) as error:
            raise CorruptRecord(f"a budget cannot be read: {error}") from error

    def note(
        self, purse: Purse, turn: str, token: str, spent: Spent, *, more: Spent, patience: float, ended: bool = False
    ) -> asyncio.Future[Noted | Stale | Exceeded]:
        """Note what a turn has spent so far, and reserve more.

        Args:
            token: the fencing token of its lease.
            patience: seconds for which the reservation lasts if nothing is heard of the turn.
            ended: nothing more is to come of it.
        """
        call = transitions.spend_budget(
            (purse.base,),
            day=purse.day.isoformat(),
            turn=turn,
            token=token,
            tokens=spent.tokens,
            nanodollars=spent.nanodollars,
            more_tokens=more.tokens,
            more_nanodollars=more.nanodollars,
            most_tokens=purse.budget.tokens,
            most_nanodollars=purse.budget.nanodollars,
            reserved_ms=max(1000, int(patience * 1000)),
            kept_ms=_KEPT_MS,
            ended=ended,
        )
        return self._scripts.start(call)

    async def spent(self, purse: Purse) -> Spent:
        """What is spent or reserved of it."""
        found = await self._scripts.read("HMGET", f"{purse.base}:spent:{purse.day}", "tokens", "nanodollars")
        return Spent(*(int(value or 0) for value in found))


def _budget(stored: Mapping[str, Any]) -> Budget:
    """A budget as it is stored; a newer version may have added to it."""
    return Budget(stored.get("tokens"), stored.get("cost"))
