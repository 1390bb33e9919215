"""A request names its host once: a component in front must not read another header than the gateway does."""

from __future__ import annotations

from typing import Any

import pytest

from sessions.gateway.single_headers import SingleHeaders

HOST = (b"host", b"gateway.example")


async def answered(*headers: tuple[bytes, bytes], version: str = "1.1") -> int:
    """The status of a request with these headers, where the application itself says 200."""
    statuses: list[int] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})

    async def send(message: Any) -> None:
        if message["type"] == "http.response.start":
            statuses.append(message["status"])

    scope = {"type": "http", "method": "GET", "path": "/", "headers": list(headers), "http_version": version}
    await SingleHeaders(app)(scope, None, send)  # type: ignore[arg-type]
    return statuses[0]


async def test_one_host_is_served() -> None:
    """Every client sends exactly one Host header."""
    assert await answered(HOST, (b"accept", b"a"), (b"accept", b"b")) == 200


@pytest.mark.parametrize(
    "headers",
    [
        [],
        [HOST, HOST],
        [HOST, (b"host", b"other.example")],
        [HOST, (b"idempotency-key", b"a"), (b"idempotency-key", b"b")],
        [HOST, (b"content-type", b"application/json"), (b"Content-Type", b"text/plain")],
        [HOST, (b"last-event-id", b"1-1"), (b"last-event-id", b"1-2")],
    ],
)
async def test_a_header_that_is_missing_or_said_twice_is_refused(headers: list[tuple[bytes, bytes]]) -> None:
    """This holds for every caller, with and without authentication."""
    assert await answered(*headers) == 400


async def test_an_old_client_may_leave_the_host_out() -> None:
    """HTTP/1.0 has no Host header."""
    assert await answered(version="1.0") == 200
