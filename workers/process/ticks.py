"""Acts on schedules that are due, for the rescuer: a tick becomes a turn, or passes."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Final

from broker_config.telemetry import get_logger
from sessions.errors import BackendError, InvalidSessionId
from sessions.store.keys import SessionKeys
from sessions.store.schedules import ScheduleStore
from sessions.store.wake_up import Publish

_AT_ONCE: Final = 50
_log = get_logger(__name__)


class Ticks:
    """Turns the ticks of schedules into turns. One per worker process."""

    def __init__(self, schedules: ScheduleStore, partitions: int, publish: Publish) -> None:
        self._schedules = schedules
        self._partitions = partitions
        self._publish = publish
        self._places = asyncio.Semaphore(_AT_ONCE)

    async def act(self, refs: Iterable[str]) -> None:
        """Act on the schedules of these sessions. What fails stays due, and is found again."""
        await asyncio.gather(*(self._act(ref) for ref in refs))

    async def _act(self, ref: str) -> None:
        async with self._places:
            try:
                keys = SessionKeys.from_ref(ref, self._partitions)
                for wake_up in await self._schedules.act(keys):
                    await self._publish(wake_up)
            except (BackendError, InvalidSessionId) as error:
                _log.warning("schedules_left", session=ref, error=str(error), hint="a rescuer will find them again")
