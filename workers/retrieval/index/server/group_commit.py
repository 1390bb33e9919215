"""Sends what concurrent callers want sent in one request: the next request takes all that came during the last one."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

T = TypeVar("T")

_Waiting = tuple[Sequence[T], "asyncio.Future[None]"]


class GroupCommit(Generic[T]):
    """One request at a time. A caller that is alone waits for nothing but its own request."""

    def __init__(
        self, send: Callable[[list[T]], Awaitable[None]], *, one_may_spoil: Callable[[Exception], bool]
    ) -> None:
        """Create it.

        Args:
            send: sends items, and returns when they are durable. It must be safe to repeat.
            one_may_spoil: whether an error may be due to the items of one caller. Those of each are then sent again
                alone, so that only that caller gets the error.
        """
        self._send = send
        self._one_may_spoil = one_may_spoil
        self._waiting: list[_Waiting[T]] = []
        self._task: asyncio.Task[None] | None = None

    async def add(self, items: Sequence[T]) -> None:
        """Send these items with those of other callers. If this call is cancelled, they may or may not be sent.

        Raises:
            Exception: what `send` raised.
        """
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((items, done))
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._drain())
        await done

    async def _drain(self) -> None:
        while self._waiting:
            group, self._waiting = [one for one in self._waiting if not one[1].done()], []
            if group:
                await self._send_together(group)

    async def _send_together(self, group: Sequence[_Waiting[T]]) -> None:
        try:
            await self._send([item for items, _ in group for item in items])
        except Exception as error:  # noqa: BLE001 - the callers get it
            if len(group) > 1 and self._one_may_spoil(error):
                for one in group:
                    await self._send_together([one])
                return
            for _, done in group:
                if not done.done():
                    done.set_exception(error)
            return
        for _, done in group:
            if not done.done():
                done.set_result(None)
