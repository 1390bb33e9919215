"""Access on a real gateway: keys, tokens, rights, when they are required, and what the log says."""

from __future__ import annotations

import os
import sys
import uuid
from pathlib import Path

import httpx
import pytest

from broker_config.settings import Settings
from sessions.client.per_process import get_client
from sessions.errors import BadRequest
from sessions.gateway.access import access_for
from sessions.gateway.api_key import id_in
from sessions.gateway.authenticator import Everybody
from sessions.store.api_keys import ApiKeyStore
from tests.support import preloaded
from tests.support.fleet import ROOT
from tests.support.gateway import GatewayProcess, a_session, answer_to, ask, made_key, running_gateway
from tests.support.http import good, problem
from tests.support.servers import Server
from tests.support.tokens import token
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


def test_the_start_says_that_authentication_is_on(gateway: GatewayProcess) -> None:
    """And how to make a key; what is only half set is a warning."""
    assert "authentication  on: API keys (`sessionfleet keys api create` creates one), and tokens" in gateway.log
    assert "WARNING: SESSIONFLEET_GATEWAY_JWT_ISSUER is not set" in gateway.log


def test_every_route_but_the_probes_asks_who_calls(gateway: GatewayProcess) -> None:
    """All routes in OpenAPI, and those that are not: a route that forgets to check is closed."""
    paths = good(ask(gateway, "GET", "/openapi.json"))["paths"]
    for path in ("/health", "/agent/health", "/agent/x/health"):
        assert ask(gateway, "GET", path).status_code == 200
    probes = {"/health", "/ready", "/agent/health", "/agent/{name}/health"}
    asked = [(method, path) for path, methods in paths.items() for method in methods if path not in probes]
    assert len(asked) > 15
    with gateway.client() as client:
        for method, path in [
            *asked,
            ("get", "/v1/nothing"),
            ("get", "/"),
            ("put", "/health"),
            ("delete", "/openapi.json"),
        ]:
            said = client.request(method, path.replace("{", "").replace("}", ""), content=b"{")
            problem(said, 401, "Unauthenticated")
            assert said.headers["www-authenticate"].startswith("Bearer")


def test_a_bad_credential_is_none(gateway: GatewayProcess, store: Server) -> None:
    """In any header; and no answer distinguishes an unknown id from a wrong secret."""
    key = made_key(store)
    path = f"/v1/sessions/{a_session()}/state"
    assert ask(gateway, "GET", path, key).status_code == 200
    wrong = (key[:-1] + ("A" if key[-1] != "A" else "B"), made_up())
    said = {problem(ask(gateway, "GET", path, one), 401)["detail"] for one in wrong}
    assert len(said) == 1
    good(ask(gateway, "GET", path, headers={"X-API-Key": key}))
    with httpx.Client(trust_env=False) as client:
        good(client.get(f"http://any:{key}@127.0.0.1:{gateway.port}{path}"))
    both = {"X-API-Key": key, "Authorization": f"Bearer {made_key(store)}"}
    problem(ask(gateway, "GET", path, headers=both), 401)


def test_bytes_in_headers_that_are_no_text_are_refused(gateway: GatewayProcess) -> None:
    """They get 401, like any other invalid credential."""
    head = (
        b"GET /v1/sessions HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer \xff\xfe\xc3\xa9\r\n\r\n"
    )
    assert answer_to(gateway, head).startswith(b"HTTP/1.1 401")


def test_tokens_are_taken_beside_keys(gateway: GatewayProcess) -> None:
    """A token gives access as the tenant and user that it names."""
    session = a_session()
    alice = token({"aud": "sessionfleet", "tenant": "acme"})
    good(ask(gateway, "POST", "/v1/sessions", alice, json={"session_id": session}), 201)
    assert good(ask(gateway, "GET", f"/v1/sessions/{session}", alice))["user_id"] == "alice"
    mallory = token({"aud": "sessionfleet", "tenant": "acme", "sub": "mallory"})
    problem(ask(gateway, "GET", f"/v1/sessions/{session}", mallory), 403, "SessionOwnerError")
    problem(ask(gateway, "GET", f"/v1/sessions/{session}", token({"aud": "sessionfleet"})), 404)
    problem(ask(gateway, "GET", f"/v1/sessions/{session}", token({"tenant": "acme"})), 401)
    problem(ask(gateway, "GET", f"/v1/sessions/{session}", alice[:-8]), 401)


