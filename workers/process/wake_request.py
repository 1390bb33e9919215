"""How Celery's worker keeps a wake-up while its slot runs turns."""

from __future__ import annotations

from sys import intern
from typing import Any

from celery.worker.request import Request


class WakeRequest(Request):  # type: ignore[misc]
    """Parts with what a wake-up that runs needs no more, 3 kB each: the broker's message and what would acknowledge it.

    The names of its headers are made one with everyone's: JSON gives each message copies of its own.
    """

    def __init__(self, message: Any, **options: Any) -> None:
        message.headers = {intern(name): value for name, value in message.headers.items()}
        super().__init__(message, **options)

    def on_accepted(self, pid: int, time_accepted: float) -> None:
        """The slot begins. The wake-up was acknowledged before."""
        super().on_accepted(pid, time_accepted)
        self._message = self._on_ack = self._on_reject = None
