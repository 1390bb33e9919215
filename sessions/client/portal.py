"""The event loop behind the synchronous API: one thread for each process, made when it is first needed.

All I/O of a client runs on this loop, whoever calls: threads, an asyncio program (whose own loops may come and
go), a notebook. A forked child makes a loop of its own; the parent's thread does not exist in it.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from typing import Any, Final, TypeVar, cast

T = TypeVar("T")
_END: Final = object()


class _Loop(asyncio.SelectorEventLoop):
    """The loop of one process. A forked child inherits the object, and with it the parent's file descriptors.

    What is open there must not be closed there: that would take the parent's sockets out of the set that the kernel
    watches for both of them (and say goodbye over TLS). The parent would then hear nothing until a time limit.
    """

    def __init__(self) -> None:
        super().__init__()
        self._pid = os.getpid()

    def is_closed(self) -> bool:
        """Also True in a forked child: asyncio's transports and streams then leave their sockets alone."""
        return super().is_closed() or os.getpid() != self._pid


class Portal:
    """Runs coroutines on a background loop, and waits for them from outside."""

    def __init__(self) -> None:
        self._loop = _Loop()
        self._pid = os.getpid()
        self._thread = threading.Thread(target=self._loop.run_forever, name="sessionfleet", daemon=True)
        self._thread.start()

    @property
    def usable(self) -> bool:
        """False in a forked child, where the thread does not exist, and once it was closed."""
        return self._pid == os.getpid() and self._thread.is_alive()

    def close(self, farewell: Callable[[], Coroutine[Any, Any, None]], within: float) -> None:
        """End the loop at the end of the process: cancel what runs, say farewell, and take no longer than `within`.

        In a forked child the loop is its parent's: nothing runs there that could be ended.
        """
        if self.usable:
            until = time.monotonic() + within
            work = asyncio.run_coroutine_threadsafe(self._end(farewell), self._loop)
            with contextlib.suppress(Exception):  # there is nobody left to tell
                work.result(within)
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(max(0.1, until - time.monotonic()))
            if not self._thread.is_alive():
                self._loop.close()
        # What did not end in time is dropped with the process; nobody is left who could do anything about it.
        self._loop.set_exception_handler(lambda _loop, _context: None)

    async def _end(self, farewell: Callable[[], Coroutine[Any, Any, None]]) -> None:
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        # A stream that was left in its middle is several generators, one in the other, and asyncio ends all at once:
        # what they say of that is nobody's trouble.
        self._loop.set_exception_handler(lambda _loop, _context: None)
        await self._loop.shutdown_asyncgens()
        await farewell()

    def call(self, work: Coroutine[Any, Any, T], timeout: float | None = None) -> T:
        """Run a coroutine and wait for it. Must not be called from this portal's own loop."""
        if threading.current_thread() is self._thread:
            work.close()
            raise RuntimeError("a blocking call was made inside the client's event loop; use the async twin")
        self._check_usable(work)
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
        self._check_usable(work)
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work, self._loop))

    def _check_usable(self, work: Coroutine[Any, Any, Any]) -> None:
        if not self.usable:
            work.close()
            raise RuntimeError(
                "this client is closed: its process is ending, or it is that of a parent process. In a forked child, "
                "take turns and operations anew from their session"
            )

    def iterate(self, items: AsyncIterator[T]) -> Iterator[T]:
        """Iterate an async iterator from a plain thread."""
        try:
            while (item := self.call(_next(items))) is not _END:
                yield cast(T, item)
        finally:
            if threading.current_thread() is self._thread:  # the garbage collector may find it wherever it runs
                asyncio.run_coroutine_threadsafe(_close(items), self._loop)
            elif self.usable:  # not when the generator is dropped at the very end of the process
                self.call(_close(items))

    async def aiterate(self, items: AsyncIterator[T]) -> AsyncIterator[T]:
        """Iterate an async iterator of the portal's loop from another loop."""
        try:
            while (item := await self.acall(_next(items))) is not _END:
                yield cast(T, item)
        finally:
            if self.usable:
                await self.acall(_close(items))


async def _next(items: AsyncIterator[Any]) -> Any:
    return await anext(items, _END)


async def _close(items: AsyncIterator[Any]) -> None:
    # Whoever waited for the next item may have been interrupted: it was told to end, and has not ended yet.
    while getattr(items, "ag_running", False):  # noqa: ASYNC110 - there is no event for it
        await asyncio.sleep(0.005)
    close = getattr(items, "aclose", None)
    if close is not None:
        await close()
