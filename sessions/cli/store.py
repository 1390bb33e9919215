"""Access to the store for commands: looking at a fleet must not start one."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from broker_config.embedded import EmbeddedServer, resolved
from broker_config.redis_clients import async_store
from broker_config.settings import Settings
from sessions.errors import StoreUnavailable

T = TypeVar("T")


def running_store(settings: Settings) -> Settings:
    """The settings with the addresses filled in.

    Raises:
        StoreUnavailable: there is no REDIS_URL, and no fleet is running in this home.
    """
    if settings.embedded and not EmbeddedServer(settings.home).is_running():
        raise StoreUnavailable(
            f"no fleet is running in {str(settings.home)!r}: start one with `sessionfleet up`, or set REDIS_URL (or "
            "SESSIONFLEET_HOME) to the right one"
        )
    return resolved(settings)


def with_store(settings: Settings, work: Callable[[Any], Awaitable[T]]) -> T:
    """Run some work with a client of the running store."""

    async def connected() -> T:
        client = async_store(running_store(settings), name="sessionfleet-cli")
        try:
            return await work(client)
        finally:
            await client.aclose()

    return asyncio.run(connected())
