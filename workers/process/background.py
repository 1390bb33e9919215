"""The tasks of a worker that run until it stops."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, Final

_AGAIN: Final = 0.1


async def end_all(tasks: Sequence[asyncio.Task[Any]]) -> None:
    """Cancel tasks until each has ended.

    Once is not enough: `asyncio.wait_for` of Python 3.11, with which redis-py sends, swallows a cancellation that
    comes in the moment in which it is done. The task would go on for ever, and the worker would never stop.
    """
    while left := [task for task in tasks if not task.done()]:
        for task in left:
            task.cancel()
        await asyncio.wait(left, timeout=_AGAIN)
