"""Waiting without blind sleeping: until something holds, with a description of what was waited for.

The default patience is for a loaded machine, where a program takes ten seconds to start; it promises nothing.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")

PROGRAM_START = 120.0
"""Seconds for a program to start: mostly a second of CPU time, of which a busy machine gives little."""


def wait_until(predicate: Callable[[], T], *, description: str, timeout: float = 40.0) -> T:
    """Wait until the predicate is true, and return what it returned."""
    until = time.monotonic() + timeout
    while True:
        if found := predicate():
            return found
        if time.monotonic() > until:
            raise AssertionError(f"after {timeout:g} s still not: {description}")
        time.sleep(0.02)


async def await_until(predicate: Callable[[], Awaitable[T]], *, description: str, timeout: float = 40.0) -> T:
    """`wait_until` for coroutines."""
    until = time.monotonic() + timeout
    while True:
        if found := await predicate():
            return found
        if time.monotonic() > until:
            raise AssertionError(f"after {timeout:g} s still not: {description}")
        await asyncio.sleep(0.02)
