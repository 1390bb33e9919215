"""The connection of the bell: what its outages tell the subscribers and the log."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator

import pytest

from sessions.store import channels
from sessions.store.channels import Channels


class Breaking:
    """What channels need of redis-py: a connection that breaks some times, and is quiet from then on."""

    def __init__(self, times: int) -> None:
        self.left = times

    def pubsub(self, **_: object) -> Breaking:
        return self

    async def ssubscribe(self, _channel: str) -> None:
        """Subscribe to nothing."""

    async def listen(self) -> AsyncIterator[None]:
        if self.left:
            self.left -= 1
            raise ConnectionError("closed")
        await asyncio.Event().wait()
        yield

    async def aclose(self) -> None:
        """Nothing to close."""


@pytest.mark.parametrize(("failures", "lines"), [(1, 0), (2, 0), (3, 1), (6, 1)])
async def test_the_log_names_an_outage_once_and_not_a_restart(
    failures: int, lines: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Whoever subscribed is told each time, for it must look itself for what it missed."""
    monkeypatch.setattr(channels, "_PAUSE", 0)
    told = asyncio.Queue[int]()
    found = Channels(Breaking(failures))
    with caplog.at_level(logging.INFO):
        await found.subscribe("p", lambda _: None, lambda: told.put_nowait(1))
        for _ in range(failures):
            await told.get()
        await found.close()
    assert caplog.text.count("bell_broken") == lines