def test_a_right_that_a_key_lacks_is_403(gateway: GatewayProcess, store: Server) -> None:
    """The response names the missing right."""
    session = a_session()
    reader = made_key(store, rights=("read",))
    good(ask(gateway, "GET", f"/v1/sessions/{session}/state", reader))
    said = problem(ask(gateway, "PATCH", f"/v1/sessions/{session}/state", reader, json={"values": {"a": 1}}), 403)
    assert "'write'" in said["detail"]
    writer = made_key(store)
    own = {"message": "hi", "agent": {"name": "Mine", "instructions": "Obey."}}
    said = problem(ask(gateway, "POST", f"/v1/sessions/{session}/turns", writer, json=own), 403)
    assert "'configure'" in said["detail"]


def test_workers_of_ones_own_choice_take_the_right_to_configure(gateway: GatewayProcess, store: Server) -> None:
    """What they know and may reach is theirs: a queue is how a deployment keeps its workers apart."""
    writer, configurer = made_key(store), made_key(store, rights=("read", "write", "configure"))
    for path, body in (("/v1/sessions", {}), (f"/v1/sessions/{a_session()}/turns", {"message": "hi"})):
        said = problem(ask(gateway, "POST", path, writer, json={**body, "queue": "vip"}), 403)
        assert "'configure'" in said["detail"]
        assert ask(gateway, "POST", path, writer, json={**body, "queue": "turns"}).status_code in (201, 202)
    good(ask(gateway, "POST", "/v1/sessions", configurer, json={"queue": "vip"}), 201)


def test_a_key_says_for_whom_it_asks_only_where_it_may(gateway: GatewayProcess, store: Server) -> None:
    """`X-User-ID`, and `user_id` of `/agent`; two different users are refused."""
    own, backend = made_key(store, user="alice"), made_key(store, acts_for_users=True)
    path = f"/v1/sessions/{a_session()}/state"
    good(ask(gateway, "GET", path, own, headers={"X-User-ID": "alice"}))
    problem(ask(gateway, "GET", path, own, headers={"X-User-ID": "bob"}), 403)
    problem(ask(gateway, "POST", "/agent", own, json={"message": "hi", "user_id": "bob"}), 403)
    good(ask(gateway, "GET", path, backend, headers={"X-User-ID": "bob"}))
    twice = [("Authorization", f"Bearer {backend}"), ("X-User-ID", "bob"), ("X-User-ID", "eve")]
    problem(ask(gateway, "GET", path, headers=twice), 422)


def test_a_revoked_key_is_refused(gateway: GatewayProcess, store: Server) -> None:
    """Though it was used a moment ago; the command says so to people."""
    key = made_key(store)
    path = f"/v1/sessions/{a_session()}/state"
    good(ask(gateway, "GET", path, key))
    environment = {**os.environ, "REDIS_URL": store.url, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "sessions.cli.main", "keys", "api", "revoke", str(id_in(key))]
    assert "revoked" in preloaded.run(command, env=environment, check=True).stdout
    wait_until(lambda: ask(gateway, "GET", path, key).status_code == 401, description="the key is refused")


