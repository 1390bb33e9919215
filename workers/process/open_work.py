"""The coroutines that serve sessions in this process, so that a stopping worker can wait for all of them.

A slot is busy for longer than its turn holds a lease: it still applies the turn's effects and publishes wake-ups. A
process that stopped its loop before that would leave the slot's thread waiting for ever.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from workers.process.background import end_all

T = TypeVar("T")


class OpenWork:
    """A set of coroutines, each counted from before it runs until it has ended. Used on the loop's thread."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[Any]] = set()

    def __len__(self) -> int:
        return len(self._tasks)

    def start(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Run a coroutine on the current loop."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def ended_within(self, seconds: float) -> bool:
        """Whether all coroutines ended, including those that began meanwhile."""
        loop = asyncio.get_running_loop()
        until = loop.time() + seconds
        while self._tasks and (left := until - loop.time()) > 0:
            await asyncio.wait(tuple(self._tasks), timeout=left)
        return not self._tasks

    async def cancel(self, within: float) -> bool:
        """Cancel what is left; whether it ended within so many seconds."""
        try:
            await asyncio.wait_for(end_all(tuple(self._tasks)), within)
        except TimeoutError:
            return False
        return True
