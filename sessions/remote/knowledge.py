"""What `KnowledgeMethods` stands on, by a gateway: files are read here, and their bytes uploaded."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from broker_config.settings import Settings
from sessions.api.operation import Operation
from sessions.client.arguments.documents import Source, read_source
from sessions.client.arguments.values import json_object, seconds, short_text, webhook_url
from sessions.errors import BadRequest, InvalidTurnId
from sessions.remote.address import segment
from sessions.remote.wire import COLLECTION, only_given, reading
from sessions.store.keys import split_turn_id

if TYPE_CHECKING:
    from sessions.remote.backend import RemoteSession


async def submit(
    session: RemoteSession,
    given: object,
    *,
    name: str | None = None,
    metadata: Mapping[str, Any] | None = None,
    scope: str | None = None,
    content_type: str | None = None,
    timeout: float | None = None,
    idempotency_key: str | None = None,
    webhook: str | None = None,
) -> Operation:
    """Have one document accepted; see `KnowledgeMethods.asubmit_knowledge`."""
    source = read_source(given, name, _largest())
    fields = only_given(
        name=source.name,
        metadata=json_object("metadata", metadata) or None,
        scope=_scope(session, scope),
        content_type=content_type,
        webhook=None if webhook is None else webhook_url(webhook),
    )
    if timeout is not None:
        seconds("timeout", timeout)  # of the waiting; how long an operation may take, the gateway's settings say
    _own_collection(session)
    key = None if idempotency_key is None else short_text("idempotency_key", idempotency_key)
    return _operation(session, await session.client.api("POST", "/knowledge", key=key, **_body(source, fields)))


def _body(source: Source, fields: dict[str, Any]) -> dict[str, Any]:
    if source.origin != "upload":
        return {"json": {**fields, source.origin: source.url or source.text}}
    kind = fields.pop("content_type", None) or "application/octet-stream"
    texts = {name: value if isinstance(value, str) else json.dumps(value) for name, value in fields.items()}
    return {"data": texts, "files": {"file": (source.name, source.data, kind)}}


async def operation_of(session: RemoteSession, operation_id: str) -> Operation:
    """An operation by its id; see `KnowledgeMethods.aoperation`."""
    split_turn_id(operation_id)
    told = await session.client.api_or_none("GET", f"/operations/{segment(operation_id)}")
    if told is None:
        raise InvalidTurnId(
            f"operation {operation_id!r} is of no scope that session {session.session_id!r} is attached to"
        )
    return _operation(session, told)


async def search(
    session: RemoteSession,
    query: str,
    limit: int,
    filters: Mapping[str, Any] | None,
    sources: Sequence[str] | None,
    scope: str | None,
    timeout: float | None,
) -> list[dict[str, Any]]:
    """Find passages; see `KnowledgeMethods.asearch_knowledge`."""
    config = session.knowledge
    body = only_given(
        query=query,
        limit=limit,
        filters=json_object("filters", filters) or None,
        sources=None if sources is None else list(sources),
        scope=scope,
        bases=list(config.bases) or None,
    )
    _own_collection(session)
    told = await session.client.api("POST", "/knowledge/search", json=body, within=timeout)
    with reading("passages"):
        return list(told["passages"])


async def list_sources(session: RemoteSession, scope: str | None) -> list[dict[str, Any]]:
    """List the documents of a scope; see `KnowledgeMethods.alist_knowledge`."""
    told = await session.client.api("GET", "/knowledge", params=only_given(scope=_scope(session, scope)))
    with reading("documents"):
        return list(told["documents"])


async def remove(session: RemoteSession, source: str, scope: str | None) -> int:
    """Remove one document; see `KnowledgeMethods.adelete_knowledge`."""
    path = f"/knowledge/{segment(source)}"
    told = await session.client.api_or_none("DELETE", path, params=only_given(scope=_scope(session, scope)))
    return 0 if told is None else int(told["chunks"])


async def clear(session: RemoteSession, scope: str | None) -> int:
    """Remove all documents of a scope; see `KnowledgeMethods.aclear_knowledge`."""
    told = await session.client.api("DELETE", "/knowledge", params=only_given(scope=_scope(session, scope)))
    with reading("receipt"):
        return int(told["chunks"])


def _operation(session: RemoteSession, resource: Mapping[str, Any]) -> Operation:
    with reading("operation"):
        lane, part = split_turn_id(resource["id"])
    return Operation(session.client, session.client.keys(lane), part)


def _scope(session: RemoteSession, scope: str | None) -> str | None:
    """The scope that is meant; None for the gateway's default, which is the session's own."""
    config = session.knowledge
    if scope is not None:
        return scope
    return config.bases[0] if config.bases else None if config.scope == "session" else config.scope


def _own_collection(session: RemoteSession) -> None:
    if session.knowledge.collection is not None:
        raise BadRequest(f"{COLLECTION}: leave the vector_store out")


def _largest() -> int:
    """Bytes; larger files are not read. The gateway may take less."""
    limit: int = Settings.model_fields["document_limit_bytes"].default
    return limit
