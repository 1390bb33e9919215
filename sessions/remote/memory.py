"""What `MemoryMethods` stands on, by a gateway."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any

from sessions.client.arguments.memory import json_dict, memory_id_text, memory_kind, memory_query, memory_text
from sessions.client.ports import MemoryPage
from sessions.protocol.memory_requests import ScopeName
from sessions.remote.address import segment
from sessions.remote.wire import only_given, reading

if TYPE_CHECKING:
    from sessions.remote.backend import RemoteSession

_ALL_KINDS = (None, "all")


async def add(
    session: RemoteSession,
    text: str,
    memory_type: str,
    metadata: Mapping[str, Any] | None,
    more: Mapping[str, Any],
    scope: ScopeName | None,
) -> str:
    """Remember a text; see `MemoryMethods.aadd_memory`."""
    body = {
        "text": memory_text(text, None),
        "type": memory_kind(memory_type),
        "metadata": json_dict("metadata", {**json_dict("metadata", metadata), **more}),
        **only_given(scope=scope),
    }
    told = await session.client.api("POST", "/memory", json=body, repeatable=False)
    with reading("memory"):
        return str(told["id"])


async def delete(session: RemoteSession, memory_id: str) -> bool:
    """Forget one memory; see `MemoryMethods.adelete_memory`."""
    return await session.client.api_if_there("DELETE", _path(memory_id))


async def clear(session: RemoteSession, memory_type: str | None, scope: ScopeName | None) -> int:
    """Forget a scope's memories; see `MemoryMethods.aclear_memory`."""
    told = await session.client.api("DELETE", "/memory", params=only_given(type=_kind(memory_type), scope=scope))
    with reading("receipt"):
        return int(told["deleted"])


async def get(session: RemoteSession, memory_id: str) -> dict[str, Any] | None:
    """One memory; see `MemoryMethods.aget_memory`."""
    found = await session.client.api_or_none("GET", _path(memory_id))
    return None if found is None else _dated([found])[0]


async def list_page(
    session: RemoteSession, limit: int, memory_type: str | None, scope: ScopeName | None, cursor: str | None
) -> MemoryPage:
    """A page of a scope's memories; see `MemoryMethods.alist_memory`."""
    wanted = {"limit": limit, **only_given(type=_kind(memory_type), scope=scope, cursor=cursor)}
    told = await session.client.api("GET", "/memory", params=wanted)
    with reading("memories"):
        return MemoryPage(_dated(told["memories"]), told["cursor"])


async def search(
    session: RemoteSession,
    query: str,
    memory_type: str | None,
    limit: int,
    filters: Mapping[str, Any] | None,
    scope: ScopeName | None,
    min_score: float | None,
    timeout: float | None,
) -> list[dict[str, Any]]:
    """Find memories; see `MemoryMethods.asearch_memory`."""
    wanted = json_dict("filters", filters) or None
    body = {
        "query": memory_query(query),
        "limit": limit,
        **only_given(type=_kind(memory_type), filters=wanted, scope=scope, min_score=min_score),
    }
    told = await session.client.api("POST", "/memory/search", json=body, within=timeout)
    with reading("memories"):
        return _dated(told["memories"])


def _path(memory_id: str) -> str:
    return f"/memory/{segment(memory_id_text(memory_id))}"


def _kind(memory_type: str | None) -> str | None:
    """None for all kinds."""
    return None if memory_type in _ALL_KINDS else memory_kind(memory_type)


def _dated(memories: list[dict[str, Any]]) -> list[dict[str, Any]]:
    with reading("memories"):
        return [{**memory, "created_at": datetime.fromisoformat(memory["created_at"])} for memory in memories]
