"""A few places for costly work, of which no tenant can take all: another one's small document waits for none of its."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

PLACES: Final = 3
PLACES_OF_A_TENANT: Final = 2


class FairPlaces:
    """At most `PLACES` at once, and at most `PLACES_OF_A_TENANT` for one tenant. Used on one event loop.

    A tenant's further work waits in a line of its own, so that at most two of it stand before another tenant's.
    """

    def __init__(self) -> None:
        self._all = asyncio.Semaphore(PLACES)
        self._lines: dict[str, asyncio.Semaphore] = {}
        self._users: dict[str, int] = {}

    @asynccontextmanager
    async def place(self, tenant: str) -> AsyncIterator[None]:
        """Hold a place within the block."""
        line = self._lines.setdefault(tenant, asyncio.Semaphore(PLACES_OF_A_TENANT))
        self._users[tenant] = self._users.get(tenant, 0) + 1
        try:
            async with line, self._all:
                yield
        finally:
            self._users[tenant] -= 1
            if not self._users[tenant]:
                del self._users[tenant], self._lines[tenant]
