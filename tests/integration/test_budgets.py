"""Budgets on real workers: exact after kill -9, typed when they are spent, at the gateway and in the terminal too."""

from __future__ import annotations

import json
import subprocess
import time
import uuid
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta

import httpx
import pytest

from sessions import errors
from sessions.protocol.budgets import Budget, BudgetScope, Spent, nanodollars
from sessions.store.budgets import BudgetName, BudgetStore, Purse
from tests.integration.test_cli_on_a_fleet import CLI, environment
from tests.support.fleet import Fleet
from tests.support.gateway import GatewayProcess
from tests.support.waiting import wait_until

PRICES = json.dumps({"double": {"input": 1.5, "output": 7}})


def store_of(fleet: Fleet) -> BudgetStore:
    client = fleet.client
    client.portal.call(client.open())
    return BudgetStore(client.stores.scripts, client.stores.redis)


def spent(fleet: Fleet, name: BudgetName, day: date) -> Spent:
    store = store_of(fleet)
    return fleet.client.portal.call(store.spent(Purse.of(name, day, Budget())))


def test_kill_9_neither_loses_nor_doubles_what_is_spent(new_fleet: Callable[..., Fleet]) -> None:
    """In the second of two requests: what was reserved for it is what its replay cost in the end, for both owners."""
    names = [BudgetName(BudgetScope.TENANT, "acme"), BudgetName(BudgetScope.USER, "acme", "ann")]
    fleet = new_fleet(
        SESSIONFLEET_PRICES=PRICES, SESSIONFLEET_LEASE="2", SESSIONFLEET_BUDGET_TENANT_COST="5",
        SESSIONFLEET_BUDGET_USER_TOKENS="100000",
    )  # fmt: skip
    fleet.start("first")
    fleet.start("second")
    fleet.ready()
    day = datetime.now(UTC).date()
    session = fleet.session("budget", tenant="acme", user_id="ann")
    turn = session.Agent("A", tools=["charge"]).submit('CALL charge({"amount": 5})\nHANG 1 60')
    fleet.noted("hung", 1)
    reserved = [spent(fleet, name, day) for name in names]
    assert reserved[0] == reserved[1]
    assert reserved[0].tokens > 4096, "the answer that may come"
    next(each for each in fleet.workers if turn.record().worker.startswith(each.name)).kill()
    assert turn.result(timeout=60) == "ok: charged 5"
    usage = turn.record().usage
    assert usage is not None
    assert usage.cost is not None
    for name in names:
        found = spent(fleet, name, day)
        assert found.tokens == usage.input_tokens + usage.output_tokens
        assert found.nanodollars == pytest.approx(nanodollars(usage.cost), abs=2)
    with fleet.server.client() as client:
        wait_until(lambda: not list(client.scan_iter("*:open:*")), description="the turn has no entry any more")


def test_a_turn_that_waits_for_a_person_has_nothing_reserved(fleet: Fleet) -> None:
    """Only what it has spent counts while it waits, and after it was cancelled."""
    ann, day = f"ann-{uuid.uuid4().hex}", datetime.now(UTC).date()
    name, store = BudgetName(BudgetScope.USER, "default", ann), store_of(fleet)
    fleet.client.portal.call(store.set(name, Budget(tokens=1_000_000)))
    session = fleet.session(uuid.uuid4().hex, user_id=ann)
    known = time.monotonic() + 2.5  # each worker asks for budgets again after two seconds
    wait_until(
        lambda: session.chat("hi") and time.monotonic() > known and spent(fleet, name, day).tokens,
        description="both workers know the budget",
    )
    before = spent(fleet, name, day).tokens
    turn = session.Agent("A", tools=["refund"]).submit('CALL refund({"amount": 1})')
    wait_until(turn.approvals, description="it waits for a person")
    waiting = spent(fleet, name, day).tokens - before
    assert 0 < waiting < 1000, "no answer of up to 4,096 tokens is reserved"
    turn.cancel()
    with pytest.raises(errors.TurnCancelled):
        turn.result(timeout=30)
    usage = turn.record().usage
    assert usage is not None
    assert spent(fleet, name, day).tokens - before == waiting == usage.input_tokens + usage.output_tokens


