"""A reader of a turn's events gets each one as soon as the bell rings, for one read of the store."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any, cast

import pytest

from sessions.errors import TurnNotFound
from sessions.protocol.event import Event
from sessions.store.channels import Channels
from sessions.store.events import Bell, follow
from sessions.store.keys import SessionKeys
from sessions.store.scripts import ScriptRunner
from sessions.store.sealing import KeyRing

KEYS = SessionKeys.of("default", "s", 1)
PART = "01a22e1fea8c7709b2b4cc739134f0b3"


class Stream:
    """A turn's events in a store that counts what it is asked, and a clock that stands still: no wait runs out."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.bell = Bell(cast(Channels, None), "nonce")
        self.asked: list[str] = []
        self.exists = True
        self._events: list[tuple[bytes, dict[bytes, bytes]]] = []
        loop = asyncio.get_running_loop()
        self._now = loop.time()
        monkeypatch.setattr(loop, "time", lambda: self._now)

    def add(self, *kinds: str) -> None:
        """Add events and ring the bell, as the scripts do."""
        for kind in kinds:
            seq = f"1-{len(self._events) + 1}".encode()
            self._events.append((seq, {b"type": kind.encode(), b"data": json.dumps({"text": seq.decode()}).encode()}))
        self.bell._notify(PART.encode())

    def poll(self) -> None:
        """Let the time of a poll pass."""
        self._now += 1.1

    async def read(self, *command: Any) -> Any:
        self.asked.append(command[0])
        await asyncio.sleep(0)
        if command[0] == "EXISTS":
            return int(self.exists)
        if command[0] == "XREVRANGE":
            return self._events[-1:]
        after = int(command[2].rpartition("-")[2]) if command[2] != "-" else 0
        return self._events[after : after + command[5]]

    def follow(self, after: str | None = None) -> AsyncIterator[Event]:
        return follow(cast(ScriptRunner, self), KeyRing({}), self.bell, KEYS, PART, after)


@pytest.fixture
async def stream(monkeypatch: pytest.MonkeyPatch) -> Stream:
    return Stream(monkeypatch)


async def _cycles() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


async def test_an_event_costs_one_read(stream: Stream) -> None:
    """Not a second one that finds nothing, nor questions about the turn."""
    events = stream.follow()
    coming = asyncio.ensure_future(anext(events))
    await _cycles()
    stream.asked.clear()
    for number in (1, 2, 3):
        stream.add("text_delta")
        assert (await coming).text == f"1-{number}"
        coming = asyncio.ensure_future(anext(events))
        await _cycles()
    assert stream.asked == ["XRANGE"] * 3
    stream.add("ended")
    assert (await coming).final


async def test_an_event_that_comes_while_another_is_handled_does_not_wait_for_the_poll(stream: Stream) -> None:
    """The bell rang when nobody was waiting for it."""
    stream.add("started")
    events = stream.follow()
    await anext(events)
    stream.add("text_delta")
    assert (await anext(events)).text == "1-2"


async def test_a_long_stream_is_read_in_pages(stream: Stream) -> None:
    """A full page may have more behind it: the next one is read at once."""
    stream.add("started", *["text_delta"] * 100, "ended")
    assert [event.id async for event in stream.follow()] == [f"1-{n}" for n in range(1, 103)]
    assert stream.asked == ["XRANGE"] * 3


async def test_a_lost_ring_costs_a_poll_and_no_event(stream: Stream) -> None:
    """Nor does a turn that is gone keep its readers."""
    events = stream.follow()
    coming = asyncio.ensure_future(anext(events))
    await _cycles()
    stream.bell._waiters.clear()
    stream.add("text_delta")
    await _cycles()
    assert not coming.done()
    stream.poll()
    assert (await coming).text == "1-1"
    stream.exists = False
    coming = asyncio.ensure_future(anext(events))
    await _cycles()
    stream.poll()
    with pytest.raises(TurnNotFound):
        await coming


async def test_nothing_comes_after_the_end(stream: Stream) -> None:
    """A reader that knows the last event is told so at once."""
    stream.add("started", "ended")
    assert [event async for event in stream.follow("1-2")] == []
