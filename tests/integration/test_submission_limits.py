"""Limits of users and tenants on a fleet: the same in a local session, over HTTP, and on the command line."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterator

import pytest
from typer.testing import CliRunner, Result

from broker_config.settings import load_settings
from sessions import Session, Turn
from sessions.cli import main as cli
from sessions.errors import BadRequest, RateLimited
from tests.support.fleet import Fleet
from tests.support.gateway import GatewayProcess
from tests.support.http import problem
from tests.support.servers import Server
from tests.support.waiting import wait_until


@pytest.fixture
def limits(server: Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Result]]:
    """Runs `sessionfleet limits ...` on the fleet's store."""
    monkeypatch.setenv("REDIS_URL", server.url)
    load_settings.cache_clear()

    def run(*arguments: str) -> Result:
        result = CliRunner().invoke(cli.app, ["limits", *arguments])
        if isinstance(result.exception, BadRequest):
            raise result.exception
        return result

    yield run
    load_settings.cache_clear()


def hanging() -> str:
    """A message whose turn is in flight until it is cancelled; the model hangs once for each."""
    return f"{uuid.uuid4().hex}\nHANG 0 600"


def test_a_user_with_a_limit(fleet: Fleet, gateway_process: GatewayProcess, limits: Callable[..., Result]) -> None:
    """One turn in flight: a second one is refused wherever it comes from, and accepted once the first has ended."""
    user = uuid.uuid4().hex

    def session(**options: str) -> Session:
        return fleet.session(uuid.uuid4().hex, user_id=user, **options)

    def submit() -> Turn | RateLimited:
        try:
            return session().Agent("A").submit(hanging())
        except RateLimited as error:
            return error

    said = limits("set", "--user", user, "--in-flight", "1").output
    assert said == f"user {user!r} of tenant 'default': 1 in flight\n"
    turns: list[Turn] = []

    def refused() -> RateLimited | None:
        turn = submit()
        if isinstance(turn, RateLimited):
            return turn
        turns.append(turn)
        return None

    error = wait_until(refused, description="this process knows the limit")
    assert (
        str(error)
        == f"user {user!r} has reached its limit of turns in flight (1); try again when one of them has ended"
    )
    assert error.retry_after == 1.0

    remote = Session(uuid.uuid4().hex, agent_url=f"{gateway_process.url}/agent", user_id=user)

    def refused_there() -> RateLimited | None:
        try:
            turns.append(remote.Agent("A").submit(hanging()))
        except RateLimited as error:
            return error
        return None

    assert wait_until(refused_there, description="the gateway knows the limit").retry_after == 1.0
    with gateway_process.client() as client:
        path, body = f"/v1/sessions/{uuid.uuid4().hex}/turns", {"message": "hi"}
        answer = client.post(path, json=body, headers={"X-User-ID": user})
    assert "turns in flight (1)" in problem(answer, 429, "RateLimited")["detail"]
    assert answer.headers["retry-after"] == "1"

    for turn in turns:
        turn.cancel()
    wait_until(lambda: all(turn.status.final for turn in turns), description="the turns have ended")
    assert session().chat("SAY room") == "room"
    assert limits("remove", "--user", user).exit_code == 0


def test_the_command(limits: Callable[..., Result]) -> None:
    """What is not named stays as it is; `show` has what applies to all, and what single tenants and users have."""
    tenant = uuid.uuid4().hex
    limits("set", "--tenant", tenant, "--per-minute", "60", "--open", "0")
    limits("set", "--tenant", tenant, "--sessions", "5")
    limits("set", "--tenant", tenant, "--each-user", "--in-flight", "2")
    assert "0.5 weight" in limits("set", "--tenant", tenant, "--weight", "0.5").output
    shown = json.loads(limits("show", "--json").output)
    assert shown["each_tenant"]["weight"] == 1
    nothing = dict.fromkeys(("per_minute", "in_flight", "open", "sessions", "weight"))
    assert shown["each_user"] == {**nothing, "per_minute": 0, "in_flight": 0, "open": 0, "sessions": 0}
    of_tenant = {"per_minute": 60, "in_flight": None, "open": 0, "sessions": 5, "weight": 0.5}
    assert [own for own in shown["own"] if own["tenant"] == tenant] == [
        {**of_tenant, "tenant": tenant, "user": None, "each_user": False},
        {**nothing, "tenant": tenant, "user": None, "each_user": True, "in_flight": 2},
    ]
    assert f"each user of tenant '{tenant}'" in limits("show").output
    assert limits("remove", "--tenant", tenant).exit_code == 0
    assert limits("remove", "--tenant", tenant, "--each-user").exit_code == 0
    assert limits("remove", "--tenant", tenant).exit_code == 1
    with pytest.raises(BadRequest, match="at least one limit"):
        limits("set", "--tenant", tenant)
    with pytest.raises(BadRequest, match="only tenants have weights"):
        limits("set", "--each-user", "--weight", "2")
    with pytest.raises(BadRequest, match="not both"):
        limits("remove", "--user", "ann", "--each-user")
    assert "no session of the queue" in limits("waiting", "--queue", f"turns.{tenant}").output
