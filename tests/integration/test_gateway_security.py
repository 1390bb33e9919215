"""Who may do what on a real gateway: keys, tokens, rights, limits, pages of other sites, and what the log says."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from broker_config.settings import Settings
from sessions.client import get_client
from sessions.errors import BadRequest
from sessions.gateway.access import access_for
from sessions.gateway.api_key import id_in
from sessions.gateway.authenticator import Everybody
from tests.support.fleet import ROOT
from tests.support.gateway import GatewayProcess, made_key, running_gateway
from tests.support.http import good, problem
from tests.support.servers import Server, running
from tests.support.tokens import jwk_set, public_jwk, token
from tests.support.waiting import wait_until

PAGE = "https://app.example.org"
ELSEWHERE = "https://evil.example"


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A store of these tests' own: an API key in it turns authentication on."""
    with running(Server(tmp_path_factory.mktemp("store"))) as started:
        yield started


@pytest.fixture(scope="module")
def gateway(store: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    """A gateway with authentication on, which takes tokens, too, and lets one other site's pages ask."""
    folder = tmp_path_factory.mktemp("gateway")
    (folder / "jwks.json").write_bytes(jwk_set(public_jwk("ES256", "k1")))
    settings = {
        "SESSIONFLEET_GATEWAY_JWKS": str(folder / "jwks.json"),
        "SESSIONFLEET_GATEWAY_JWT_AUDIENCE": "sessionfleet",
        "SESSIONFLEET_GATEWAY_CORS": PAGE,
        "SESSIONFLEET_MESSAGE_LIMIT_BYTES": "10000",
        "SESSIONFLEET_DOCUMENT_LIMIT_BYTES": "200000",
    }
    with running_gateway(store, folder, **settings) as started:
        yield started


def ask(gateway: GatewayProcess, method: str, path: str, key: str | None = None, **options: object) -> httpx.Response:
    with gateway.client(key) as client:
        return client.request(method, path, **options)  # type: ignore[arg-type]


def answer_to(gateway: GatewayProcess, request: bytes) -> bytes:
    """What comes back for these very bytes, up to the connection's end."""
    with socket.create_connection(("127.0.0.1", gateway.port), 20) as connection:
        connection.sendall(request)
        return b"".join(iter(lambda: connection.recv(65536), b""))


def a_session() -> str:
    return f"s-{uuid.uuid4().hex}"


def test_the_start_says_that_authentication_is_on(gateway: GatewayProcess) -> None:
    """And how to make a key; what is only half set is a warning."""
    assert "authentication  on: API keys (`sessionfleet keys api create` makes one), and tokens" in gateway.log
    assert "WARNING: SESSIONFLEET_GATEWAY_JWT_ISSUER is not set" in gateway.log


def test_every_route_but_the_probes_asks_who_calls(gateway: GatewayProcess) -> None:
    """All that OpenAPI lists, and what it does not list: a route that forgets to ask is closed."""
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
    """Wherever it stands; and no answer tells an unknown id from a wrong secret."""
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
    """401, as any other."""
    head = (
        b"GET /v1/sessions HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer \xff\xfe\xc3\xa9\r\n\r\n"
    )
    assert answer_to(gateway, head).startswith(b"HTTP/1.1 401")


def test_tokens_are_taken_beside_keys(gateway: GatewayProcess) -> None:
    """For the tenant and user that they name."""
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
    """Which one it is stands in the answer."""
    session = a_session()
    reader = made_key(store, rights=("read",))
    good(ask(gateway, "GET", f"/v1/sessions/{session}/state", reader))
    said = problem(ask(gateway, "PATCH", f"/v1/sessions/{session}/state", reader, json={"values": {"a": 1}}), 403)
    assert "'write'" in said["detail"]
    writer = made_key(store)
    own = {"message": "hi", "agent": {"name": "Mine", "instructions": "Obey."}}
    said = problem(ask(gateway, "POST", f"/v1/sessions/{session}/turns", writer, json=own), 403)
    assert "'configure'" in said["detail"]


def test_a_key_says_for_whom_it_asks_only_where_it_may(gateway: GatewayProcess, store: Server) -> None:
    """`X-User-ID`, and `user_id` of `/agent`; twice and not the same is nobody."""
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
    assert "revoked" in subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout
    wait_until(lambda: ask(gateway, "GET", path, key).status_code == 401, description="the key is refused")


# --- limits -------------------------------------------------------------------------------------------------


def test_more_than_its_rate_is_429(gateway: GatewayProcess, store: Server) -> None:
    """With the seconds to wait, and which limit it was; another key of the same tenant is not held up."""
    key, other = made_key(store, rate=3), made_key(store, rate=3)
    path = f"/v1/sessions/{a_session()}/state"
    for _ in range(3):
        good(ask(gateway, "GET", path, key))
    refused = ask(gateway, "GET", path, key)
    assert "3 requests a minute" in problem(refused, 429, "TooManyRequests")["detail"]
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
    """Nor are keys left in it."""
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


def made_up() -> str:
    return f"sfk_{'a' * 12}_{'B' * 43}"


# --- bodies and heads ---------------------------------------------------------------------------------------


def test_a_body_that_is_too_large_is_refused_whatever_its_headers_say(gateway: GatewayProcess, store: Server) -> None:
    """By its length before it is read, and by what comes where it says none."""
    key = made_key(store)
    path = f"/v1/sessions/{a_session()}/turns"
    big = json.dumps({"message": "x" * 200_000}).encode()
    problem(ask(gateway, "POST", path, key, content=big), 413, "RequestTooLarge")
    chunks = (big[at : at + 10_000] for at in range(0, len(big), 10_000))
    problem(ask(gateway, "POST", path, key, content=chunks), 413)
    # One that is escaped sixfold still is a message of the size that is allowed.
    allowed = b'{"message": "' + b"\\u0061" * 9_990 + b'"}'
    good(ask(gateway, "POST", path, key, content=allowed, headers={"Content-Type": "application/json"}), 202)


@pytest.mark.parametrize(
    "headers",
    [
        "Content-Length: 5\r\nContent-Length: 50",
        "Content-Length: -1",
        "Content-Length: 1e3",
        "Content-Length: 99999999999999999999999",
        "Content-Length: 5\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: chunked, identity",
        "Content-Length: 5\nX: y",
    ],
)
def test_lengths_that_lie_are_refused(gateway: GatewayProcess, store: Server, headers: str) -> None:
    """A proxy in front may read another one of two; what could be taken for two requests is taken for none."""
    key = made_key(store)
    request = (
        f"POST /agent HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {key}\r\n{headers}\r\n\r\n5\r\nhello\r\n0\r\n\r\n"
    )
    answered = answer_to(gateway, request.encode())
    assert answered.startswith(b"HTTP/1.1 4")
    assert answered.count(b"HTTP/1.1 ") == 1


def test_who_may_not_ask_sends_no_body(gateway: GatewayProcess) -> None:
    """The answer comes before the body: an upload of a stranger is not kept anywhere."""
    head = b"POST /v1/sessions/a/knowledge HTTP/1.1\r\nHost: x\r\nContent-Length: 150000\r\n\r\n"
    with socket.create_connection(("127.0.0.1", gateway.port), 10) as connection:
        connection.sendall(head)
        assert connection.recv(65536).startswith(b"HTTP/1.1 401")


ENDLESS = {
    "head": (b"GET /health HTTP/1.1\r\nHost: x\r\n", b"X-%d: " + b"a" * 200 + b"\r\n"),
    "header": (b"GET /health HTTP/1.1\r\nHost: x\r\nX: ", b"%d" + b"a" * 200),
    "path": (b"GET /", b"%d" + b"a" * 200),
    "trailers": (
        b"POST /agent HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n",
        b"X-%d: " + b"a" * 200 + b"\r\n",
    ),
    "chunk": (b"POST /agent HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5;", b"%d" + b"a" * 200),
}


@pytest.mark.parametrize("part", ENDLESS)
def test_what_is_no_body_must_come_to_an_end(gateway: GatewayProcess, part: str) -> None:
    """Behind 64 KiB the connection ends: it would be kept in memory, and a parser takes any."""
    begin, more = ENDLESS[part]
    with socket.create_connection(("127.0.0.1", gateway.port), 10) as connection:
        rest = b"".join(more.replace(b"%d", b"%d" % n) for n in range(100_000))
        with pytest.raises(OSError):  # noqa: PT011 - reset or broken pipe
            connection.sendall(begin + rest)
    assert ask(gateway, "GET", "/health", headers={"X-Long": "a" * 30_000}).status_code == 200


def test_a_head_that_is_too_large_is_told_so(gateway: GatewayProcess) -> None:
    """431, where it comes before we close."""
    head = b"GET /health HTTP/1.1\r\nHost: x\r\nX: " + b"a" * 70_000
    assert answer_to(gateway, head).startswith(b"HTTP/1.1 431")


@pytest.mark.parametrize(
    "line",
    ["CONNECT evil.example:443", "OPTIONS *", "GET http://evil.example/v1/agents",
     "GET //evil.example/v1/agents",
     "GET /health/../v1/agents", "GET /health%2F..%2Fv1%2Fagents", "GET /agent/%0A/../health", "GET /v1/agents/%00",
     "GET /%2e%2e/v1/agents", "GET /HEALTH", "GET /health%0A", "POST /health", "TRACE /v1/agents",
     "GET /v1/agents?a=%ff",
     "GET /agent/x%2Fhealth/health", "GET /v1/agents#/health", "GET /v1/agents;/health",
     "PUT /v1/sessions/a/agent/x/health"],
)  # fmt: skip
def test_no_spelling_of_a_path_gets_past_the_gatekeeper(gateway: GatewayProcess, line: str) -> None:
    """401, or no HTTP at all; never an answer that says something, and never a broken gateway."""
    request = f"{line} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    status = answer_to(gateway, request.encode()).split(b" ", 2)[1]
    assert status in (b"400", b"401", b"422")


# --- pages of other sites -----------------------------------------------------------------------------------


def test_a_page_that_may_ask_can_read_what_it_is_told(gateway: GatewayProcess, store: Server) -> None:
    """The preflight needs no credential, a 401 can be read, and cookies are never asked for."""
    path = f"/v1/sessions/{a_session()}/state"
    preflight = {
        "Origin": PAGE, "Access-Control-Request-Method": "PATCH",
        "Access-Control-Request-Headers": "authorization,content-type,idempotency-key,x-user-id",
    }  # fmt: skip
    allowed = ask(gateway, "OPTIONS", path, headers=preflight)
    assert allowed.status_code == 200
    assert allowed.headers["access-control-allow-origin"] == PAGE
    assert "authorization" in allowed.headers["access-control-allow-headers"]
    assert "access-control-allow-credentials" not in allowed.headers
    for key, status in ((None, 401), (made_key(store), 200)):
        said = ask(gateway, "GET", path, key, headers={"Origin": PAGE})
        assert (said.status_code, said.headers["access-control-allow-origin"]) == (status, PAGE)
        assert "Retry-After" in said.headers["access-control-expose-headers"]


def test_a_page_of_another_site_can_read_nothing(gateway: GatewayProcess, store: Server) -> None:
    """Nor does its preflight succeed; and where a browser would add a remembered password, it is refused outright."""
    path, key = f"/v1/sessions/{a_session()}/state", made_key(store)
    for origin in (ELSEWHERE, f"{PAGE}.evil.example", PAGE.replace("https", "http"), "null"):
        asked = {"Origin": origin, "Access-Control-Request-Method": "GET"}
        refused = ask(gateway, "OPTIONS", path, headers=asked)
        assert refused.status_code == 400
        assert "access-control-allow-origin" not in refused.headers
        assert "access-control-allow-origin" not in ask(gateway, "GET", path, key, headers={"Origin": origin}).headers
        remembered = httpx.BasicAuth("any", key)
        problem(ask(gateway, "GET", path, headers={"Origin": origin}, auth=remembered), 403)


# --- without authentication ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def open_gateway(store: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    """A gateway on loopback that asks nobody who they are."""
    with running_gateway(store, tmp_path_factory.mktemp("open"), SESSIONFLEET_GATEWAY_AUTH="off") as started:
        yield started


def test_without_authentication_credentials_are_ignored(open_gateway: GatewayProcess) -> None:
    """Clients that always send some work; the start says that it is off."""
    assert "authentication  off: whoever is on this machine may do everything" in open_gateway.log
    path = f"/v1/sessions/{a_session()}/state"
    for headers in ({}, {"Authorization": "Bearer x"}, {"Authorization": "Digest"}, {"X-User-ID": "bob"}):
        good(ask(open_gateway, "GET", path, headers=headers))


@pytest.mark.parametrize(
    ("host", "served"),
    [("127.0.0.1", True), ("localhost:{port}", True), ("LOCALHOST", True), ("app.localhost", True),
     ("[::1]:{port}", True), ("evil.example", False), ("evil.example:{port}", False),
     ("localhost.evil.example", False), ("", False),
     ("127.0.0.1.evil.example", False), ("evillocalhost", False), ("127.0.0.1@evil.example", False), ("0.0.0.0", False),
     ("[::1", False)],
)  # fmt: skip
def test_only_names_of_this_machine_are_answered_to(open_gateway: GatewayProcess, host: str, served: bool) -> None:
    """A page whose name is made to lead to loopback (DNS rebinding) is of the same origin, but not of ours."""
    said = ask(open_gateway, "GET", "/v1/sessions/x/state", headers={"Host": host.format(port=open_gateway.port)})
    assert said.status_code == (200 if served else 421)


@pytest.mark.parametrize(
    ("headers", "served"),
    [
        ({}, True),
        ({"Origin": "http://127.0.0.1:{port}"}, True),
        ({"Origin": ELSEWHERE}, False),
        ({"Origin": "http://127.0.0.1:1"}, False),
        ({"Origin": "http://localhost:{port}"}, False),
        ({"Origin": "null"}, False),
        ({"Origin": "file://"}, False),
        ({"Origin": ""}, False),
        ({"Sec-Fetch-Site": "cross-site"}, False),
        ({"Sec-Fetch-Site": "same-site"}, False),
        ({"Sec-Fetch-Site": "same-origin"}, True),
        ({"Sec-Fetch-Site": "none"}, True),
        ({"Origin": "http://127.0.0.1:{port}", "Sec-Fetch-Site": "same-origin"}, True),
    ],
)
def test_a_page_of_the_internet_cannot_drive_a_developers_gateway(
    open_gateway: GatewayProcess, headers: dict[str, str], served: bool
) -> None:
    """A form or a simple request needs no preflight; here it changes nothing, with or without a body."""
    sent = {name: value.format(port=open_gateway.port) for name, value in headers.items()}
    session = a_session()
    said = ask(open_gateway, "POST", f"/v1/sessions/{session}/turns", headers=sent, json={"message": "hi"})
    assert said.status_code == (202 if served else 403)
    found = ask(open_gateway, "GET", f"/v1/sessions/{session}").status_code
    assert found == (200 if served else 404)


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", ""])
def test_a_body_that_a_form_can_send_is_no_json(open_gateway: GatewayProcess, kind: str) -> None:
    """Where an old browser says neither origin nor site: what needs no preflight is not read as JSON."""
    session = a_session()
    body = b'{"message": "hi"}'
    headers = {"Content-Type": kind}
    problem(ask(open_gateway, "POST", f"/v1/sessions/{session}/turns", content=body, headers=headers), 422)
    problem(ask(open_gateway, "POST", "/agent", content=body, headers=headers), 422)
    assert ask(open_gateway, "GET", f"/v1/sessions/{session}").status_code == 404


# --- the start, and the log ---------------------------------------------------------------------------------


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
    """Off only on loopback; where others would be let in unasked, it does not start unless somebody says so."""
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


def test_open_to_others_and_without_authentication_it_does_not_start(tmp_path: Path, store: Server) -> None:
    """The error has both ways out, in one line; with `--insecure` there is a warning."""
    with pytest.raises(AssertionError, match="the gateway ended: error: ") as ended:
        running_gateway(store, tmp_path, "--host", "0.0.0.0", SESSIONFLEET_GATEWAY_AUTH="off").__enter__()
    assert "--insecure" in str(ended.value)
    assert "sessionfleet keys api create" in str(ended.value)
    insecure = ("--host", "0.0.0.0", "--insecure")
    with running_gateway(store, tmp_path, *insecure, SESSIONFLEET_GATEWAY_AUTH="off") as gateway:
        good(ask(gateway, "GET", "/v1/sessions/x/state", headers={"Host": "gateway.example"}))
        assert "WARNING: --insecure: everybody who reaches '0.0.0.0' may read and change" in gateway.log


def test_the_log_has_a_line_for_each_request_and_no_secret(gateway: GatewayProcess, store: Server) -> None:
    """Who, what, how it ended, how long, under the request's name; no query, no credential, nothing for probes."""
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


def test_a_gateway_that_was_killed_holds_places_for_a_moment_only(tmp_path: Path) -> None:
    """Its reservations run out (R7); another gateway on the same store lets the caller in then."""
    with running(Server(tmp_path / "server")) as server:
        key = made_key(server, concurrency=1)
        with running_gateway(server, tmp_path) as killed, running_gateway(server, tmp_path) as other:
            made = ask(killed, "POST", f"/v1/sessions/{a_session()}/turns", key, json={"message": "hi"})
            events = f"{made.headers['location']}/events"
            with killed.client(key) as client, client.stream("GET", events):
                problem(ask(other, "GET", made.headers["location"], key), 429)
                os.kill(killed.pid, signal.SIGKILL)
                with server.client() as store:
                    (place,) = store.scan_iter("sf:v1:{limit-*:open")
                    assert 0 < store.pttl(place) <= 30_000
                    store.pexpire(place, 1)  # as the time does
                wait_until(
                    lambda: ask(other, "GET", made.headers["location"], key).status_code == 200,
                    description="the place is free",
                )
