"""This worker's entry in the store's list of running workers, written once a second."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Sequence
from typing import Any, Final

import psutil

from broker_config.telemetry import get_logger
from sessions.errors import BackendError
from sessions.protocol.worker_info import WorkerInfo
from sessions.store.catalog import forget_worker, note_worker, running_workers
from sessions.store.scripts import ScriptRunner

_log = get_logger(__name__)
_PERIOD: Final = 1.0


class Presence:
    """Says that this worker is alive, what it can run, and how far it has read its queues.

    Args:
        info: describes this worker as it is now.
        learn: is told the models whose calls the fleet holds back.
    """

    def __init__(
        self,
        scripts: ScriptRunner,
        store: Any,
        info: Callable[[], WorkerInfo],
        learn: Callable[[Sequence[str]], None],
    ) -> None:
        self._scripts = scripts
        self._store = store
        self._info = info
        self._learn = learn
        self._consumed: dict[str, int] = {}

    def consumed(self, queue: str, accepted_ms: int) -> None:
        """Note the newest wake-up that was taken from a queue, by its acceptance time."""
        if accepted_ms > self._consumed.get(queue, 0):
            self._consumed[queue] = accepted_ms

    async def announce(self) -> None:
        """Enter this worker into the list, at start-up.

        Raises:
            BackendError: the store did not take it.
        """
        await self._warn_of_namesake()
        self._learn(await note_worker(self._scripts, self._info(), {}))

    async def run(self) -> None:
        """Renew the entry once a second, for ever."""
        while True:
            await asyncio.sleep(_PERIOD)
            try:
                self._learn(await note_worker(self._scripts, self._info(), dict(self._consumed)))
            except BackendError as error:
                _log.warning("alive_not_said", error=str(error))

    async def leave(self) -> None:
        """Remove the entry. If that fails, it expires within seconds."""
        try:
            await forget_worker(self._scripts, self._info().id)
        except BackendError as error:
            _log.warning("goodbye_not_said", error=str(error))

    async def _warn_of_namesake(self) -> None:
        """Two workers with one name look like one worker, to people and to Celery's remote control."""
        name = self._info().id
        for other in await running_workers(self._store):
            if other.id == name and other.host == socket.gethostname() and psutil.pid_exists(other.pid):
                hint = "give each worker of a machine its own name: -n NAME@%h"
                _log.warning("worker_name_taken", worker=name, pid=other.pid, hint=hint)
