"""Wake-ups of a burst wait for one another, not for a broker that takes nothing."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from typing import cast

import pytest

from broker_config.settings import Settings
from sessions.client.wakeups import Dispatcher
from sessions.store.rota import Rota
from tests.unit.engine.doubles import cycles, until

THREADS = 4
COUNT = 5 * THREADS


class Broker:
    """A broker that takes a message when it is told to, and a clock that stands still."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.dispatcher = Dispatcher(Settings(redis_url="redis://127.0.0.1:1/0"), cast(Rota, None))
        self.begun: list[int] = []
        self.taken: list[int] = []
        self._may_take = [threading.Event() for _ in range(COUNT)]
        self._now = 1000.0
        monkeypatch.setattr(asyncio.get_running_loop(), "time", lambda: self._now)

    async def send(self) -> list[asyncio.Task[bool]]:
        """Send all messages; each thread has begun with one."""
        send = self.dispatcher._send
        sending = [asyncio.create_task(send("not_published", self._publish, n)) for n in range(COUNT)]
        await until(lambda: len(self.begun) == THREADS)
        return sending

    def _publish(self, number: int) -> None:
        self.begun.append(number)
        self._may_take[number].wait()
        self.taken.append(number)

    async def take(self) -> None:
        """Take one message from each thread, and have their senders learn of it."""
        first = len(self.taken)
        for number in range(first, first + THREADS):
            self._may_take[number].set()
        await until(lambda: len(self.taken) == first + THREADS)
        await until(lambda: len(self.begun) == min(COUNT, first + 2 * THREADS))
        await cycles()

    async def wait(self, seconds: float) -> None:
        """Let time pass."""
        await cycles()
        self._now += seconds
        await cycles()

    def close(self) -> None:
        for event in self._may_take:
            event.set()
        self.dispatcher.close()


@pytest.fixture
async def broker(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Broker]:
    made = Broker(monkeypatch)
    yield made
    made.close()


async def test_no_wake_up_of_a_burst_is_dropped_while_others_are_published(broker: Broker) -> None:
    """However long that takes. They begin in the order in which they came."""
    sending = await broker.send()
    for done in range(0, COUNT, THREADS):
        await broker.wait(1.5)
        assert sorted(broker.begun) == list(range(done + THREADS))
        await broker.take()
    assert await asyncio.gather(*sending) == [True] * COUNT


async def test_a_broker_that_takes_nothing_any_more_keeps_nobody_waiting(broker: Broker) -> None:
    """All give up together, those that came last as well; the rescue finds their sessions."""
    sending = await broker.send()
    await broker.wait(1.5)
    await broker.take()
    await broker.wait(1.9)
    assert sum(task.done() for task in sending) == THREADS
    await broker.wait(0.2)
    assert await asyncio.gather(*sending) == [True] * THREADS + [False] * (COUNT - THREADS)
