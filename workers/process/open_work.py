"""The coroutines that run sessions in this process, so that a stopping worker can wait for all of them.

A slot is busy for longer than its turn holds the lease, because it still applies the turn's effects and publishes
wake-ups. If the process stopped its event loop before that, the slot's thread would wait for ever.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from workers.process.background import end_all

T = TypeVar("T")


class OpenWork:
    """A set of coroutines, each counted from its creation until it has ended. Used on the loop's thread."""

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
        """Wait until all coroutines have ended, including those started meanwhile; False if the time runs out first."""
        loop = asyncio.get_running_loop()
        until = loop.time() + seconds
        while self._tasks and (left := until - loop.time()) > 0:
            await asyncio.wait(tuple(self._tasks), timeout=left)
        return not self._tasks

    async def cancel(self, within: float) -> bool:
        """Cancel the coroutines that are left. Returns whether they ended within this number of seconds."""
        try:
            await asyncio.wait_for(end_all(tuple(self._tasks)), within)
        except TimeoutError:
            return False
        return True
