"""The slots of a worker: Celery's threads pool, which also wakes the consumer when a full pool has room again."""

from __future__ import annotations

import threading
from concurrent.futures import Future
from typing import Any

from celery.concurrency.thread import ApplyResult, TaskPool

from broker_config.settings import SettingsError


class SlotPool(TaskPool):  # type: ignore[misc]
    """Wakes the consumer's loop when a slot becomes free after all were taken.

    With `worker_disable_prefetch`, a consumer stops reading while all slots are taken. Celery reads again only when
    the consumer's loop next wakes by itself, up to a second later. With short turns, a busy worker would be idle for
    most of that time: with 10 slots we measured 12 turns per second without this class, and 184 with it
    (docs/performance.md).
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._lock = threading.Lock()
        self._taken = 0
        self._hub: Any = None

    def register_with_event_loop(self, loop: Any) -> None:
        """Remember the consumer's loop. kombu's `get_event_loop` forgets it when the broker's connection breaks."""
        self._hub = loop

    def on_apply(self, *args: Any, **kwargs: Any) -> ApplyResult:
        """Run a task in a slot."""
        with self._lock:
            self._taken += 1
        result = super().on_apply(*args, **kwargs)
        # Called after Celery's own callbacks, so the consumer no longer counts the task when it is woken.
        result.f.add_done_callback(self._freed)
        return result

    def _freed(self, _: Future[Any]) -> None:
        with self._lock:
            was_full = self._taken >= self.limit
            self._taken -= 1
        if was_full and self._hub is not None:
            self._hub.call_soon(_look_again)


def slot_pool(chosen: type, *, autoscale: bool) -> type[SlotPool]:
    """The pool class for a worker started with these values of Celery's options `-P` and `--autoscale`.

    Raises:
        SettingsError: turns cannot run in the chosen pool. A child process does not have our event loop, greenlets
            would block it, and with `solo` no thread handles cancels and signals while a turn runs.
    """
    if issubclass(chosen, SlotPool):
        pool = chosen
    elif issubclass(chosen, TaskPool):
        pool = SlotPool
    else:
        name = chosen.__module__.rpartition(".")[2]
        raise SettingsError(f"turns need Celery's threads pool, not {name!r}: leave out -P; -c is how many run at once")
    if autoscale:
        raise SettingsError("--autoscale cannot change the number of slots: leave it out; -c is how many there are")
    return pool


def _look_again() -> None:
    """Does nothing. Calling it wakes the loop, which checks for free slots before it sleeps again."""
