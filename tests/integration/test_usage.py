"""What was used, by turns on real workers: in Python, at the gateway, and in the terminal."""

from __future__ import annotations

import json
import subprocess
import uuid
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta

import pytest

from broker_config.settings import load_settings
from sessions import Session, UsageRow
from sessions.errors import BadRequest, ToolError
from sessions.store.keys import partition_key, usage_counters
from tests.integration.test_cli_on_a_fleet import CLI, environment
from tests.support.fleet import Fleet
from tests.support.gateway import GatewayProcess, ask, made_key
from tests.support.http import good, problem
from tests.support.servers import Server


def rows(fleet: Fleet, user: str | None, by: Sequence[str], tenant: str | None = None) -> list[UsageRow]:
    """Since yesterday, for a test may run over midnight."""
    today = datetime.now(UTC).date()
    since = today - timedelta(days=1)
    return Session.usage(user, since=since, until=today, by=by, tenant=tenant, settings=fleet.settings)  # type: ignore[arg-type]


def test_turns_are_counted_for_their_user_and_model(fleet: Fleet, gateway_process: GatewayProcess) -> None:
    """One that failed too; an agent that is asked counts once. All ways to ask say the same."""
    ann = f"ann-{uuid.uuid4().hex}"
    session = fleet.session(uuid.uuid4().hex, user_id=ann)
    helper = session.Agent("B")
    asks = session.Agent("A", tools=["divide", helper])
    assert session.chat("hi")
    assert asks.chat('CALL ask_B({"message": "hi"})')
    with pytest.raises(ToolError):
        asks.chat('CALL divide({"number": 1, "by": 0})')
    (row,) = rows(fleet, ann, ["user", "model"])
    assert (row.user_id, row.requests, row.tool_calls) == (ann, 5, 1)
    assert row.unpriced_requests == 5, "the double's price is not known"
    assert row.cost is None
    assert (session.info().cost, session.info().unpriced_requests) == (None, 5)

    since = datetime.now(UTC).date() - timedelta(days=1)
    remote = Session.usage(ann, since=since, by=["user", "model"], agent_url=f"{gateway_process.url}/agent")
    assert remote == [row]
    assert {each.day is None for each in Session.usage(ann, since=since, agent_url=gateway_process.url)} == {False}
    command = [*CLI, "usage", "--user", ann, "--by", "model", "--json"]
    done = subprocess.run(command, env=environment(fleet.server.url), capture_output=True, text=True, check=True)
    (shown,) = json.loads(done.stdout)
    assert (shown["model"], shown["requests"], shown["cost"], shown["day"]) == (row.model, 5, None, None)
    done = subprocess.run(command[:-1], env=environment(fleet.server.url), capture_output=True, text=True, check=True)
    heading, line = done.stdout.splitlines()
    assert heading.split() == ["model", "requests", "input", "cache_read", "output", "tool_calls", "cost"]
    assert (line.split()[0], line.split()[-1]) == (row.model, "unknown")


def test_a_tenant_sees_its_own(fleet: Fleet) -> None:
    """Nothing of another one's."""
    mine, other = f"t{uuid.uuid4().hex[:8]}", f"t{uuid.uuid4().hex[:8]}"
    assert fleet.session(uuid.uuid4().hex, tenant=mine).chat("hi")
    (row,) = rows(fleet, None, [], tenant=mine)
    assert (row.requests, row.day, row.model) == (1, None, None)
    assert rows(fleet, None, [], tenant=other) == []


def test_a_credential_sees_its_users_or_its_tenants_usage(
    secured_gateway: GatewayProcess, secured_store: Server
) -> None:
    """That of one user only this user's; nobody sees another tenant's."""
    tenant, today = f"t{uuid.uuid4().hex[:8]}", datetime.now(UTC).date()
    counters = f"{partition_key(3)}:usage{usage_counters(tenant, today.isoformat())}"
    with secured_store.client() as client:
        client.hset(counters, mapping={"requests|m|ann": 2, "requests|m|bob": 5})
        client.expire(counters, 600)

    def seen(headers: dict[str, str] | None = None, **key: object) -> list[tuple[str | None, int]]:
        path = f"/v1/usage?since={today}&until={today}&by=user"
        answer = good(ask(secured_gateway, "GET", path, made_key(secured_store, **key), headers=headers))
        return [(row["user_id"], row["requests"]) for row in answer["usage"]]

    assert seen(tenant=tenant, user="ann") == [("ann", 2)]
    assert seen(tenant=tenant, acts_for_users=True) == [("ann", 2), ("bob", 5)]
    assert seen({"X-User-ID": "bob"}, tenant=tenant, acts_for_users=True) == [("bob", 5)]
    assert seen(tenant=f"{tenant}x", acts_for_users=True) == []
    key = made_key(secured_store, tenant=tenant, user="ann")
    problem(ask(secured_gateway, "GET", "/v1/usage", key, headers={"X-User-ID": "bob"}), 403, "Forbidden")
    problem(ask(secured_gateway, "GET", "/v1/usage?by=week", key), 422)


def test_odd_ranges_are_refused() -> None:
    """Before anything is read."""
    today = date(2026, 11, 30)
    for wrong in ({"since": today, "until": date(2026, 11, 29)}, {"since": date(2025, 1, 1), "until": today}):
        with pytest.raises(BadRequest, match="1 to 400 days"):
            Session.usage(**wrong, settings=load_settings())
    with pytest.raises(BadRequest, match="any of"):
        Session.usage(by=["week"], settings=load_settings())  # type: ignore[list-item]
    with pytest.raises(BadRequest, match="use a date"):
        Session.usage(since="2026-11-30", settings=load_settings())  # type: ignore[arg-type]
