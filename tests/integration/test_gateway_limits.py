"""What one caller may ask of a real gateway, and what becomes of it when a server or gateway is gone."""

from __future__ import annotations

from pathlib import Path

import pytest

from sessions.gateway.api_key import id_in
from sessions.store.keys import limit_key
from tests.support.gateway import GatewayProcess, a_session, ask, made_key, running_gateway
from tests.support.http import good, problem
from tests.support.servers import Server, running
from tests.support.tokens import jwk_set, public_jwk, token
from tests.support.waiting import wait_until


@pytest.fixture
def gateway(secured_gateway: GatewayProcess) -> GatewayProcess:
    """Authentication is on there; see `tests/conftest.py`."""
    return secured_gateway


@pytest.fixture
def store(secured_store: Server) -> Server:
    """Its store."""
    return secured_store


def made_up() -> str:
    return f"sfk_{'a' * 12}_{'B' * 43}"


def test_more_than_its_rate_is_429(gateway: GatewayProcess, store: Server) -> None:
    """With the seconds to wait, and which limit it was; another key of the same tenant is not held up."""
    key, other = made_key(store, rate=3), made_key(store, rate=3)
    path = f"/v1/sessions/{a_session()}/state"
    for _ in range(3):
        good(ask(gateway, "GET", path, key))
    refused = ask(gateway, "GET", path, key)
    assert "3 requests per minute" in problem(refused, 429, "TooManyRequests")["detail"]
    assert 1 <= int(refused.headers["retry-after"]) <= 20
    good(ask(gateway, "GET", path, other))


def test_streams_count_while_they_are_open(gateway: GatewayProcess, store: Server) -> None:
    """And no longer: a reader that hangs up gives its place back. Nobody serves this turn, so that it stays open."""
    key = made_key(store, concurrency=2)
    made = ask(gateway, "POST", f"/v1/sessions/{a_session()}/turns", key, json={"message": "hi", "stream": True})
    events = f"{made.headers['location']}/events"
    with gateway.client(key) as client:
        with client.stream("GET", events) as first, client.stream("GET", events) as second:
            assert (first.status_code, second.status_code) == (200, 200)
            refused = ask(gateway, "GET", made.headers["location"], key)
            assert "2 requests or streams" in problem(refused, 429, "TooManyRequests")["detail"]
            assert refused.headers["retry-after"] == "1"
        wait_until(
            lambda: ask(gateway, "GET", made.headers["location"], key).status_code == 200,
            description="the places are given back",
        )


def test_without_limits_the_store_is_not_asked(gateway: GatewayProcess, store: Server) -> None:
    """The gateway neither asks the store about limits nor leaves keys in it."""
    key = made_key(store, rate=0, concurrency=0)
    with store.client() as client:
        before = set(client.scan_iter("sf:v1:{limit-*"))
        good(ask(gateway, "GET", f"/v1/sessions/{a_session()}/state", key))
        assert set(client.scan_iter("sf:v1:{limit-*")) <= before


def test_while_the_store_is_down_nobody_is_let_in(tmp_path: Path) -> None:
    """503, never open: neither with a good key, nor with a bad one, nor with a token's limits uncounted."""
    (tmp_path / "jwks.json").write_bytes(jwk_set(public_jwk("ES256", "k1")))
    with running(Server(tmp_path / "server")) as server:
        key = made_key(server)
        with running_gateway(server, tmp_path, SESSIONFLEET_GATEWAY_JWKS=str(tmp_path / "jwks.json")) as gateway:
            path = f"/v1/sessions/{a_session()}/state"
            good(ask(gateway, "GET", path, key))
            server.kill()
            for credential in (key, made_up(), token()):
                refused = ask(gateway, "GET", path, credential)
                assert "retry-after" in refused.headers
                problem(refused, 503)
            assert ask(gateway, "GET", "/health").status_code == 200
            problem(ask(gateway, "GET", path), 401)
            server.start()
            wait_until(lambda: ask(gateway, "GET", path, key).status_code == 200, description="all is well again")


def test_one_request_after_the_other_is_never_two_at_once(gateway: GatewayProcess, store: Server) -> None:
    """If one request may be open: its end is recorded before its client can send the next one."""
    key = made_key(store, concurrency=1, rate=0)
    path = f"/v1/sessions/{a_session()}/state"
    with gateway.client(key) as client:
        assert {client.get(path).status_code for _ in range(100)} == {200}


def test_a_gateway_that_was_killed_holds_places_for_a_moment_only(
    gateway: GatewayProcess, store: Server, tmp_path: Path
) -> None:
    """Its reservations run out (R7); another gateway on the same store lets the caller in then."""
    key = made_key(store, concurrency=1)
    place = f"{limit_key('default', f'key:{id_in(key)}')}:open"
    with running_gateway(store, tmp_path) as killed, killed.client(key) as client:
        turn = client.post(f"/v1/sessions/{a_session()}/turns", json={"message": "hi"}).headers["location"]
        with client.stream("GET", f"{turn}/events"):
            problem(ask(gateway, "GET", turn, key), 429)
            killed.kill()
        with store.client() as looking:
            assert 0 < looking.pttl(place) <= 30_000
            looking.pexpire(place, 1)  # as the time does
        wait_until(lambda: ask(gateway, "GET", turn, key).status_code == 200, description="the place is free")
