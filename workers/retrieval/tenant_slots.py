"""Limits the concurrency of expensive work, so that one tenant's large documents cannot block another's small one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

SLOTS: Final = 3
SLOTS_PER_TENANT: Final = 2


class TenantSlots:
    """At most `SLOTS` concurrent holders, and at most `SLOTS_PER_TENANT` of one tenant. Used on one event loop.

    A tenant's other work waits for its own semaphore, so that at most two of its jobs are ahead of another tenant's.
    """

    def __init__(self) -> None:
        self._all = asyncio.Semaphore(SLOTS)
        self._lines: dict[str, asyncio.Semaphore] = {}
        self._users: dict[str, int] = {}

    @asynccontextmanager
    async def slot(self, tenant: str) -> AsyncIterator[None]:
        """Hold a slot within the block."""
        line = self._lines.setdefault(tenant, asyncio.Semaphore(SLOTS_PER_TENANT))
        self._users[tenant] = self._users.get(tenant, 0) + 1
        try:
            async with line, self._all:
                yield
        finally:
            self._users[tenant] -= 1
            if not self._users[tenant]:
                del self._users[tenant], self._lines[tenant]