@pytest.mark.parametrize(
    ("host", "settings", "key", "on"),
    [
        ("127.0.0.1", {}, False, False),
        ("127.0.0.1", {}, True, True),
        ("127.0.0.1", {"gateway_auth": "off"}, True, False),
        ("localhost", {"gateway_auth": "on"}, False, True),
        ("0.0.0.0", {}, False, None),
        ("0.0.0.0", {}, True, True),
        ("::", {"gateway_auth": "off"}, True, None),
        ("0.0.0.0", {"gateway_auth": "on"}, False, True),
        ("no.such.host.invalid", {}, False, None),
    ],
)
async def test_when_authentication_is_on(
    new_server: Server, host: str, settings: dict[str, str], key: bool, on: bool | None
) -> None:
    """Off only on loopback; where others could reach it without authentication, it does not start unless told to."""
    if key:
        made_key(new_server)
    wanted = Settings(redis_url=new_server.url, **settings)  # type: ignore[arg-type]
    try:
        if on is None:
            with pytest.raises(BadRequest, match="--insecure"):
                await access_for(wanted, host)
            assert isinstance((await access_for(wanted, host, insecure=True)).authenticator, Everybody)
        else:
            assert isinstance((await access_for(wanted, host)).authenticator, Everybody) is not on
    finally:
        await get_client(wanted).portal.acall(get_client(wanted).aclose())


async def test_revoking_the_last_key_opens_nothing(new_server: Server) -> None:
    """As when the only key has leaked: at the next start callers must still authenticate."""
    key_id = str(id_in(made_key(new_server)))
    wanted = Settings(redis_url=new_server.url)
    client = get_client(wanted)

    async def revoked() -> bool:
        await client.open()
        return await ApiKeyStore(client.stores.redis).remove(key_id)

    try:
        assert await client.portal.acall(revoked())
        assert not isinstance((await access_for(wanted, "127.0.0.1")).authenticator, Everybody)
    finally:
        await client.portal.acall(client.aclose())


def test_open_to_others_and_without_authentication_it_does_not_start(tmp_path: Path, store: Server) -> None:
    """The error has both ways out, in one line; with `--insecure` there is a warning."""
    with pytest.raises(AssertionError, match="the gateway ended: error: ") as ended:
        running_gateway(store, tmp_path, "--host", "0.0.0.0", SESSIONFLEET_GATEWAY_AUTH="off").__enter__()
    assert "--insecure" in str(ended.value)
    assert "sessionfleet keys api create" in str(ended.value)
    insecure = ("--host", "0.0.0.0", "--insecure")
    with running_gateway(store, tmp_path, *insecure, SESSIONFLEET_GATEWAY_AUTH="off") as gateway:
        good(ask(gateway, "GET", "/v1/sessions/x/state", headers={"Host": "gateway.example"}))
        assert "WARNING: --insecure: everybody who can reach '0.0.0.0' may read and change" in gateway.log


def test_the_log_has_a_line_for_each_request_and_no_secret(gateway: GatewayProcess, store: Server) -> None:
    """Who, what, how it ended, how long, under the request's id; no query, no credential, nothing for probes."""
    key, name = made_key(store), uuid.uuid4().hex
    alice = token({"aud": "sessionfleet"})
    path = f"/v1/sessions/{name}/state?token=in-the-query"
    for credential in (key, alice, f"{key[:-3]}abc", "not a key"):
        ask(gateway, "GET", path, credential, headers={"X-Request-ID": f"r-{name}"})
    ask(gateway, "GET", path, auth=httpx.BasicAuth("any", key), headers={"X-Request-ID": f"r-{name}"})
    ask(gateway, "GET", f"/health?{name}")
    lines = wait_until(
        lambda: found if len(found := [line for line in gateway.log.splitlines() if name in line]) == 5 else None,
        description="five lines in the log",
    )
    statuses = ["status=200", "status=200", "status=401", "status=401", "status=200"]
    assert all(status in line for status, line in zip(statuses, lines, strict=True))
    assert f"principal='key:{id_in(key)}'" in lines[0]
    assert "principal='token:alice'" in lines[1]
    assert all(f"request_id='r-{name}'" in line and "ms=" in line for line in lines)
    log = gateway.log
    assert "in-the-query" not in log
    assert not any(secret in log for secret in (key, key.rpartition("_")[2][:20], *alice.split(".")))
