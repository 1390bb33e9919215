"""Ctrl-C in commands that have asked the fleet for something: what was accepted is cancelled, not forgotten."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

INTERRUPTED: Final = 130
"""The exit status of a program that was interrupted."""


def heed_interrupts() -> None:
    """Have Ctrl-C raise KeyboardInterrupt, also where a shell that started us in the background has us ignore it."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@contextmanager
def interrupt_later() -> Iterator[list[int]]:
    """Take down a Ctrl-C instead of acting on it: what is being accepted, and has no id yet, cannot be cancelled."""
    heard: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, _frame: heard.append(number))
    try:
        yield heard
    finally:
        signal.signal(signal.SIGINT, before)
