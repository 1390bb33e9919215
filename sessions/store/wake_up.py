"""A wake-up: the hint that a worker is to look at a session."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from sessions.store.keys import SessionKeys


@dataclass(frozen=True, slots=True)
class WakeUp:
    """A wake-up to publish. It may be lost or duplicated: the records in the store say what is due.

    Attributes:
        ref: the session's key, as in `SessionKeys.ref`.
        queue: the Celery queue to publish it to.
        accepted_ms: the store's time when it became due. Workers report the newest one that they consumed from each
            queue, so that rescuers of earlier versions can tell a lost wake-up from one that is still in its queue.
        in_rota: its session was entered into the queue's rota.
    """

    ref: str
    queue: str
    accepted_ms: int
    in_rota: bool = False

    @classmethod
    def of(cls, keys: SessionKeys, queue: str, now_ms: int) -> WakeUp:
        """The wake-up of a session for which a script returned this queue and time."""
        return cls(keys.ref, queue, now_ms)


Publish = Callable[[WakeUp], Awaitable[bool]]
"""Publishes a wake-up. False if that failed: the rescue finds the session within seconds."""
