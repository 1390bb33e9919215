"""The event loop behind the synchronous API: one thread for each process, made when it is first needed.

All I/O of a client runs on this loop, whoever calls: threads, an asyncio program (whose own loops may come and
go), a notebook. A forked child makes a loop of its own; the parent's thread does not exist in it.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import AsyncIterator, Coroutine, Iterator
from typing import Any, Final, TypeVar, cast

T = TypeVar("T")
_END: Final = object()


class Portal:
    """Runs coroutines on a background loop, and waits for them from outside."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._pid = os.getpid()
        self._thread = threading.Thread(target=self._loop.run_forever, name="sessionfleet", daemon=True)
        self._thread.start()

    @property
    def usable(self) -> bool:
        """False in a forked child, where the thread does not exist."""
        return self._pid == os.getpid() and self._thread.is_alive()

    def call(self, work: Coroutine[Any, Any, T], timeout: float | None = None) -> T:
        """Run a coroutine and wait for it. Must not be called from this portal's own loop."""
        if threading.current_thread() is self._thread:
            work.close()
            raise RuntimeError("a blocking call was made inside the client's event loop; use the async twin")
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result(timeout)
        except BaseException:
            future.cancel()
            raise

    async def acall(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine on the portal's loop, and wait for it from another loop."""
        if asyncio.get_running_loop() is self._loop:
            return await work
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work, self._loop))

    def iterate(self, items: AsyncIterator[T]) -> Iterator[T]:
        """Iterate an async iterator from a plain thread."""
        try:
            while (item := self.call(_next(items))) is not _END:
                yield cast(T, item)
        finally:
            self.call(_close(items))

    async def aiterate(self, items: AsyncIterator[T]) -> AsyncIterator[T]:
        """Iterate an async iterator of the portal's loop from another loop."""
        try:
            while (item := await self.acall(_next(items))) is not _END:
                yield cast(T, item)
        finally:
            await self.acall(_close(items))


async def _next(items: AsyncIterator[Any]) -> Any:
    return await anext(items, _END)


async def _close(items: AsyncIterator[Any]) -> None:
    close = getattr(items, "aclose", None)
    if close is not None:
        await close()
