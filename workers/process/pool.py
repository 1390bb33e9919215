"""The slots of a worker: Celery's threads pool, which also tells the consumer when a full pool has room again."""

from __future__ import annotations

import threading
from concurrent.futures import Future
from typing import Any

from celery.concurrency.thread import ApplyResult, TaskPool

from broker_config.settings import SettingsError


class SlotPool(TaskPool):  # type: ignore[misc]
    """Wakes the consumer's loop when a slot becomes free after all were taken.

    With `worker_disable_prefetch` a consumer whose slots are all taken stops reading, and Celery lets it look again
    when its loop next wakes by itself, up to a second later. Short turns would leave a busy worker idle meanwhile:
    measured with 10 slots, 12 turns a second without this and 184 with it (docs/performance.md).
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._lock = threading.Lock()
        self._taken = 0
        self._hub: Any = None

    def register_with_event_loop(self, loop: Any) -> None:
        """Remember the consumer's loop. kombu's `get_event_loop` forgets it when the broker's connection broke."""
        self._hub = loop

    def on_apply(self, *args: Any, **kwargs: Any) -> ApplyResult:
        """Run a task in a slot."""
        with self._lock:
            self._taken += 1
        result = super().on_apply(*args, **kwargs)
        # A future is done after its callbacks in Celery: the consumer then no longer counts the task.
        result.f.add_done_callback(self._freed)
        return result

    def _freed(self, _: Future[Any]) -> None:
        with self._lock:
            was_full = self._taken >= self.limit
            self._taken -= 1
        if was_full and self._hub is not None:
            self._hub.call_soon(_look_again)


def slot_pool(chosen: type, *, autoscale: bool) -> type[SlotPool]:
    """The pool of a worker for which somebody chose Celery's options `-P` and `--autoscale`.

    Raises:
        SettingsError: turns cannot run in the chosen pool. A child process has no event loop of ours, greenlets would
            block it, and `solo` leaves nobody to hear cancels and signals while a turn runs.
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
    """Nothing to do: to be called wakes the loop, which looks for free slots before it sleeps again."""
