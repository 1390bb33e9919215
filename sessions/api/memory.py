"""A session's memory: short texts about the session or its user, found again by meaning and by words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sessions.client.arguments.memory import MemoryListing, MemoryQuery, MemoryUpdate, NewMemory, scope_name
from sessions.client.backend import BackedSession, MemoryPage
from sessions.client.blocking import blocking
from sessions.protocol.memory_requests import ScopeName

__all__ = ["MemoryMethods", "MemoryPage", "ScopeName"]


class MemoryMethods:
    """The memory methods of `Session`, each with an async form.

    A memory belongs to a user (in all sessions) or to one session. `scope=` says which, "user" or "session"; the
    default is the user's if the session has one, otherwise the session's. Types are "long" and "short": a label for
    your own use, without any difference in how a memory is kept.

    A memory is a dict: id, text, metadata, type, scope, version, created_at and updated_at (datetimes); search results
    also have a score, and a similarity (cosine, None if only words were compared).
    """

    # --- change -----------------------------------------------------------------------------------------

    async def aadd_memory(
        self: BackedSession,
        /,
        text: str,
        memory_type: str = "long",
        *,
        metadata: Mapping[str, Any] | None = None,
        scope: ScopeName | None = None,
        **more: Any,
    ) -> str:
        """Add a memory; returns its id.

        If the scope has a memory with the same text (whatever its case and spacing), type and metadata, that one stays
        the only one: its id is returned, and its `updated_at` is now.

        Args:
            metadata: JSON that is stored with it, together with `more` (PraisonAI passes metadata as keywords).

        Raises:
            BadRequest: an argument cannot be used, or the scope has SESSIONFLEET_MEMORY_LIMIT memories.
            SessionOwnerError: the session belongs to another user. StoreFull: the store has no room.
        """
        return await self.portal.acall(
            self.backend.memory.add(self, NewMemory.of(text, memory_type, metadata, more, scope))
        )

    add_memory = blocking(aadd_memory)

    async def aupdate_memory(
        self: BackedSession,
        memory_id: str,
        /,
        text: str | None = None,
        *,
        metadata: Mapping[str, Any] | None = None,
        memory_type: str | None = None,
        version: int | None = None,
    ) -> dict[str, Any] | None:
        """Change one memory of the session or its user; returns it, or None if there is none with this id.

        Two updates at once are applied one after the other, each to what the other one left.

        Args:
            text: the new text; metadata: the new metadata, instead of the old; memory_type: the new type. What is None
                stays.
            version: only if the memory still has this `version`.

        Raises:
            StateConflict: the memory has another version: read it and decide again.
            BadRequest: an argument cannot be used, or nothing is to be changed.
            SessionOwnerError: the session belongs to another user. StoreFull: the store has no room.
        """
        update = MemoryUpdate.of(memory_id, text, memory_type, metadata, version)
        return await self.portal.acall(self.backend.memory.update(self, update))

    update_memory = blocking(aupdate_memory)

    async def adelete_memory(self: BackedSession, memory_id: str) -> bool:
        """Delete one memory of the session or its user; False if there is none with this id."""
        return await self.portal.acall(self.backend.memory.delete(self, memory_id))

    delete_memory = blocking(adelete_memory)

    async def aclear_memory(
        self: BackedSession, memory_type: str | None = None, *, scope: ScopeName | None = None
    ) -> int:
        """Delete all memories of one scope, or those of one type; returns how many there were."""
        return await self.portal.acall(self.backend.memory.clear(self, memory_type, scope_name(scope)))

    clear_memory = blocking(aclear_memory)

    # --- read -------------------------------------------------------------------------------------------

    async def aget_memory(self: BackedSession, memory_id: str) -> dict[str, Any] | None:
        """One memory of the session or its user; None if there is none with this id."""
        return await self.portal.acall(self.backend.memory.get(self, memory_id))

    get_memory = blocking(aget_memory)

    async def alist_memory(
        self: BackedSession,
        limit: int = 50,
        *,
        memory_type: str | None = None,
        scope: ScopeName | None = None,
        cursor: str | None = None,
    ) -> MemoryPage:
        """A page of the memories of one scope, newest first."""
        return await self.portal.acall(
            self.backend.memory.list_page(self, MemoryListing.of(limit, memory_type, scope, cursor))
        )

    list_memory = blocking(alist_memory)

    # --- search -----------------------------------------------------------------------------------------

    async def asearch_memory(
        self: BackedSession,
        query: str,
        memory_type: str | None = None,
        *,
        limit: int = 5,
        filters: Mapping[str, Any] | None = None,
        scope: ScopeName | None = None,
        min_score: float | None = None,
        timeout: float | None = None,
    ) -> list[dict[str, Any]]:
        """The memories that match a query, best first: of the user and of this session, unless `scope` names one.

        Args:
            filters: only memories whose metadata satisfy these conditions: values, lists of accepted values, or
                operators such as `{"year": {"$gte": 2023}}` (docs/retrieval.md lists them).
            min_score: 0 to 1; 1 is the best match by meaning as well as by words.
            timeout: seconds to wait for a retrieval worker.

        Raises:
            BadRequest, SessionOwnerError: as for `aadd_memory`.
        """
        wanted = MemoryQuery.of(query, memory_type, limit, filters, scope, min_score, timeout)
        return await self.portal.acall(self.backend.memory.search(self, wanted))

    search_memory = blocking(asearch_memory)
