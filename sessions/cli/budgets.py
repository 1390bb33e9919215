"""`sessionfleet budget`: what turns, sessions, users and a tenant may spend."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any

import typer

from broker_config.settings import Settings, load_settings
from sessions.cli.fleet import AsJson
from sessions.cli.output import cell, print_json, print_table, say
from sessions.cli.store import with_store
from sessions.client.arguments.values import short_string
from sessions.errors import BadRequest
from sessions.protocol.budgets import NANO, Budget, BudgetScope, Spent
from sessions.store.budgets import BudgetName, BudgetStore, Purse
from sessions.store.keys import valid_tenant
from sessions.store.scripts import ScriptRunner

app = typer.Typer(help="Limit what turns, sessions, users and a tenant may spend.", no_args_is_help=True)

Scope = Annotated[
    BudgetScope, typer.Argument(help="turn and session: each of the tenant's; user and tenant: on a day (UTC).")
]
OfUser = Annotated[str | None, typer.Option("--user", help="Only this user's; by default each user's.")]
OfTenant = Annotated[str | None, typer.Option("--tenant", help="The tenant (default: SESSIONFLEET_TENANT).")]


@app.command("set")
def set_budget(
    scope: Scope,
    tokens: Annotated[int | None, typer.Option(min=0, help="Input and output tokens; by default no limit.")] = None,
    cost: Annotated[float | None, typer.Option(min=0, help="US dollars; by default no limit.")] = None,
    user: OfUser = None,
    tenant: OfTenant = None,
) -> None:
    """Set a budget. Workers apply it within two seconds. Without --tokens and --cost there is no limit."""
    settings = load_settings()
    name = _name(settings, scope, user, tenant)
    with_store(settings, lambda client: _store(client).set(name, Budget(tokens, cost)))
    say(f"{_described(name)}: {_amounts(Budget(tokens, cost))}")


@app.command()
def remove(scope: Scope, user: OfUser = None, tenant: OfTenant = None) -> None:
    """Remove a budget: from now on that of all users applies, or the workers' settings."""
    settings = load_settings()
    name = _name(settings, scope, user, tenant)
    existed = with_store(settings, lambda client: _store(client).remove(name))
    say(f"{_described(name)}: {'removed' if existed else 'no budget was set'}")


@app.command("list")
def list_budgets(as_json: AsJson = False) -> None:
    """List the budgets that were set, and what is spent of today's. Settings of workers are not listed."""
    found = with_store(load_settings(), _read)
    if as_json:
        print_json([each.as_dict() for each in found])
    elif not found:
        say("no budget is set; `sessionfleet budget set` sets one")
    else:
        print_table(("scope", "tenant", "user", "tokens", "cost", "spent today"), [each.row() for each in found])


@dataclass(frozen=True, slots=True)
class _Listed:
    name: BudgetName
    budget: Budget
    spent: Spent | None

    def as_dict(self) -> dict[str, Any]:
        spent = None if self.spent is None else {"tokens": self.spent.tokens, "cost": self.spent.nanodollars / NANO}
        of, own = self.name, self.budget
        scope = {"scope": of.scope, "tenant": of.tenant, "user": of.user}
        return {**scope, "tokens": own.tokens, "cost": own.cost, "spent_today": spent}

    def row(self) -> list[object]:
        today = self.spent and f"{self.spent.tokens:,} tokens, ${self.spent.nanodollars / NANO:.4f}"
        of, own = self.name, self.budget
        return [cell(value) for value in (of.scope, of.tenant, of.user, own.tokens, own.cost, today)]


async def _read(client: Any) -> list[_Listed]:
    store = _store(client)
    budgets = {BudgetName.parse(field): budget for field, budget in sorted((await store.all()).items())}
    spent = await asyncio.gather(*(_spent(store, name, budget) for name, budget in budgets.items()))
    return [_Listed(name, budget, each) for (name, budget), each in zip(budgets.items(), spent, strict=True)]


async def _spent(store: BudgetStore, name: BudgetName, budget: Budget) -> Spent | None:
    """What is spent today, of a budget that is for one user's or tenant's day."""
    if name.scope is not BudgetScope.TENANT and name.user is None:
        return None
    return await store.spent(Purse.of(name, datetime.now(UTC).date(), budget))


def _store(client: Any) -> BudgetStore:
    return BudgetStore(ScriptRunner(client), client)


def _name(settings: Settings, scope: BudgetScope, user: str | None, tenant: str | None) -> BudgetName:
    if user is not None and scope is not BudgetScope.USER:
        raise BadRequest(f"--user is for the budget of a user, not of a {scope}")
    whose = settings.tenant if tenant is None else valid_tenant(tenant)
    return BudgetName(scope, whose, None if user is None else short_string("--user", user))


def _described(name: BudgetName) -> str:
    if name.user is not None:
        return f"user {name.user!r} of tenant {name.tenant!r}"
    if name.scope is BudgetScope.TENANT:
        return f"tenant {name.tenant!r}"
    return f"each {name.scope} of tenant {name.tenant!r}"


def _amounts(budget: Budget) -> str:
    tokens = [] if budget.tokens is None else [f"{budget.tokens:,} tokens"]
    cost = [] if budget.cost is None else [f"${budget.cost:g}"]
    return " and ".join([*tokens, *cost]) or "no limit"
