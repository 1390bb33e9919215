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
from workers.process.background import end_all

_AT_ONCE: Final = 500
_log = get_logger(__name__)


class Ticks:
    """Turns the ticks of schedules into turns. One per worker process.

    It does so in the background: thousands of schedules may be due at nine, and the rescue must go on meanwhile.
    """

    def __init__(self, schedules: ScheduleStore, partitions: int, publish: Publish) -> None:
        self._schedules = schedules
        self._partitions = partitions
        self._publish = publish
        self._acting: dict[str, asyncio.Task[None]] = {}

    def act(self, refs: Iterable[str]) -> None:
        """Begin to act on the schedules of these sessions.

        Those for which there is no room now, and those where it fails, stay due: a rescuer finds them a second later.
        """
        for ref in refs:
            if len(self._acting) >= _AT_ONCE:
                return
            if ref not in self._acting:
                self._acting[ref] = asyncio.get_running_loop().create_task(self._act(ref))

    async def close(self) -> None:
        """Stop acting. What has not been acted on is found by another worker."""
        await end_all(list(self._acting.values()))

    async def _act(self, ref: str) -> None:
        try:
            keys = SessionKeys.from_ref(ref, self._partitions)
            for wake_up in await self._schedules.act(keys):
                await self._publish(wake_up)
        except (BackendError, InvalidSessionId) as error:
            _log.warning("schedules_left", session=ref, error=str(error), hint="a rescuer will find them again")
        except Exception:  # noqa: BLE001 - an error with one session's schedules must not go unnoticed
            _log.exception("schedules_broke", session=ref)
        finally:
            del self._acting[ref]
