"""The operations on memories: searching, storing extracted facts, and computing missing vectors."""

from __future__ import annotations

import re
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
from sessions.store.memory import MemoryStore
from sessions.store.memory_places import MemoryScope
from sessions.store.memory_record import Memory, new_memory_id
from workers.retrieval.memory import MemorySearch, scopes_of
from workers.retrieval.operation_context import OperationContext

_log = get_logger(__name__)
_EMBED_BATCH: Final = 128
_SAME_FACT: Final = 0.88  # the cosine that two texts with the same words have at least, unless their order matters
_REMEMBERED_MS: Final = 7 * 86_400_000


class MemoryOperations:
    """The operations on memories. One per process."""

    def __init__(self, settings: Settings, memories: MemoryStore, search: MemorySearch, operations: Operations) -> None:
        self._settings = settings
        self._memories = memories
        self._search = search
        self._operations = operations

    async def search(self, session: SessionKeys, request: SearchMemory) -> list[dict[str, Any]]:
        """The best matches of a session, its user, or both.

        Memories without a vector are matched by their words, and their embedding is queued.
        """
        found = await self._search.search(scopes_of(request, session, self._settings.partitions), request)
        for name in found.unembedded:
            await self._queue_embedding(session if name == "session" else self._of_user(session, request.user))
        return found.memories

    async def embed(self, op: OperationContext, _: EmbedMemory) -> dict[str, int]:
        """Compute the missing vectors of a scope's memories, batch by batch."""
        scope, left = _scope_of(op.keys.home), 1
        while left > 0:
            left = await self._search.embed_missing(scope, _EMBED_BATCH)
            await op.progress("embedding", left=left)
        return {"left": left}

    async def keep(self, op: OperationContext, request: KeepFacts) -> dict[str, int]:
        """Store facts that no memory of the scope states already. Repeating the operation stores each fact once."""
        session = op.keys.home
        keys = session if request.user is None else self._of_user(session, request.user)
        scope, kept = _scope_of(keys), 0
        for number, fact in enumerate(request.facts):
            if len(fact.encode()) > self._settings.memory_text_limit_bytes:
                _log.warning("fact_too_long", scope=keys.ref, bytes=len(fact.encode()))
                continue
            if not fact.strip():
                continue
            operation = uuid.uuid5(uuid.NAMESPACE_URL, f"{request.turn}:{number}").hex
            if (known := await self._known(scope, fact)) is not None:
                await self._memories.change(
                    scope,
                    known,
                    lambda memory: memory.said_again(op.now_ms),
                    operation=operation,
                    remembered_ms=_REMEMBERED_MS,
                )
                continue
            memory = Memory(new_memory_id(), fact.strip(), "long", {"turn": request.turn}, op.now_ms)
            await self._memories.add(scope, memory, operation=operation, remembered_ms=_REMEMBERED_MS)
            kept += 1
        return {"facts": len(request.facts), "kept": kept}

    async def _known(self, scope: MemoryScope, fact: str) -> str | None:
        """The memory that has the same words as a fact.

        A high similarity is not enough: what corrects a fact ("his number is 0199") is as similar to it as what repeats
        it, and must not be lost. Texts with the same words may still differ in their order.
        """
        words = _words(fact)
        for memory, _ in await self._search.similar(scope, fact, _SAME_FACT):
            if _words(memory.text) == words:
                return memory.id
        return None

    async def _queue_embedding(self, keys: SessionKeys) -> None:
        """Queue an operation that computes the scope's missing vectors, unless one is queued already."""
        lane, timeout = keys.lane(MEMORY), self._settings.ingest_timeout
        try:
            await self._operations.submit(lane, EmbedMemory(), timeout=timeout, short_lived=True, policy=Policy.REJECT)
        except SessionBusy:
            return
        except BackendError as error:  # the next search will queue it again
            _log.warning("vectors_not_queued", scope=keys.ref, error=str(error))

    def _of_user(self, session: SessionKeys, user: str | None) -> SessionKeys:
        return SessionKeys.wide(session.tenant, wide_name("user", user or ""), self._settings.partitions)


def _words(text: str) -> list[str]:
    return sorted(re.findall(r"\w+", text.casefold()))


def _scope_of(keys: SessionKeys) -> MemoryScope:
    return MemoryScope("wide" if keys.session_id.startswith("~") else "session", keys.base, keys.partition)
