"""Leases that ended under a running turn: said in the log, and forgiven where the store was out of reach."""

from __future__ import annotations

import asyncio
import time
from typing import Final

from broker_config.telemetry import get_logger
from sessions.errors import StoreUnavailable
from sessions.store.keys import SessionKeys
from sessions.store.leases import LeaseStore
from sessions.store.open_turn import OpenTurn
from workers.lease.held_turn import HeldTurn, Stop
from workers.lease.outcomes import Left

_log = get_logger(__name__)
_PAUSE: Final = 0.5


class Losses:
    """What a worker does about leases it has lost: it writes nothing, and says why."""

    def __init__(self, leases: LeaseStore) -> None:
        self._leases = leases
        self._afterwards: set[asyncio.Task[None]] = set()

    def lost(self, held: HeldTurn) -> Left:
        """Say so in the log, and (when the store was out of reach) to the store: that was no crash."""
        why = (held.stop or Stop.LOST).value
        _log.error("lease_lost", turn=held.turn_id, lease=held.turn.lease, why=why, written="nothing")
        if held.stop is Stop.UNREACHABLE:
            task = asyncio.create_task(self._forgive(held.keys, held.turn))
            self._afterwards.add(task)
            task.add_done_callback(self._afterwards.discard)
        return Left.LOST

    async def _forgive(self, keys: SessionKeys, begun: OpenTurn) -> None:
        until = time.monotonic() + (begun.deadline_ms - begun.now_ms) / 1000  # afterwards it is over in any case
        while time.monotonic() < until:
            try:
                word = await self._leases.forgive(keys, begun.part, begun.lease)
            except StoreUnavailable:
                await asyncio.sleep(_PAUSE)
            else:
                _log.info("outage_not_counted", turn=keys.public_id(begun.part), word=word)
                return
