"""A worker's tasks end when it stops, whatever becomes of a cancellation."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from workers.process.background import end_all


async def test_a_task_that_swallows_a_cancellation_ends_all_the_same() -> None:
    """Python 3.11's `wait_for` does that to its waiter; the worker then never stopped."""
    swallowed = []

    async def for_ever() -> None:
        with suppress(asyncio.CancelledError):
            await asyncio.sleep(3600)
        swallowed.append(True)
        await asyncio.sleep(3600)

    async def failing() -> None:
        raise ValueError

    tasks = [asyncio.create_task(for_ever()), asyncio.create_task(failing())]
    await asyncio.sleep(0)
    async with asyncio.timeout(20):
        await end_all(tasks)
    assert swallowed == [True]
    assert tasks[0].cancelled()
    assert isinstance(tasks[1].exception(), ValueError)
