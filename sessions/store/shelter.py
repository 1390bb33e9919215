"""Work that must not be cancelled half-way runs in a separate task."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


async def sheltered(work: Coroutine[Any, Any, T]) -> T:
    """Wait for work that continues if its caller is cancelled, because others wait for it too.

    The caller's cancel is never lost either. On Python 3.11 `asyncio.wait_for`, which redis-py uses for sending,
    swallows a cancel that arrives in the moment when everything was sent: a reader that had left kept reading until
    its turn ended.
    """
    return await asyncio.shield(asyncio.ensure_future(work))
