"""Removes the documents of sessions that expired: Redis forgets a session by itself, the knowledge index does not."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Final

from broker_config.settings import Settings
from broker_config.telemetry import get_logger
from sessions.client.operations import Operations
from sessions.client.scopes import outlived, session_name
from sessions.errors import BackendError, SessionBusy
from sessions.protocol.knowledge_requests import RemoveKnowledge
from sessions.store.keys import SessionKeys, lanes_key, partition_key
from sessions.store.scripts import translated

_log = get_logger(__name__)
_PAUSE: Final = 30.0


class LaneJanitor:
    """Looks now and then for lanes whose session is gone. Runs where retrieval is served; two do no harm."""

    def __init__(self, settings: Settings, store: Any, operations: Operations, serves: Callable[[], bool]) -> None:
        self._settings = settings
        self._store = store
        self._operations = operations
        self._serves = serves

    async def run(self) -> None:
        """Look every half minute, for ever."""
        while True:
            await asyncio.sleep(_PAUSE)
            try:
                if self._serves():
                    await self.look()
            except (BackendError, SessionBusy) as error:
                _log.warning("lanes_not_looked_through", error=str(error))

    async def look(self) -> int:
        """Look once; of how many sessions something was left."""
        found = 0
        for partition in range(self._settings.partitions):
            with translated():
                refs = await self._store.smembers(lanes_key(partition_key(partition)))
            for ref in refs:
                found += await self._clear_up(SessionKeys.from_ref(ref.decode(), self._settings.partitions))
        return found

    async def _clear_up(self, lane: SessionKeys) -> bool:
        if not await outlived(self._store, lane):
            return False
        # Whether they are is looked at again when its turn comes: a new session may have begun to add documents.
        request = RemoveKnowledge(scope=session_name(lane.home.session_id), outlived=True)
        key = "expired"  # one at a time, whoever else looks
        await self._operations.submit(
            lane, request, timeout=self._settings.retrieval_timeout, idempotency_key=key, passing=True
        )
        _log.info("documents_of_expired_session", session=lane.home.ref)
        return True
