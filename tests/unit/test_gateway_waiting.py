"""Waiting on behalf of a caller, and which parts of a header count."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from sse_starlette.sse import AppStatus
from starlette.requests import ClientDisconnect, Request

from sessions.errors import GatewayStopping
from sessions.gateway import prefer
from sessions.gateway.prefer import wait_of, while_there


@pytest.fixture(autouse=True)
def _serving(monkeypatch: pytest.MonkeyPatch) -> None:
    """No server of this process is to end; an earlier one may have been."""
    monkeypatch.setattr(AppStatus, "should_exit", False)


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
    """Nothing listens for the client's disconnect afterwards."""

    async def answers() -> int:
        return 7

    async def fails() -> int:
        raise ValueError("no")

    assert await while_there(request_of(), answers()) == 7
    with pytest.raises(ValueError, match="no"):
        await while_there(request_of(), fails())
    assert len(asyncio.all_tasks()) == 1


async def test_waiting_ends_with_the_gateway(monkeypatch: pytest.MonkeyPatch) -> None:
    """It ends at once, even if the caller would wait for minutes."""
    monkeypatch.setattr(prefer, "_LOOK", 0.01)
    waiting = asyncio.ensure_future(while_there(request_of(), asyncio.Event().wait()))
    await asyncio.sleep(0)
    monkeypatch.setattr(AppStatus, "should_exit", True)
    with pytest.raises(GatewayStopping):
        await waiting
    assert len(asyncio.all_tasks()) == 1


@pytest.mark.parametrize(
    ("header", "seconds"),
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
def test_how_long_a_caller_would_wait(header: str | None, seconds: float | None) -> None:
    """At most five minutes; what cannot be read is ignored, as RFC 7240 wants."""
    assert wait_of(header) == seconds
