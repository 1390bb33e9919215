"""How a worker stops: it starts no turn any more, waits for those that run, and hands the rest to other workers.

A model request is cut short at the end of the grace period, because it can simply be sent again. A tool gets more time:
a tool call that is cut short is in doubt, and every deploy would leave some.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import Final

from broker_config.settings import Settings
from broker_config.telemetry import get_logger
from workers.lease.heartbeat import Heartbeat
from workers.lease.held_turn import StopReason
from workers.process.open_work import OpenWork

_log = get_logger(__name__)
_CLEAN_UP: Final = 5.0
_EXIT_MARGIN: Final = 4.0


def longest_stop(settings: Settings) -> float:
    """Seconds after which a worker that was told to stop exits, whatever still runs in it."""
    return settings.shutdown_grace + settings.tool_grace + 2 * _CLEAN_UP + _EXIT_MARGIN


class Shutdown:
    """Drains this process's turns, once.

    Args:
        stop_starting: keep the process from starting turns, and from taking searches.
    """

    def __init__(
        self, settings: Settings, heartbeat: Heartbeat, work: OpenWork, stop_starting: Sequence[Callable[[], None]]
    ) -> None:
        self._settings = settings
        self._heartbeat = heartbeat
        self._work = work
        self._stop_starting = stop_starting
        self._drained: asyncio.Task[None] | None = None

    def begin(self) -> None:
        """Begin to drain. Called on the loop's thread; calling it again changes nothing."""
        if self._drained is None:
            for stop in self._stop_starting:
                stop()
            self._drained = asyncio.get_running_loop().create_task(self._drain())

    async def finished(self) -> None:
        """Wait until the turns have ended or were handed over."""
        if self._drained is not None:
            await self._drained

    async def _drain(self) -> None:
        # Waits for the coroutines, not only for the leases: a turn that has given its lease back may still apply
        # effects and publish wake-ups.
        if await self._work.ended_within(self._settings.shutdown_grace):
            return
        _log.warning("handing_over", turns=len(self._heartbeat.held))
        until = time.monotonic() + self._settings.tool_grace
        self._hand_over_between_tools()
        while not await self._work.ended_within(0.05) and time.monotonic() < until:
            self._hand_over_between_tools()
        for held in self._heartbeat.held:
            held.stop(StopReason.HANDOVER)
        if not await self._work.ended_within(_CLEAN_UP):
            await self._work.cancel(_CLEAN_UP)

    def _hand_over_between_tools(self) -> None:
        for held in self._heartbeat.held:
            held.state.draining = True
            if held.state.tools_running == 0 and held.stop_reason is None:
                held.stop(StopReason.HANDOVER)
