"""Waiting for somebody else's sake, and what of a header counts."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from starlette.requests import ClientDisconnect, Request

from sessions.gateway.prefer import wait_of, while_there


def request_of(*messages: dict[str, Any]) -> Request:
    """A request whose client sends these, and then nothing."""
    left = list(messages)

    async def receive() -> dict[str, Any]:
        if left:
            return left.pop(0)
        await asyncio.Event().wait()
        raise AssertionError

    return Request({"type": "http", "method": "GET", "headers": []}, receive)


async def test_waiting_ends_with_the_client() -> None:
    """The work is cancelled, and is over when the error is raised."""
    ended: list[str] = []

    async def work() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append("work")

    with pytest.raises(ClientDisconnect):
        await while_there(request_of({"type": "http.request", "body": b""}, {"type": "http.disconnect"}), work())
    assert ended == ["work"]
    assert len(asyncio.all_tasks()) == 1


async def test_what_came_of_the_work_is_returned_or_raised() -> None:
    """Nobody listens for the client afterwards."""

    async def answers() -> int:
        return 7

    async def fails() -> int:
        raise ValueError("no")

    assert await while_there(request_of(), answers()) == 7
    with pytest.raises(ValueError, match="no"):
        await while_there(request_of(), fails())
    assert len(asyncio.all_tasks()) == 1


@pytest.mark.parametrize(
    ("prefer", "seconds"),
    [
        (None, None),
        ("", None),
        ("wait=5", 5.0),
        ("respond-async, WAIT = 10", 10.0),
        ("wait=10;x=1", 10.0),
        ('wait="7"', 7.0),
        ("wait=9999", 300.0),
        ("wait=99999999999", 300.0),
        ("wait=0", 0.0),
        ("wait=-1", None),
        ("wait=soon", None),
        ("await=5", None),
        ("wait=\u0665", None),
    ],
)
def test_how_long_a_caller_would_wait(prefer: str | None, seconds: float | None) -> None:
    """At most five minutes; what cannot be read is ignored, as RFC 7240 wants."""
    assert wait_of(prefer) == seconds
