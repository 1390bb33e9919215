"""Celery's record of a wake-up, made smaller while its slot runs turns."""

from __future__ import annotations

from sys import intern
from typing import Any

from celery.worker.request import Request


class WakeRequest(Request):  # type: ignore[misc]
    """Drops what a wake-up no longer needs once it runs: the broker's message and its acknowledgement, 3 kB each.

    The names of its headers are interned, because the JSON decoder makes new copies of them for each message.
    """

    def __init__(self, message: Any, **options: Any) -> None:
        message.headers = {intern(name): value for name, value in message.headers.items()}
        super().__init__(message, **options)

    def on_accepted(self, pid: int, time_accepted: float) -> None:
        """Called when a slot begins to run the wake-up, which was acknowledged before."""
        super().on_accepted(pid, time_accepted)
        self._message = self._on_ack = self._on_reject = None
