"""Requests that are too large, lie about their length, or are spelled so as to get past a check."""

from __future__ import annotations

import json
import socket

import httpx
import pytest

from tests.support.gateway import GatewayProcess, a_session, answer_to, ask, made_key
from tests.support.http import good, problem
from tests.support.servers import Server


@pytest.fixture
def gateway(secured_gateway: GatewayProcess) -> GatewayProcess:
    """Authentication is on there; see `tests/conftest.py`."""
    return secured_gateway


@pytest.fixture
def store(secured_store: Server) -> Server:
    """Its store."""
    return secured_store


def test_a_body_that_is_too_large_is_refused_whatever_its_headers_say(gateway: GatewayProcess, store: Server) -> None:
    """By its length before it is read, or by the bytes that arrive if it has no length."""
    key = made_key(store)
    path = f"/v1/sessions/{a_session()}/turns"
    big = json.dumps({"message": "x" * 200_000}).encode()
    problem(ask(gateway, "POST", path, key, content=big), 413, "RequestTooLarge")
    chunks = (big[at : at + 10_000] for at in range(0, len(big), 10_000))
    problem(ask(gateway, "POST", path, key, content=chunks), 413)
    # One that is escaped sixfold still is a message of the size that is allowed.
    allowed = b'{"message": "' + b"\\u0061" * 9_990 + b'"}'
    good(ask(gateway, "POST", path, key, content=allowed, headers={"Content-Type": "application/json"}), 202)


async def test_who_sends_first_and_reads_then_sees_the_refusal(gateway: GatewayProcess, store: Server) -> None:
    """The connection is not reset under a large body: httpx, as others, would say ReadError."""
    headers = {"Authorization": f"Bearer {made_key(store)}"}
    async with httpx.AsyncClient(trust_env=False, timeout=20, headers=headers) as client:
        path = f"{gateway.url}/v1/sessions/{a_session()}/turns"
        problem(await client.post(path, content=b"x" * 20_000_000), 413, "RequestTooLarge")


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
    """A proxy in front may read a different one of two; what could be read as two requests is refused."""
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
    """After 64 KiB the connection is closed: the rest would be kept in memory, and the parser has no limit."""
    begin, more = ENDLESS[part]
    with socket.create_connection(("127.0.0.1", gateway.port), 10) as connection:
        rest = b"".join(more.replace(b"%d", b"%d" % n) for n in range(100_000))
        with pytest.raises(OSError):  # noqa: PT011 - reset or broken pipe
            connection.sendall(begin + rest)
    assert ask(gateway, "GET", "/health", headers={"X-Long": "a" * 30_000}).status_code == 200


def test_a_head_that_is_too_large_is_told_so(gateway: GatewayProcess) -> None:
    """The gateway answers 431, if the response arrives before it closes the connection."""
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
