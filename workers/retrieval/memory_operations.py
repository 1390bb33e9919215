"""The operations on memories: searching them, and making the vectors that a search found missing."""

from __future__ import annotations

import uuid
from typing import Any, Final

from broker_config.settings import Settings
from broker_config.telemetry import get_logger
from sessions.client.operations import Operations
from sessions.errors import BackendError, SessionBusy
from sessions.protocol.lanes import MEMORY
from sessions.protocol.memory_requests import EmbedMemory, KeepFacts, SearchMemory
from sessions.protocol.turn import Policy
from sessions.store.keys import SessionKeys, wide_name
from sessions.store.memory import MemoryScope, MemoryStore
from sessions.store.memory_record import Memory, new_memory_id
from workers.retrieval.memory import MemorySearch, scopes_of
from workers.retrieval.operation_context import OperationContext

_log = get_logger(__name__)
_AT_ONCE: Final = 128
_SAME: Final = 0.88
_REMEMBERED_MS: Final = 7 * 86_400_000


class MemoryOperations:
    """What is done with memories. One per process."""

    def __init__(self, settings: Settings, memories: MemoryStore, search: MemorySearch, operations: Operations) -> None:
        self._settings = settings
        self._memories = memories
        self._search = search
        self._operations = operations

    async def search(self, op: OperationContext, request: SearchMemory) -> list[dict[str, Any]]:
        """The memories that fit, best first; those without a vector are found by their words, and get one soon."""
        session = op.keys.home
        found = await self._search.search(scopes_of(request, session, self._settings.partitions), request)
        for name in found.unembedded:
            await self._have_embedded(session if name == "session" else self._of_user(session, request.user))
        return found.memories

    async def embed(self, op: OperationContext, _: EmbedMemory) -> dict[str, int]:
        """Make the vectors that a scope's memories lack, a few at a time."""
        scope, left = _scope_of(op.keys.home), 1
        while left > 0:
            left = await self._search.embed_missing(scope, _AT_ONCE)
            await op.progress("embedding", left=left)
        return {"left": left}

    async def keep(self, op: OperationContext, request: KeepFacts) -> dict[str, int]:
        """Remember facts that no memory of the scope says already; each once, however often this runs."""
        session = op.keys.home
        keys = session if request.user is None else self._of_user(session, request.user)
        scope, kept = _scope_of(keys), 0
        for number, fact in enumerate(request.facts):
            if len(fact.encode()) > self._settings.memory_text_limit_bytes:
                _log.warning("fact_too_long", scope=keys.ref, bytes=len(fact.encode()))
                continue
            if not fact.strip() or await self._search.similar(scope, fact, _SAME):
                continue
            memory = Memory(new_memory_id(), fact.strip(), "long", {"turn": request.turn}, op.now_ms)
            operation = uuid.uuid5(uuid.NAMESPACE_URL, f"{request.turn}:{number}").hex
            await self._memories.add(scope, memory, operation=operation, remembered_ms=_REMEMBERED_MS)
            kept += 1
        return {"facts": len(request.facts), "kept": kept}

    async def _have_embedded(self, keys: SessionKeys) -> None:
        """Queue it beside the scope, unless somebody has."""
        lane, timeout = keys.lane(MEMORY), self._settings.ingest_timeout
        try:
            await self._operations.submit(lane, EmbedMemory(), timeout=timeout, short_lived=True, policy=Policy.REJECT)
        except SessionBusy:
            return
        except BackendError as error:  # the next search finds them missing again
            _log.warning("vectors_not_queued", scope=keys.ref, error=str(error))

    def _of_user(self, session: SessionKeys, user: str | None) -> SessionKeys:
        return SessionKeys.wide(session.tenant, wide_name("user", user or ""), self._settings.partitions)


def _scope_of(keys: SessionKeys) -> MemoryScope:
    return MemoryScope("wide" if keys.session_id.startswith("~") else "session", keys.base, keys.partition)
