"""Publishing wake-ups: the only messages that a client sends to Celery.

A wake-up carries the session's key and the time of acceptance, nothing else. Before it is published, its session is
entered into the queue's rota, which decides who gets the next slot. A wake-up may be lost, late or duplicated: the
store records which sessions are due, and every worker looks for them (R9 in docs/protocol.md). So a failed publish is
logged and is not an error for the caller, whose turn is already accepted.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any, Final

from celery import Celery

from broker_config.celery_app import FleetApp
from broker_config.settings import Settings
from broker_config.telemetry import get_logger
from sessions.errors import BackendError
from sessions.protocol.turn import TASK_NAME
from sessions.store.rota import Rota
from sessions.store.wake_up import WakeUp

IN_ROTA: Final = "sf_in_rota"
"""The header of messages whose session is in the rota. Those of earlier versions have none."""
_log = get_logger(__name__)


def publish_wake(app: Celery, wake_up: WakeUp) -> None:
    """Publish one wake-up; blocks for one round trip to the broker."""
    app.send_task(
        TASK_NAME,
        args=[wake_up.ref, wake_up.accepted_ms],
        queue=wake_up.queue,
        headers={IN_ROTA: 1} if wake_up.in_rota else None,
        ignore_result=True,
        argsrepr=f"({wake_up.ref!r},)",
        kwargsrepr="{}",
    )


async def entered(rota: Rota, wake_up: WakeUp) -> WakeUp:
    """Enter the session of a wake-up into the rota. If that fails, the worker that receives the wake-up does it."""
    if wake_up.in_rota:
        return wake_up
    try:
        await rota.join(wake_up)
    except BackendError as error:
        _log.warning("rota_not_joined", session=wake_up.ref, error=str(error))
        return wake_up
    return replace(wake_up, in_rota=True)


class Dispatcher:
    """A Celery application that only sends, with its own threads, because kombu blocks.

    A message waits for a thread as long as others are being published: a burst of thousands takes longer than a broker
    that does not answer may take. Its caller waits with it, so what is in the queue is bounded by who submits.
    """

    def __init__(self, settings: Settings, rota: Rota) -> None:
        self._rota = rota
        self._app = FleetApp("sessionfleet-client", settings, set_as_current=False)
        self._timeout = max(2.0, settings.connect_timeout)
        # The default is long, because workers wait for the next wake-up. A publish should fail soon.
        self._app.conf.broker_transport_options |= {"socket_timeout": self._timeout}
        self._threads = ThreadPoolExecutor(max_workers=4, thread_name_prefix="sessionfleet-wake")
        self._progress = -math.inf  # by the loop's clock: when something was last published

    async def wake(self, wake_up: WakeUp) -> bool:
        """Publish a wake-up. False if that failed: the rescue finds the session within seconds."""
        wake_up = await entered(self._rota, wake_up)
        return await self._send("wake_not_published", publish_wake, self._app, wake_up)

    async def notify_cancel(self, worker: str, ref: str, part: str) -> bool:
        """Make the worker that runs a turn read its cancel mark now, instead of at its next heartbeat."""
        return await self._send("cancel_not_published", self._control, worker, ref, part)

    def close(self) -> None:
        """Close the connections."""
        self._threads.shutdown(wait=False)
        self._app.close()

    def _control(self, worker: str, ref: str, part: str) -> None:
        self._app.control.broadcast("cancel_turn", arguments={"ref": ref, "part": part}, destination=[worker])

    async def _send(self, event: str, work: Callable[..., None], *args: Any) -> bool:
        try:
            await self._published(work, *args)
        except Exception as error:  # noqa: BLE001 - whatever failed, the rescue finds the accepted turn
            _log.warning(event, error=repr(error), hint="the workers find the session within seconds")
            return False
        return True

    async def _published(self, work: Callable[..., None], *args: Any) -> None:
        """Have a thread do it, and wait for that.

        Raises:
            TimeoutError: nothing at all was published for `_timeout` seconds.
        """
        loop = asyncio.get_running_loop()
        began, sending = loop.time(), loop.run_in_executor(self._threads, self._work, loop, work, *args)
        try:
            while not sending.done():
                left = max(began, self._progress) + self._timeout - loop.time()
                if left <= 0:
                    raise TimeoutError(f"the broker took nothing for {self._timeout:g} s")
                await asyncio.wait((sending,), timeout=left)
            sending.result()
        finally:
            sending.cancel()  # if no thread has begun with it

    def _work(self, loop: asyncio.AbstractEventLoop, work: Callable[..., None], *args: Any) -> None:
        work(*args)
        self._progress = loop.time()
