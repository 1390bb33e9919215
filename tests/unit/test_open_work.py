"""A stopping worker waits for all coroutines that serve sessions, not only for those that hold a lease."""

from __future__ import annotations

import asyncio

from workers.process.open_work import OpenWork


async def test_work_that_begins_while_others_end_is_waited_for() -> None:
    """The wait ends only when nothing runs any more."""
    work, ended = OpenWork(), []

    async def second() -> None:
        await asyncio.sleep(0.05)
        ended.append("second")

    async def first() -> None:
        await asyncio.sleep(0.05)
        work.start(second())

    work.start(first())
    assert len(work) == 1
    assert await work.ended_within(20)
    assert (ended, len(work)) == (["second"], 0)


async def test_work_that_does_not_end_in_time_can_be_cancelled() -> None:
    """The caller learns that work is left, and cancels it."""
    work = OpenWork()
    task = work.start(asyncio.sleep(3600))
    assert not await work.ended_within(0.01)
    assert await work.cancel(within=20)
    assert task.cancelled()
