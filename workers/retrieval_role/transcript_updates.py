"""Submits the operations that keep a session's transcript searchable, from the entries in its outbox."""

from __future__ import annotations

from typing import Any, Final

from broker_config.settings import Settings
from broker_config.telemetry import get_logger
from sessions.client.operations import Operations
from sessions.errors import IdempotencyConflict, SessionBusy, StoreFull
from sessions.protocol.lanes import SEARCH_TTL, TRANSCRIPT
from sessions.protocol.transcript_requests import IndexTranscript
from sessions.store.keys import SessionKeys

KIND: Final = "transcript"
_log = get_logger(__name__)


class TranscriptUpdates:
    """Submits updates of the index. One per worker process."""

    def __init__(self, settings: Settings, operations: Operations) -> None:
        self._settings = settings
        self._operations = operations

    async def submit(self, keys: SessionKeys, effect: dict[str, Any]) -> None:
        """Submit the update for an outbox entry. If that is refused, another update does its work as well.

        An update compares index and history, whatever it was submitted for. So one that waits in a full lane suffices,
        and after a store that was full, the next turn's update, or the next search in the session, catches up.
        """
        try:
            await self._operations.submit(
                keys.lane(TRANSCRIPT),
                IndexTranscript(),
                timeout=self._settings.ingest_timeout,
                idempotency_key=f"{KIND}:{effect['why']}",
                result_ttl=SEARCH_TTL,
            )
        except (SessionBusy, StoreFull, IdempotencyConflict) as error:
            _log.info("transcript_updated_later", session=keys.ref, why=str(error))
