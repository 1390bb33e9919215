"""Writes committed turns to the archive: one try, and what its result means.

    written, or there already    the turn of the lane succeeds
    the archive is unreachable   the turn keeps its place in the lane and is tried again, after pauses that grow

Nothing waits for it but the lane: the session's own turns continue.
"""

from __future__ import annotations

import asyncio
import json
import random
from typing import Final

from broker_config.settings import Settings
from broker_config.telemetry import get_logger
from sessions.archive.address import open_archive
from sessions.archive.records import Archive, ArchivedTurn, SessionSnapshot
from sessions.client.connection import Stores
from sessions.errors import ArchiveUnavailable, BadRequest, CorruptRecord, MissingExtra, SealError, StoreUnavailable
from sessions.protocol.archive_requests import ArchiveTurn, EraseArchived
from sessions.protocol.operation import OperationSpec
from sessions.protocol.turn import TurnStatus
from sessions.store.history import HistoryEntry
from sessions.store.keys import SessionKeys
from sessions.store.leases import Ending
from sessions.store.state import session_scope
from workers.lease.held_turn import HeldTurn
from workers.lease.outcomes import Outcome, Postpone

_log = get_logger(__name__)
_FIRST_PAUSE: Final = 1.0
_LONGEST_PAUSE: Final = 300.0
_JITTER: Final = 0.2
_DONE: Final = b'{"text": "", "output": null}'
KINDS: Final = (ArchiveTurn.kind, EraseArchived.kind)


class ArchiveWriter:
    """Writes to the archive in the settings. One per worker process; its coroutines run on the process's loop."""

    def __init__(self, settings: Settings, stores: Stores) -> None:
        self._settings = settings
        self._stores = stores
        self._archive: Archive | None = None
        self._one_at_a_time = asyncio.Lock()

    def effect(self, held: HeldTurn, ending: Ending) -> bytes:
        """The entry for the outbox of a turn that is about to be committed; empty if there is no archive."""
        if self._settings.archive is None or not ending.history_entry:
            return b""
        entry, turn = HistoryEntry.load(ending.history_entry), held.turn
        archived = ArchivedTurn(
            tenant=held.keys.tenant,
            session_id=held.keys.session_id,
            turn=entry.turn,
            user_id=turn.user_id,
            sender=entry.sender,
            agent=entry.agent,
            at_ms=entry.at_ms,
            count=entry.count,
            status=entry.incomplete or TurnStatus.SUCCEEDED,
            replaces_at=turn.replaces_at,
            usage=json.loads(ending.usage),
            messages=json.loads(entry.messages),
        )
        return json.dumps({"kind": "archive", "turn": entry.turn, "packed": archived.packed()}).encode()

    async def run(self, held: HeldTurn, spec: OperationSpec) -> Outcome:
        """Try once; returns the outcome of the lane's turn."""
        try:
            if spec.kind == EraseArchived.kind:
                await self._erase(held, EraseArchived.model_validate(spec.body))
            else:
                await self._write(held, ArchiveTurn.model_validate(spec.body))
        except (ArchiveUnavailable, BadRequest, MissingExtra, StoreUnavailable) as error:
            return self._try_later(held, error)
        return Ending(TurnStatus.SUCCEEDED, result=_DONE)

    async def _write(self, held: HeldTurn, request: ArchiveTurn) -> None:
        turn = ArchivedTurn.unpacked(request.packed)
        session = await self._snapshot(held.keys.home)
        async with self._one_at_a_time:
            held.check_held()
            await asyncio.to_thread(self._opened().write, turn, session)

    async def _erase(self, held: HeldTurn, request: EraseArchived) -> None:
        tenant, before_ms = held.keys.tenant, held.turn.accepted_ms
        async with self._one_at_a_time:
            await asyncio.to_thread(self._opened().erase, tenant, request.session_id, request.turn, before_ms)

    def _opened(self) -> Archive:
        if self._settings.archive is None:
            raise ArchiveUnavailable("this worker has no archive: set SESSIONFLEET_ARCHIVE as in the other workers")
        if self._archive is None:
            self._archive = open_archive(self._settings.archive.get_secret_value())
        return self._archive

    async def _snapshot(self, keys: SessionKeys) -> SessionSnapshot | None:
        """The session as it is now; None if it has expired, or cannot be read."""
        records = self._stores.records
        try:
            info = await records.info(keys)
            if info is None:
                return None
            ttl_ms = int(await self._stores.scripts.read("HGET", keys.meta, "ttl") or 0)
            return SessionSnapshot(
                tenant=keys.tenant,
                session_id=keys.session_id,
                user_id=info.user_id,
                title=info.title,
                metadata=dict(info.metadata),
                queue=info.queue,
                ttl=ttl_ms / 1000 if ttl_ms else None,
                created_ms=round(info.created_at.timestamp() * 1000),
                updated_ms=round(info.last_used_at.timestamp() * 1000),
                state=await self._stores.state.read(session_scope(keys)),
                agents=await records.agent_configs(keys),
            )
        except (CorruptRecord, SealError) as error:
            _log.warning("session_not_archived", session=keys.session_id, error=str(error))
            return None

    def _try_later(self, held: HeldTurn, error: Exception) -> Outcome:
        """Another try after a pause: half as long as the turn has waited, between a second and five minutes."""
        waited = max(0.0, (held.turn.now_ms - held.turn.accepted_ms) / 1000)
        pause = min(_LONGEST_PAUSE, max(_FIRST_PAUSE, waited / 2)) * random.uniform(1 - _JITTER, 1 + _JITTER)  # noqa: S311 - no secret
        _log.warning("turn_not_archived", turn=held.turn_id, error=str(error), pause=round(pause, 1))
        return Postpone(pause)

    async def close(self) -> None:
        """Close the connection."""
        if self._archive is not None:
            await asyncio.to_thread(self._archive.close)
