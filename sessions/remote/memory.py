"""Memories at a gateway."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any

from sessions.client.arguments.memory import (
    MemoryListing,
    MemoryQuery,
    MemoryUpdate,
    NewMemory,
    memory_id_text,
    memory_kinds,
)
from sessions.client.backend import MemoryPage
from sessions.client.ports import SessionRef
from sessions.protocol.memory_requests import ScopeName
from sessions.remote.address import segment
from sessions.remote.client import RemoteClient
from sessions.remote.wire import parsing, without_none
from sessions.store.memory_record import KINDS, MemoryKind


class RemoteMemory:
    """`MemoryCalls` over a gateway's REST API."""

    def __init__(self, client: Callable[[SessionRef], RemoteClient]) -> None:
        self._client = client

    async def add(self, session: SessionRef, memory: NewMemory) -> str:
        """Add a memory; see `MemoryMethods.aadd_memory`. The gateway's settings limit its length."""
        body = {
            "text": memory.text,
            "type": memory.kind,
            "metadata": memory.metadata,
            **without_none(scope=memory.scope),
        }
        stored = await self._client(session).api("POST", "/memory", json=body, repeatable=False)
        with parsing("memory"):
            return str(stored["id"])

    async def update(self, session: SessionRef, update: MemoryUpdate) -> dict[str, Any] | None:
        """Change one memory; see `MemoryMethods.aupdate_memory`."""
        body = without_none(text=update.text, type=update.kind, metadata=update.metadata, version=update.version)
        # With a version, a repeat of a request that did arrive would be refused.
        repeatable = update.version is None
        path = _path(update.memory_id)
        found = await self._client(session).api_or_none("PATCH", path, json=body, repeatable=repeatable)
        return None if found is None else _dated([found])[0]

    async def delete(self, session: SessionRef, memory_id: str) -> bool:
        """Delete one memory; see `MemoryMethods.adelete_memory`."""
        return await self._client(session).api_found("DELETE", _path(memory_id))

    async def clear(self, session: SessionRef, memory_type: str | None, scope: ScopeName | None) -> int:
        """Delete a scope's memories; see `MemoryMethods.aclear_memory`."""
        selected = without_none(type=_kind(memory_kinds(memory_type)), scope=scope)
        receipt = await self._client(session).api("DELETE", "/memory", params=selected)
        with parsing("receipt"):
            return int(receipt["deleted"])

    async def get(self, session: SessionRef, memory_id: str) -> dict[str, Any] | None:
        """One memory; see `MemoryMethods.aget_memory`."""
        found = await self._client(session).api_or_none("GET", _path(memory_id))
        return None if found is None else _dated([found])[0]

    async def list_page(self, session: SessionRef, listing: MemoryListing) -> MemoryPage:
        """A page of a scope's memories; see `MemoryMethods.alist_memory`."""
        selected = without_none(type=_kind(listing.kinds), scope=listing.scope, cursor=listing.cursor)
        page = await self._client(session).api("GET", "/memory", params={"limit": listing.limit, **selected})
        with parsing("memories"):
            return MemoryPage(_dated(page["memories"]), page["cursor"])

    async def search(self, session: SessionRef, query: MemoryQuery) -> list[dict[str, Any]]:
        """Find memories; see `MemoryMethods.asearch_memory`."""
        selected = without_none(
            type=_kind(query.kinds), filters=query.filters or None, scope=query.scope, min_score=query.min_score
        )
        body = {"query": query.query, "limit": query.limit, **selected}
        found = await self._client(session).api("POST", "/memory/search", json=body, within=query.timeout)
        with parsing("memories"):
            return _dated(found["memories"])


def _path(memory_id: str) -> str:
    return f"/memory/{segment(memory_id_text(memory_id))}"


def _kind(kinds: tuple[MemoryKind, ...]) -> MemoryKind | None:
    """None for all kinds."""
    return None if kinds == KINDS else kinds[0]


def _dated(memories: list[dict[str, Any]]) -> list[dict[str, Any]]:
    with parsing("memories"):
        return [_with_datetimes(memory) for memory in memories]


def _with_datetimes(memory: dict[str, Any]) -> dict[str, Any]:
    created = datetime.fromisoformat(memory["created_at"])
    updated = datetime.fromisoformat(memory.get("updated_at", memory["created_at"]))  # older gateways do not say
    return {"version": 1, **memory, "created_at": created, "updated_at": updated}
