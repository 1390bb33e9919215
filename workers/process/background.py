"""The tasks of a worker that run until it stops."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, Final

_AGAIN: Final = 0.1


async def end_all(tasks: Sequence[asyncio.Task[Any]]) -> None:
    """Cancel tasks until each has ended.

    Cancelling once is not enough. In Python 3.11 `asyncio.wait_for`, which redis-py uses to send, swallows a
    cancellation that arrives just as it completes. The task would run for ever, and the worker would never stop.
    """
    while left := [task for task in tasks if not task.done()]:
        for task in left:
            task.cancel()
        await asyncio.wait(left, timeout=_AGAIN)
