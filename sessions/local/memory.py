"""Memories in the fleet's store. Searches are run by its retrieval workers."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Final

from sessions.client.arguments.memory import (
    MemoryListing,
    MemoryQuery,
    MemoryUpdate,
    NewMemory,
    memory_id_text,
    memory_kinds,
    memory_text,
)
from sessions.client.backend import MemoryPage
from sessions.client.fleet_client import FleetClient
from sessions.client.ports import SessionRef
from sessions.errors import BadRequest, StateConflict
from sessions.protocol.memory_requests import ScopeName, SearchMemory
from sessions.store.memory_places import MemoryScope
from sessions.store.memory_record import KINDS, Memory, new_memory_id
from sessions.store.state import session_scope, wide_scope

_READ_AT_ONCE: Final = 200


class LocalMemory:
    """`MemoryCalls` over the fleet's store."""

    def __init__(self, fleet: Callable[[], FleetClient]) -> None:
        self._fleet = fleet

    async def add(self, session: SessionRef, memory: NewMemory) -> str:
        """Add a memory; see `MemoryMethods.aadd_memory`."""
        fleet = self._fleet()
        stored = Memory(
            id=new_memory_id(),
            text=memory_text(memory.text, fleet.settings.memory_text_limit_bytes),
            kind=memory.kind,
            metadata=memory.metadata,
            created_ms=time.time_ns() // 1_000_000,
        )
        scopes = await _Scopes.of(fleet, session)
        name = scopes.resolve(memory.scope)
        if name == "user":  # they are in another cluster slot, so record in the session's that it belongs to this user
            await fleet.stores.state.write(session_scope(session.keys), (), user_id=session.user_id, ttl=session.ttl)
        place = scopes.stored_scope(name)
        return await fleet.stores.memory.add(place, stored, user_id=session.user_id, ttl=session.ttl)

    async def update(self, session: SessionRef, update: MemoryUpdate) -> dict[str, Any] | None:
        """Change one memory; see `MemoryMethods.aupdate_memory`."""
        fleet = self._fleet()
        if update.text is not None:
            memory_text(update.text, fleet.settings.memory_text_limit_bytes)

        def changed(memory: Memory) -> Memory:
            if update.version not in (None, memory.version):
                has = f"the memory {memory.id!r} has version {memory.version}, not {update.version}"
                raise StateConflict(f"{has}: read it and try again")
            return memory.changed(
                time.time_ns() // 1_000_000,
                text=memory.text if update.text is None else update.text,
                kind=update.kind or memory.kind,
                metadata=memory.metadata if update.metadata is None else update.metadata,
            )

        scopes = await _Scopes.of(fleet, session)
        for name in scopes.names:
            place = scopes.stored_scope(name)
            memory = await fleet.stores.memory.change(place, update.memory_id, changed, user_id=session.user_id)
            if memory is not None:
                return _as_dict(memory, name)
        return None

    async def delete(self, session: SessionRef, memory_id: str) -> bool:
        """Delete one memory; see `MemoryMethods.adelete_memory`."""
        ids, fleet = [memory_id_text(memory_id)], self._fleet()
        scopes = await _Scopes.of(fleet, session)
        for name in scopes.names:
            if await fleet.stores.memory.remove(scopes.stored_scope(name), ids, user_id=session.user_id):
                return True
        return False

    async def clear(self, session: SessionRef, memory_type: str | None, scope: ScopeName | None) -> int:
        """Delete a scope's memories; see `MemoryMethods.aclear_memory`."""
        kinds, fleet = memory_kinds(memory_type), self._fleet()
        scopes = await _Scopes.of(fleet, session)
        place, store = scopes.stored_scope(scopes.resolve(scope)), fleet.stores.memory
        if kinds == KINDS:
            return await store.clear(place, user_id=session.user_id)
        found = await store.read(place, await store.ids(place))
        ids = [memory_id for memory_id, stored in found.items() if stored.memory.kind in kinds]
        return await store.remove(place, ids, user_id=session.user_id)

    async def get(self, session: SessionRef, memory_id: str) -> dict[str, Any] | None:
        """One memory; see `MemoryMethods.aget_memory`."""
        wanted, fleet = memory_id_text(memory_id), self._fleet()
        scopes = await _Scopes.of(fleet, session)
        for name in scopes.names:
            if (memory := await fleet.stores.memory.get(scopes.stored_scope(name), wanted)) is not None:
                return _as_dict(memory, name)
        return None

    async def list_page(self, session: SessionRef, listing: MemoryListing) -> MemoryPage:
        """A page of a scope's memories; see `MemoryMethods.alist_memory`."""
        fleet = self._fleet()
        scopes = await _Scopes.of(fleet, session)
        name, store, limit = scopes.resolve(listing.scope), fleet.stores.memory, listing.limit
        place = scopes.stored_scope(name)
        ids = [key for key in await store.ids(place) if listing.cursor is None or key < listing.cursor]
        page: list[Memory] = []
        for start in range(0, len(ids), _READ_AT_ONCE):
            found = await store.read(place, ids[start : start + _READ_AT_ONCE])
            page += [stored.memory for stored in found.values() if stored.memory.kind in listing.kinds]
            if len(page) > limit:  # one more than the page: there is a next page
                break
        shown = [_as_dict(memory, name) for memory in page[:limit]]
        return MemoryPage(shown, page[limit - 1].id if len(page) > limit else None)

    async def search(self, session: SessionRef, query: MemoryQuery) -> list[dict[str, Any]]:
        """Find memories; see `MemoryMethods.asearch_memory`."""
        fleet = self._fleet()
        scopes = await _Scopes.of(fleet, session)
        request = SearchMemory(
            query=query.query,
            limit=query.limit,
            types=query.kinds,
            filters=query.filters,
            scopes=scopes.names if query.scope is None else (scopes.resolve(query.scope),),
            user=scopes.user,
            min_score=query.min_score,
        )
        found = await fleet.retrieval.search(session.keys, request, timeout=query.timeout)
        return [_with_datetime(memory) for memory in found]


