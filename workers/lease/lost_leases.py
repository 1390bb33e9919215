"""What a worker does about a lease that it lost while a turn ran: it logs the loss and writes nothing.

If the reason was an outage of the store, it tells the store so once that is reachable again: an outage must not count
as a crash of the turn.
"""

from __future__ import annotations

import asyncio
import time
from typing import Final

from broker_config.telemetry import get_logger
from sessions.errors import StoreUnavailable
from sessions.store.keys import SessionKeys
from sessions.store.leases import LeaseStore
from sessions.store.open_turn import OpenTurn
from workers.lease.held_turn import HeldTurn, StopReason
from workers.lease.outcomes import NotEnded

_log = get_logger(__name__)
_PAUSE: Final = 0.5


class LostLeases:
    """Reports lost leases. One per worker process."""

    def __init__(self, leases: LeaseStore) -> None:
        self._leases = leases
        self._background: set[asyncio.Task[None]] = set()

    def report(self, held: HeldTurn) -> NotEnded:
        """Log the loss, and have an outage not counted as a crash; returns the turn's outcome."""
        reason = held.stop_reason or StopReason.LEASE_LOST
        _log.error("lease_lost", turn=held.turn_id, lease=held.turn.lease, why=reason.value, written="nothing")
        if reason is StopReason.STORE_UNREACHABLE:
            task = asyncio.create_task(self._take_crash_back(held.keys, held.turn))
            self._background.add(task)
            task.add_done_callback(self._background.discard)
        return NotEnded.LEASE_LOST

    async def _take_crash_back(self, keys: SessionKeys, turn: OpenTurn) -> None:
        # After its deadline the turn is over, whatever is counted.
        until = time.monotonic() + (turn.deadline_ms - turn.now_ms) / 1000
        while time.monotonic() < until:
            try:
                word = await self._leases.forgive(keys, turn.part, turn.lease)
            except StoreUnavailable:
                await asyncio.sleep(_PAUSE)
            else:
                _log.info("outage_not_counted", turn=keys.public_id(turn.part), word=word)
                return
