"""Removes documents and transcripts of expired sessions from the index. Redis drops a session's keys by itself."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Final

from broker_config.settings import Settings
from broker_config.telemetry import get_logger
from sessions.client.operations import Operations
from sessions.client.scopes import orphaned, session_name
from sessions.errors import BackendError, SessionBusy
from sessions.protocol.knowledge_requests import RemoveKnowledge
from sessions.protocol.lanes import TRANSCRIPT
from sessions.protocol.operation import OperationRequest
from sessions.protocol.transcript_requests import ForgetTranscript
from sessions.store.keys import SessionKeys, lanes_key, partition_key
from sessions.store.scripts import translated

_log = get_logger(__name__)
_PAUSE: Final = 30.0


class LaneJanitor:
    """Looks for lanes whose session has expired. Runs in every worker that serves retrieval; several do no harm."""

    def __init__(self, settings: Settings, store: Any, operations: Operations, serves: Callable[[], bool]) -> None:
        self._settings = settings
        self._store = store
        self._operations = operations
        self._serves = serves

    async def run(self) -> None:
        """Look every 30 seconds, for ever."""
        while True:
            await asyncio.sleep(_PAUSE)
            try:
                if self._serves():
                    await self.look()
            except (BackendError, SessionBusy) as error:
                _log.warning("lanes_not_looked_through", error=str(error))

    async def look(self) -> int:
        """Look once. Returns the number of lanes of expired sessions of which the index had something."""
        found = 0
        for partition in range(self._settings.partitions):
            with translated():
                refs = await self._store.smembers(lanes_key(partition_key(partition)))
            for ref in refs:
                found += await self._clear_up(SessionKeys.from_ref(ref.decode(), self._settings.partitions))
        return found

    async def _clear_up(self, lane: SessionKeys) -> bool:
        if not await orphaned(self._store, lane):
            return False
        # The operation checks this again when it runs: by then, a new session with this id may have added documents.
        request: OperationRequest = RemoveKnowledge(scope=session_name(lane.home.session_id), outlived=True)
        if lane.session_id.endswith(f"~{TRANSCRIPT}"):
            request = ForgetTranscript(outlived=True)
        key = "expired"  # the same key for all workers, so that one operation at a time is accepted
        await self._operations.submit(
            lane, request, timeout=self._settings.retrieval_timeout, idempotency_key=key, short_lived=True
        )
        _log.info("index_of_expired_session", lane=lane.ref)
        return True