class _Scopes:
    """The scopes of a session's memories: its own, and its user's if it has one."""

    def __init__(self, fleet: FleetClient, session: SessionRef, user: str | None) -> None:
        self._fleet = fleet
        self._session = session
        self.user = user

    @classmethod
    async def of(cls, fleet: FleetClient, session: SessionRef) -> _Scopes:
        """The scopes of a session. If the caller names no user, the owner's are included. Connects first.

        Raises:
            SessionOwnerError: the session belongs to another user than the one named.
        """
        return cls(fleet, session, await fleet.ownership.owner_for(session.keys, session.user_id))

    @property
    def names(self) -> tuple[ScopeName, ...]:
        """Their names, the default first."""
        return ("session",) if self.user is None else ("user", "session")

    def resolve(self, scope: ScopeName | None) -> ScopeName:
        """The scope that an argument selects.

        Raises:
            BadRequest: it is the user's, and the session has no user.
        """
        if scope is None:
            return self.names[0]
        if scope == "user" and self.user is None:
            session_id = self._session.keys.session_id
            raise BadRequest(f"session {session_id!r} has no user, so it has no user's memories: pass user_id=")
        return scope

    def stored_scope(self, name: ScopeName) -> MemoryScope:
        """Where a scope's memories are stored."""
        keys = self._session.keys
        if name == "session" or self.user is None:
            return session_scope(keys)
        return wide_scope(keys.tenant, self.user, self._fleet.settings.partitions)


def _as_dict(memory: Memory, scope: ScopeName) -> dict[str, Any]:
    return _with_datetime(memory.shown(scope))


def _with_datetime(memory: Mapping[str, Any]) -> dict[str, Any]:
    """A memory with `created_at` and `updated_at` (datetimes) instead of milliseconds."""
    dated = dict(memory)
    dated["created_at"] = datetime.fromtimestamp(dated.pop("created_ms") / 1000, UTC)
    updated_ms = dated.pop("updated_ms", None)  # workers of earlier versions do not say
    dated["updated_at"] = dated["created_at"] if updated_ms is None else datetime.fromtimestamp(updated_ms / 1000, UTC)
    dated.setdefault("version", 1)
    return dated
