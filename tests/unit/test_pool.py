"""A worker's slots: a consumer whose slots were all taken polls again as soon as one is free."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from celery.concurrency import prefork, solo, thread
from kombu.asynchronous import Hub

from broker_config.settings import SettingsError
from tests.support.waiting import wait_until
from workers.process.pool import SlotPool, slot_pool


class _Watched(Hub):  # type: ignore[misc]
    """The consumer's loop; counts how often it was woken."""

    woken = 0

    def call_soon(self, *_: Any) -> None:
        self.woken += 1


@pytest.fixture
def pool() -> Iterator[SlotPool]:
    pool: Any = SlotPool(1)
    yield pool
    pool.on_stop()


def _run_one(pool: SlotPool) -> None:
    pool.on_apply(lambda: None, (), {}, lambda _: None, lambda *_: None).f.result(10)


def test_the_consumer_is_woken_after_its_connection_broke_too(pool: SlotPool) -> None:
    """Celery resets the loop then: without being woken, a full worker would look for work once a second."""
    hub: Any = _Watched()
    pool.register_with_event_loop(hub)
    _run_one(pool)
    wait_until(lambda: hub.woken == 1, description="the loop is woken")
    hub.reset()
    _run_one(pool)
    wait_until(lambda: hub.woken == 2, description="the loop is woken again")
    hub.close()


@pytest.mark.parametrize("chosen", [prefork.TaskPool, solo.TaskPool])
def test_a_pool_in_which_turns_cannot_run_is_refused(chosen: type) -> None:
    """With `-P processes` a worker used to start, and to fail each wake-up that it took."""
    name = chosen.__module__.rpartition(".")[2]
    with pytest.raises(SettingsError, match=f"not '{name}': leave out -P"):
        slot_pool(chosen, autoscale=False)


def test_a_number_of_slots_that_changes_is_refused() -> None:
    """Threads pools cannot grow: Celery would fail at the first wake-up."""
    with pytest.raises(SettingsError, match="-c is how many there are"):
        slot_pool(SlotPool, autoscale=True)


def test_the_plain_threads_pool_becomes_ours() -> None:
    """`-P threads` is what the error recommends; it gets the pool that wakes the consumer."""
    assert slot_pool(thread.TaskPool, autoscale=False) is SlotPool
