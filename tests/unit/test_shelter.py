"""Cancels that come while the store is spoken to: redis-py may lose them (asyncio.wait_for on Python 3.11)."""

from __future__ import annotations

import asyncio

import pytest

from broker_config.settings import Settings
from sessions.client.connection import FleetConnection
from sessions.store.channels import Channels
from sessions.store.events import Bell


class Sending:
    """A request on its way, as redis-py sends it: a cancel in that moment is swallowed."""

    def __init__(self) -> None:
        self.begun = asyncio.Event()
        self.sent = asyncio.Event()
        self.done = asyncio.Event()

    async def __call__(self, *_: object) -> None:
        self.begun.set()
        try:
            await self.sent.wait()
        except asyncio.CancelledError:
            await self.sent.wait()
        self.done.set()


class Subscribed:
    """What a bell needs of redis-py."""

    def __init__(self, sending: Sending) -> None:
        self.ssubscribe = sending

    def pubsub(self, **_: object) -> Subscribed:
        return self

    async def listen(self) -> object:
        await asyncio.Event().wait()
        yield

    async def aclose(self) -> None:
        """Nothing to close."""


async def leaves(reader: asyncio.Task[None], sending: Sending) -> None:
    """A reader is cancelled before its request is sent; the request continues for the others."""
    await sending.begun.wait()
    reader.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reader
    sending.sent.set()
    await sending.done.wait()


async def test_a_reader_may_leave_while_it_subscribes() -> None:
    """The next reader finds the bell subscribed."""
    sending = Sending()
    channels = Channels(Subscribed(sending))
    bell = Bell(channels, "nonce")
    await leaves(asyncio.create_task(bell.subscribe("p")), sending)
    sending.begun.clear()
    await bell.subscribe("p")
    assert not sending.begun.is_set()
    await channels.close()


def test_a_reader_may_leave_while_its_client_connects(monkeypatch: pytest.MonkeyPatch) -> None:
    """The next reader finds the client open."""
    client = FleetConnection(Settings(redis_url="redis://127.0.0.1:1"))

    async def twice() -> bool:
        sending = Sending()
        monkeypatch.setattr(client, "_connect", sending)
        await leaves(asyncio.create_task(client.open()), sending)
        sending.begun.clear()
        await client.open()
        return sending.begun.is_set()

    assert client.portal.call(twice()) is False
    client._opened = False  # there is nothing to give back at the end
