"""Publishing wake-ups from a worker."""

from __future__ import annotations

import asyncio

from celery import Celery

from broker_config.telemetry import get_logger
from sessions.client.wakeups import entered, publish_wake
from sessions.store.rota import Rota
from sessions.store.wake_up import WakeUp

_log = get_logger(__name__)


class WakeUps:
    """One per worker process."""

    def __init__(self, app: Celery, rota: Rota) -> None:
        self._app = app
        self._rota = rota

    async def publish(self, wake_up: WakeUp) -> bool:
        """Publish a wake-up. False if that failed: a rescuer finds the session in the wake-up index instead."""
        wake_up = await entered(self._rota, wake_up)
        try:
            await asyncio.get_running_loop().run_in_executor(None, publish_wake, self._app, wake_up)
        except Exception as error:  # noqa: BLE001 - whatever the broker's failure was, the session will be found
            _log.warning("wake_not_published", session=wake_up.ref, error=repr(error))
            return False
        return True
