"""What the methods of `MemoryMethods` do, as coroutines for the portal's loop."""

from __future__ import annotations

import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final, Protocol

from broker_config.settings import Settings
from sessions.client.arguments.memory import (
    json_dict,
    memory_id_text,
    memory_kind,
    memory_kinds,
    memory_query,
    memory_text,
    results_limit,
    score_bound,
)
from sessions.client.portal import Portal
from sessions.client.ports import MemoryPage
from sessions.errors import BadRequest
from sessions.protocol.memory_requests import ScopeName, SearchMemory
from sessions.protocol.operation import OperationRequest
from sessions.store.keys import SessionKeys
from sessions.store.memory import MemoryScope, MemoryStore
from sessions.store.memory_record import KINDS, Memory, new_memory_id
from sessions.store.state import StateStore, session_scope, wide_scope

_READ_AT_ONCE: Final = 200


class MemoryClient(Protocol):
    """What of the fleet's client memory needs."""

    portal: Portal
    settings: Settings
    memory: MemoryStore
    state: StateStore

    async def owner_for(self, keys: SessionKeys, user_id: str | None) -> str | None:
        """Whose memories a session reaches beside its own; connects first."""
        ...

    async def retrieve(self, keys: SessionKeys, request: OperationRequest, *, timeout: float | None = None) -> Any:
        """Have a retrieval worker carry out a request, and return its JSON result."""
        ...


class Remembering(Protocol):
    """What of a session its memory needs."""

    user_id: str | None
    ttl: float | None
    keys: SessionKeys

    @property
    def client(self) -> MemoryClient:
        """The client of this process."""
        ...


async def add(
    session: Remembering,
    text: str,
    memory_type: str,
    metadata: Mapping[str, Any] | None,
    more: Mapping[str, Any],
    scope: ScopeName | None,
) -> str:
    """Remember a text; see `MemoryMethods.aadd_memory`."""
    memory = Memory(
        id=new_memory_id(),
        text=memory_text(text, session.client.settings.memory_text_limit_bytes),
        kind=memory_kind(memory_type),
        metadata=json_dict("metadata", {**json_dict("metadata", metadata), **more}),
        created_ms=time.time_ns() // 1_000_000,
    )
    user = await _user(session)
    name = _chosen(session, user, scope)
    if name == "user":  # whose memories live in another slot: that the session is this user's is written here
        await session.client.state.write(session_scope(session.keys), (), user_id=session.user_id, ttl=session.ttl)
    await session.client.memory.add(_place(session, name, user), memory, user_id=session.user_id, ttl=session.ttl)
    return memory.id


async def delete(session: Remembering, memory_id: str) -> bool:
    """Forget one memory; see `MemoryMethods.adelete_memory`."""
    ids, user = [memory_id_text(memory_id)], await _user(session)
    for name in _reached(user):
        if await session.client.memory.remove(_place(session, name, user), ids, user_id=session.user_id):
            return True
    return False


async def clear(session: Remembering, memory_type: str | None, scope: ScopeName | None) -> int:
    """Forget a scope's memories; see `MemoryMethods.aclear_memory`."""
    kinds, user, store = memory_kinds(memory_type), await _user(session), session.client.memory
    place = _place(session, _chosen(session, user, scope), user)
    if kinds == KINDS:
        return await store.clear(place, user_id=session.user_id)
    found = await store.read(place, await store.ids(place))
    ids = [memory_id for memory_id, stored in found.items() if stored.memory.kind in kinds]
    return await store.remove(place, ids, user_id=session.user_id)


async def get(session: Remembering, memory_id: str) -> dict[str, Any] | None:
    """One memory; see `MemoryMethods.aget_memory`."""
    wanted, user = memory_id_text(memory_id), await _user(session)
    for name in _reached(user):
        if (memory := await session.client.memory.get(_place(session, name, user), wanted)) is not None:
            return _shown(memory, name)
    return None


async def list_page(
    session: Remembering, limit: int, memory_type: str | None, scope: ScopeName | None, cursor: str | None
) -> MemoryPage:
    """A page of a scope's memories; see `MemoryMethods.alist_memory`."""
    limit, kinds, user = results_limit(limit), memory_kinds(memory_type), await _user(session)
    name, store = _chosen(session, user, scope), session.client.memory
    place = _place(session, name, user)
    ids = [memory_id for memory_id in await store.ids(place) if cursor is None or memory_id < cursor]
    page: list[Memory] = []
    for start in range(0, len(ids), _READ_AT_ONCE):
        found = await store.read(place, ids[start : start + _READ_AT_ONCE])
        page += [stored.memory for stored in found.values() if stored.memory.kind in kinds]
        if len(page) > limit:  # more than asked for: there is a next page
            break
    shown = [_shown(memory, name) for memory in page[:limit]]
    return MemoryPage(shown, page[limit - 1].id if len(page) > limit else None)


async def search(
    session: Remembering,
    query: str,
    memory_type: str | None,
    limit: int,
    filters: Mapping[str, Any] | None,
    scope: ScopeName | None,
    min_score: float | None,
    timeout: float | None,
) -> list[dict[str, Any]]:
    """Find memories; see `MemoryMethods.asearch_memory`."""
    text, limit, kinds = memory_query(query), results_limit(limit), memory_kinds(memory_type)
    wanted, least = json_dict("filters", filters), score_bound(min_score)
    user = await _user(session)
    scopes = _reached(user) if scope is None else (_chosen(session, user, scope),)
    request = SearchMemory(
        query=text, limit=limit, types=kinds, filters=wanted, scopes=scopes, user=user, min_score=least
    )
    found = await session.client.retrieve(session.keys, request, timeout=timeout)
    return [_dated(memory) for memory in found]


async def _user(session: Remembering) -> str | None:
    """Whose memories the session reaches beside its own: without a user named, those of whoever owns it.

    Raises:
        SessionOwnerError: it belongs to another user than the one named.
    """
    return await session.client.owner_for(session.keys, session.user_id)


def _reached(user: str | None) -> tuple[ScopeName, ...]:
    return ("session",) if user is None else ("user", "session")


def _chosen(session: Remembering, user: str | None, scope: object) -> ScopeName:
    match scope:
        case None:
            return "session" if user is None else "user"
        case "session":
            return "session"
        case "user" if user is None:
            raise BadRequest(f"session {session.keys.session_id!r} has no user whose memory it could be: give user_id=")
        case "user":
            return "user"
        case _:
            raise BadRequest(f"scope {scope!r}: use 'user', 'session', or None for the user's where there is one")


def _place(session: Remembering, name: ScopeName, user: str | None) -> MemoryScope:
    if name == "session" or user is None:
        return session_scope(session.keys)
    return wide_scope(session.keys.tenant, user, session.client.settings.partitions)


def _shown(memory: Memory, scope: ScopeName) -> dict[str, Any]:
    return _dated(memory.shown(scope))


def _dated(shown: Mapping[str, Any]) -> dict[str, Any]:
    """A memory as it crosses the wire, with its time as a datetime."""
    told = dict(shown)
    told["created_at"] = datetime.fromtimestamp(told.pop("created_ms") / 1000, UTC)
    return told
