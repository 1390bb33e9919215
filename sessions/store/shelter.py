"""What must not be cancelled half-way runs in a task of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


async def sheltered(work: Coroutine[Any, Any, T]) -> T:
    """Wait for work that goes on when its caller is cancelled: others wait for it, too.

    The caller's cancel is then never lost, either. On Python 3.11 `asyncio.wait_for`, in which redis-py sends, swallows
    one that comes in the moment that all was sent: a reader that had left went on reading until its turn's end.
    """
    return await asyncio.shield(asyncio.ensure_future(work))
