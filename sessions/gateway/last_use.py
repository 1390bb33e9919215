"""When API keys were last used: collected here, written to the store periodically, never while a request waits."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable
from typing import Final

from sessions.errors import BackendError

EVERY: Final = 30.0
"""Seconds between two writes; a gateway that is killed loses the uses since the last one."""


class LastUse:
    """Collects uses, and writes the newest of each key."""

    def __init__(self, write: Callable[[dict[str, int]], Awaitable[None]], every: float = EVERY) -> None:
        self._write = write
        self._every = every
        self._times_ms: dict[str, int] = {}
        self._writing: asyncio.Task[None] | None = None

    def note(self, key_id: str) -> None:
        """A key was used now."""
        self._times_ms[key_id] = int(time.time() * 1000)
        if self._writing is None or self._writing.done():
            self._writing = asyncio.get_running_loop().create_task(self._later())

    async def _later(self) -> None:
        await asyncio.sleep(self._every)
        times_ms, self._times_ms = self._times_ms, {}
        with contextlib.suppress(BackendError):  # it is only for people to look at, and the next use is written again
            await self._write(times_ms)
