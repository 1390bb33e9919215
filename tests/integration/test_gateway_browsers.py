"""What pages of other sites can have a browser do to a gateway."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest

from tests.support.gateway import ALLOWED_PAGE, GatewayProcess, a_session, ask, made_key, running_gateway
from tests.support.http import good, problem
from tests.support.servers import Server

ELSEWHERE = "https://evil.example"


@pytest.fixture
def gateway(secured_gateway: GatewayProcess) -> GatewayProcess:
    """Authentication is on there; see `tests/conftest.py`."""
    return secured_gateway


@pytest.fixture
def store(secured_store: Server) -> Server:
    """Its store."""
    return secured_store


def test_a_page_that_may_ask_can_read_what_it_is_told(gateway: GatewayProcess, store: Server) -> None:
    """The preflight needs no credential, a 401 can be read, and cookies are never asked for."""
    path = f"/v1/sessions/{a_session()}/state"
    preflight = {
        "Origin": ALLOWED_PAGE, "Access-Control-Request-Method": "PATCH",
        "Access-Control-Request-Headers": "authorization,content-type,idempotency-key,x-user-id",
    }  # fmt: skip
    allowed = ask(gateway, "OPTIONS", path, headers=preflight)
    assert allowed.status_code == 200
    assert allowed.headers["access-control-allow-origin"] == ALLOWED_PAGE
    assert "authorization" in allowed.headers["access-control-allow-headers"]
    assert "access-control-allow-credentials" not in allowed.headers
    for key, status in ((None, 401), (made_key(store), 200)):
        said = ask(gateway, "GET", path, key, headers={"Origin": ALLOWED_PAGE})
        assert (said.status_code, said.headers["access-control-allow-origin"]) == (status, ALLOWED_PAGE)
        assert "Retry-After" in said.headers["access-control-expose-headers"]


def test_a_page_of_another_site_can_read_nothing(gateway: GatewayProcess, store: Server) -> None:
    """Nor does its preflight succeed; and where a browser would add a remembered password, it is refused outright."""
    path, key = f"/v1/sessions/{a_session()}/state", made_key(store)
    for origin in (ELSEWHERE, f"{ALLOWED_PAGE}.evil.example", ALLOWED_PAGE.replace("https", "http"), "null"):
        asked = {"Origin": origin, "Access-Control-Request-Method": "GET"}
        refused = ask(gateway, "OPTIONS", path, headers=asked)
        assert refused.status_code == 400
        assert "access-control-allow-origin" not in refused.headers
        assert "access-control-allow-origin" not in ask(gateway, "GET", path, key, headers={"Origin": origin}).headers
        remembered = httpx.BasicAuth("any", key)
        problem(ask(gateway, "GET", path, headers={"Origin": origin}, auth=remembered), 403)


@pytest.fixture(scope="module")
def open_gateway(secured_store: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    """A gateway on loopback without authentication."""
    with running_gateway(secured_store, tmp_path_factory.mktemp("open"), SESSIONFLEET_GATEWAY_AUTH="off") as started:
        yield started


def test_without_authentication_credentials_are_ignored(open_gateway: GatewayProcess) -> None:
    """Clients that always send some work; the start says that it is off."""
    assert "authentication  off: any local user has full access" in open_gateway.log
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
    """A page whose name was made to resolve to loopback (DNS rebinding) has the same origin, but not ours."""
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
