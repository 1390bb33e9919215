"""Ctrl-C in commands that have sent something to the fleet: what was accepted is cancelled, not forgotten."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

INTERRUPTED: Final = 130
"""The exit status of a program that was interrupted."""


def heed_interrupts() -> None:
    """Let Ctrl-C raise KeyboardInterrupt, even if a shell that started us in the background set it to be ignored."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@contextmanager
def interrupt_later() -> Iterator[list[int]]:
    """Record a Ctrl-C instead of acting on it: a request without an id yet cannot be cancelled."""
    heard: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, _frame: heard.append(number))
    try:
        yield heard
    finally:
        signal.signal(signal.SIGINT, before)