def budgeted(fleet: Fleet, scope: BudgetScope, user: str | None, tenant: str = "default") -> None:
    """A budget of one token."""
    store, name = store_of(fleet), BudgetName(scope, tenant, user)
    fleet.client.portal.call(store.set(name, Budget(tokens=1)))


def refusal(fleet: Fleet, user: str | None, tenant: str | None = None) -> errors.BudgetExceeded | None:
    """What a message leads to; None if it was answered, because no worker knew of the budget yet."""
    try:
        fleet.session(uuid.uuid4().hex, user_id=user, tenant=tenant).chat("hi")
    except errors.BudgetExceeded as error:
        return error
    return None


@pytest.mark.parametrize("scope", list(BudgetScope))
def test_a_budget_that_is_spent_says_whose_it_is(fleet: Fleet, scope: BudgetScope) -> None:
    """Of a user or a tenant it also says when the day ends."""
    tenant, day = f"t{uuid.uuid4().hex[:8]}", datetime.now(UTC).date()
    budgeted(fleet, scope, None, tenant)
    error = wait_until(lambda: refusal(fleet, "ann", tenant), description="the workers know the budget")
    assert error is not None
    assert (error.scope, error.unit, error.limit) == (scope, "tokens", 1)
    if scope in ("user", "tenant"):
        assert error.resets_at is not None
        assert timedelta(0) < error.resets_at - datetime.combine(day, datetime.min.time(), UTC) <= timedelta(days=2)
    else:
        assert error.resets_at is None


def test_a_user_over_budget_gets_402_and_others_go_on(fleet: Fleet, gateway_process: GatewayProcess) -> None:
    """With a type that stays, and without the amounts, which are the operators' business."""
    ann = f"ann-{uuid.uuid4().hex}"
    shown = subprocess.run(
        [*CLI, "budget", "set", "user", "--user", ann, "--tokens", "1"],
        env=environment(fleet.server.url), capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert shown.stdout == f"user '{ann}' of tenant 'default': 1 tokens\n"
    body = {"message": "hi", "user_id": ann}

    def refused() -> httpx.Response | None:
        answer = httpx.post(f"{gateway_process.url}/agent", json=body, timeout=30)
        return None if answer.status_code == 200 else answer

    wait_until(lambda: refusal(fleet, ann), description="one worker knows the budget")
    answer = wait_until(refused, description="the worker that this message gets knows it too")
    assert answer.status_code == 402
    assert answer.json()["type"] == "urn:sessionfleet:error:BudgetExceeded"
    assert "tokens" not in answer.json()["detail"]
    assert refusal(fleet, f"bob-{uuid.uuid4().hex}") is None
    listed = [*CLI, "budget", "list", "--json"]
    done = subprocess.run(listed, env=environment(fleet.server.url), capture_output=True, text=True, check=True)
    (entry,) = [each for each in json.loads(done.stdout) if each["user"] == ann]
    assert (entry["scope"], entry["tokens"], entry["spent_today"]["cost"]) == ("user", 1, 0)


def test_a_message_has_a_budget_of_its_own(fleet: Fleet) -> None:
    """Smaller than all others; in money only for a model whose price is known."""
    agent = fleet.session(uuid.uuid4().hex).Agent("A")
    with pytest.raises(errors.BudgetExceeded) as refused:
        agent.chat("hi", budget={"tokens": 10})
    assert (refused.value.scope, refused.value.limit, refused.value.used) == ("turn", 10, 0)
    assert agent.chat("hi", budget={"tokens": 100_000}) == "ok"
    with pytest.raises(errors.TurnConfigurationError, match="SESSIONFLEET_PRICES"):
        agent.chat("hi", budget={"cost": 1.0})
    assert agent.chat("hi", model="offline", budget={"cost": 0}), "the built-in model is free"
    with pytest.raises(errors.BadRequest, match="cost is -1"):
        agent.chat("hi", budget={"cost": -1})
