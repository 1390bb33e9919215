"""The client's event loop, in a background thread: one for each process, created when it is first needed.

All I/O of a client runs on this loop, for every kind of caller: threads, asyncio programs (whose own loops may be short
lived), notebooks. A forked child creates its own, because the parent's thread does not exist in the child.
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

    The child must not close them: that would remove the parent's sockets from the epoll set that both processes share
    (and send a TLS close). The parent would then receive nothing until a timeout.
    """

    def __init__(self) -> None:
        super().__init__()
        self._pid = os.getpid()

    def is_closed(self) -> bool:
        """Also True in a forked child, so that asyncio's transports and streams there do not touch their sockets."""
        return super().is_closed() or os.getpid() != self._pid


class Portal:
    """Runs coroutines on a background event loop, and waits for them from other threads and loops."""

    def __init__(self) -> None:
        self._loop = _Loop()
        self._pid = os.getpid()
        self._thread = threading.Thread(target=self._loop.run_forever, name="sessionfleet", daemon=True)
        try:
            self._thread.start()
        except RuntimeError:  # the process is exiting
            self._loop.close()
            raise

    @property
    def usable(self) -> bool:
        """False in a forked child, where the thread does not exist, and after `close`."""
        return self._pid == os.getpid() and self._thread.is_alive()

    def close(self, cleanup: Callable[[], Coroutine[Any, Any, None]], within: float) -> None:
        """Stop the loop when the process exits: cancel its tasks and run `cleanup`, within this many seconds.

        In a forked child there is nothing to stop: the loop belongs to the parent.
        """
        if self.usable:
            until = time.monotonic() + within
            work = asyncio.run_coroutine_threadsafe(self._end(cleanup), self._loop)
            with contextlib.suppress(Exception):  # the process is exiting: nothing can handle it
                work.result(within)
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(max(0.1, until - time.monotonic()))
            if not self._thread.is_alive():
                self._loop.close()
        # Tasks that did not end in time are dropped with the process, without a warning that nobody could act on.
        self._loop.set_exception_handler(lambda _loop, _context: None)

    async def _end(self, cleanup: Callable[[], Coroutine[Any, Any, None]]) -> None:
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        # An unfinished stream consists of nested generators. asyncio closes all of them at once, and reports that the
        # outer ones are still running: ignore that.
        self._loop.set_exception_handler(lambda _loop, _context: None)
        await self._loop.shutdown_asyncgens()
        await cleanup()

    def call(self, work: Coroutine[Any, Any, T], timeout: float | None = None) -> T:
        """Run a coroutine and wait for it. Must not be called from this portal's own loop."""
        if threading.current_thread() is self._thread:
            work.close()
            raise RuntimeError("a blocking call was made on the client's event loop; use the async method")
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
                "this client is closed: its process is exiting, or it was created before a fork. In a forked child, "
                "get turns and operations from their session again"
            )

    def iterate(self, items: AsyncIterator[T]) -> Iterator[T]:
        """Iterate over an async iterator from a thread."""
        try:
            while (item := self.call(_next(items))) is not _END:
                yield cast(T, item)
        finally:
            if threading.current_thread() is self._thread:  # closed by the garbage collector, which runs on any thread
                asyncio.run_coroutine_threadsafe(_close(items), self._loop)
            elif self.usable:  # not if the generator is dropped while the process exits
                self.call(_close(items))

    async def aiterate(self, items: AsyncIterator[T]) -> AsyncIterator[T]:
        """Iterate over an async iterator of the portal's loop from another loop."""
        try:
            while (item := await self.acall(_next(items))) is not _END:
                yield cast(T, item)
        finally:
            if self.usable:
                await self.acall(_close(items))


async def _next(items: AsyncIterator[Any]) -> Any:
    return await anext(items, _END)


async def _close(items: AsyncIterator[Any]) -> None:
    # If the wait for the next item was cancelled, the generator may still be handling the cancellation.
    while getattr(items, "ag_running", False):  # noqa: ASYNC110 - there is no event for it
        await asyncio.sleep(0.005)
    close = getattr(items, "aclose", None)
    if close is not None:
        await close()
