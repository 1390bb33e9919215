"""A session's memory: what it, or its user, was taught; found again by meaning and by words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Protocol

from sessions.client.ports import HasPortal, MemoryCalls, MemoryPage
from sessions.local import memory as local_memory
from sessions.protocol.memory_requests import ScopeName

__all__ = ["MemoryMethods", "MemoryPage", "ScopeName"]


class _Session(Protocol):
    """What of a session these methods need."""

    _memory_calls: ClassVar[MemoryCalls]

    @property
    def client(self) -> HasPortal: ...


class MemoryMethods:
    """The memory methods of `Session`, each with its async twin.

    A memory belongs to a user, who has it in all sessions, or to one session. `scope=` says which ("user" or
    "session"); without it, it is the user's where the session has one, else the session's. Kinds are "long" and
    "short"; they differ in nothing but what you take them for.

    A memory is a dict: id, text, metadata, type, scope, created_at (datetime); what was searched for has a score, and
    the similarity of its meaning (cosine, None where only words were compared).
    """

    _memory_calls: ClassVar[MemoryCalls] = local_memory

    # --- change -----------------------------------------------------------------------------------------

    async def aadd_memory(
        self: _Session,
        text: str,
        memory_type: str = "long",
        *,
        metadata: Mapping[str, Any] | None = None,
        scope: ScopeName | None = None,
        **more: Any,
    ) -> str:
        """Remember a text; returns the memory's id.

        Args:
            metadata: JSON that goes with it; `more` is added to it, which is how PraisonAI passes it.

        Raises:
            BadRequest: text, kind, metadata or scope cannot be used, or there is no room for more memories.
            SessionOwnerError: the session belongs to another user. StoreFull: the store has no room.
        """
        return await self.client.portal.acall(self._memory_calls.add(self, text, memory_type, metadata, more, scope))

    def add_memory(
        self: _Session,
        text: str,
        memory_type: str = "long",
        *,
        metadata: Mapping[str, Any] | None = None,
        scope: ScopeName | None = None,
        **more: Any,
    ) -> str:
        """Remember a text; see `aadd_memory`."""
        return self.client.portal.call(self._memory_calls.add(self, text, memory_type, metadata, more, scope))

    async def adelete_memory(self: _Session, memory_id: str) -> bool:
        """Forget one memory, of the session or its user; False where there is none of this id."""
        return await self.client.portal.acall(self._memory_calls.delete(self, memory_id))

    def delete_memory(self: _Session, memory_id: str) -> bool:
        """Forget one memory; see `adelete_memory`."""
        return self.client.portal.call(self._memory_calls.delete(self, memory_id))

    async def aclear_memory(self: _Session, memory_type: str | None = None, *, scope: ScopeName | None = None) -> int:
        """Forget all memories (of a kind) of one scope, and of no other; says how many there were."""
        return await self.client.portal.acall(self._memory_calls.clear(self, memory_type, scope))

    def clear_memory(self: _Session, memory_type: str | None = None, *, scope: ScopeName | None = None) -> int:
        """Forget all memories of one scope; see `aclear_memory`."""
        return self.client.portal.call(self._memory_calls.clear(self, memory_type, scope))

    # --- read -------------------------------------------------------------------------------------------

    async def aget_memory(self: _Session, memory_id: str) -> dict[str, Any] | None:
        """One memory, of the session or its user; None where there is none of this id."""
        return await self.client.portal.acall(self._memory_calls.get(self, memory_id))

    def get_memory(self: _Session, memory_id: str) -> dict[str, Any] | None:
        """One memory; see `aget_memory`."""
        return self.client.portal.call(self._memory_calls.get(self, memory_id))

    async def alist_memory(
        self: _Session,
        limit: int = 50,
        *,
        memory_type: str | None = None,
        scope: ScopeName | None = None,
        cursor: str | None = None,
    ) -> MemoryPage:
        """A page of the memories of one scope, newest first."""
        return await self.client.portal.acall(self._memory_calls.list_page(self, limit, memory_type, scope, cursor))

    def list_memory(
        self: _Session,
        limit: int = 50,
        *,
        memory_type: str | None = None,
        scope: ScopeName | None = None,
        cursor: str | None = None,
    ) -> MemoryPage:
        """A page of the memories of one scope; see `alist_memory`."""
        return self.client.portal.call(self._memory_calls.list_page(self, limit, memory_type, scope, cursor))

    # --- search -----------------------------------------------------------------------------------------

    async def asearch_memory(
        self: _Session,
        query: str,
        memory_type: str | None = None,
        *,
        limit: int = 5,
        filters: Mapping[str, Any] | None = None,
        scope: ScopeName | None = None,
        min_score: float | None = None,
        timeout: float | None = None,
    ) -> list[dict[str, Any]]:
        """The memories that fit a query, best first: of the user and of this session, unless `scope` names one.

        Args:
            filters: only memories whose metadata has these values; a list means any of them.
            min_score: 0 to 1; 1 is the first by meaning as well as by words.
            timeout: seconds to wait for a retrieval worker.

        Raises:
            BadRequest, SessionOwnerError: as `aadd_memory`.
        """
        work = self._memory_calls.search(self, query, memory_type, limit, filters, scope, min_score, timeout)
        return await self.client.portal.acall(work)

    def search_memory(
        self: _Session,
        query: str,
        memory_type: str | None = None,
        *,
        limit: int = 5,
        filters: Mapping[str, Any] | None = None,
        scope: ScopeName | None = None,
        min_score: float | None = None,
        timeout: float | None = None,
    ) -> list[dict[str, Any]]:
        """The memories that fit a query; see `asearch_memory`."""
        work = self._memory_calls.search(self, query, memory_type, limit, filters, scope, min_score, timeout)
        return self.client.portal.call(work)
