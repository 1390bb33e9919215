"""A process's copy of the limits that tenants and users have of their own."""

from __future__ import annotations

import asyncio
from typing import cast

from sessions.client.submission_limits import OwnLimits
from sessions.errors import StoreUnavailable
from sessions.store.submission_limits import Limits, OwnLimitStore


class _Store:
    """Answers after all others had their turn, and counts how often it was asked."""

    def __init__(self) -> None:
        self.asked = 0
        self.down = False

    async def version(self) -> int:
        self.asked += 1
        await asyncio.sleep(0)
        if self.down:
            raise StoreUnavailable("gone")
        return 1

    async def all(self) -> dict[tuple[str, str], Limits]:
        return {("acme", ""): Limits(minute=7)}


async def test_many_messages_at_once_read_the_limits_once() -> None:
    """Each would take a connection of its own to the store."""
    store = _Store()
    own = OwnLimits(cast(OwnLimitStore, store))
    found = await asyncio.gather(*(own.known() for _ in range(20)))
    assert found == [{("acme", ""): Limits(minute=7)}] * 20
    assert store.asked == 1


async def test_a_store_that_does_not_answer_is_asked_again() -> None:
    """Every message that needs the limits gets the error, and the next one asks anew."""
    store = _Store()
    store.down = True
    own = OwnLimits(cast(OwnLimitStore, store))
    errors = await asyncio.gather(*(own.known() for _ in range(3)), return_exceptions=True)
    assert [type(error) for error in errors] == [StoreUnavailable] * 3
    store.down = False
    assert await own.known() == {("acme", ""): Limits(minute=7)}
    assert store.asked == 2
