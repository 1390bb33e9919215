"""Documents at a gateway. Files are read here, and their bytes uploaded."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from broker_config.settings import Settings
from sessions.client.arguments.documents import Source, read_source
from sessions.client.arguments.knowledge import KnowledgeQuery, NewDocument
from sessions.client.backend import AcceptedOperation
from sessions.client.ports import SessionRef
from sessions.errors import BadRequest, InvalidTurnId
from sessions.remote.address import segment
from sessions.remote.client import RemoteClient
from sessions.remote.wire import COLLECTION, parsing, without_none
from sessions.store.keys import split_turn_id


class RemoteKnowledge:
    """`KnowledgeCalls` over a gateway's REST API."""

    def __init__(self, client: Callable[[SessionRef], RemoteClient]) -> None:
        self._client = client

    async def submit(self, session: SessionRef, document: NewDocument) -> AcceptedOperation:
        """Submit one document; see `KnowledgeMethods.asubmit_knowledge`.

        `timeout` only limits the wait for its end; the gateway's settings limit the operation itself.
        """
        source = read_source(document.source, document.name, _largest())
        fields = without_none(
            name=source.name,
            metadata=document.metadata or None,
            scope=_scope(session, document.scope),
            content_type=document.content_type,
            charset=document.charset,
            webhook=document.webhook or None,
        )
        _refuse_own_collection(session)
        client, key = self._client(session), document.idempotency_key
        return _operation(client, await client.api("POST", "/knowledge", key=key, **_body(source, fields)))

    async def operation_of(self, session: SessionRef, operation_id: str) -> AcceptedOperation:
        """An operation by its id; see `KnowledgeMethods.aoperation`."""
        split_turn_id(operation_id)
        answer = await self._client(session).api_or_none("GET", f"/operations/{segment(operation_id)}")
        if answer is None:
            raise InvalidTurnId(
                f"operation {operation_id!r} is not in one of the scopes of session {session.session_id!r}"
            )
        return _operation(self._client(session), answer)

    async def search(self, session: SessionRef, query: KnowledgeQuery) -> list[dict[str, Any]]:
        """Find passages; see `KnowledgeMethods.asearch_knowledge`."""
        body = without_none(
            query=query.query,
            limit=query.limit,
            filters=query.filters or None,
            sources=None if query.sources is None else list(query.sources),
            scope=query.scope,
            min_score=query.min_score,
            bases=list(session.knowledge.bases) or None,
        )
        _refuse_own_collection(session)
        found = await self._client(session).api("POST", "/knowledge/search", json=body, within=query.timeout)
        with parsing("passages"):
            return list(found["passages"])

    async def list_sources(self, session: SessionRef, scope: str | None) -> list[dict[str, Any]]:
        """List the documents of a scope; see `KnowledgeMethods.alist_knowledge`."""
        answer = await self._client(session).api("GET", "/knowledge", params=without_none(scope=_scope(session, scope)))
        with parsing("documents"):
            return list(answer["documents"])

    async def remove(self, session: SessionRef, source: str, scope: str | None) -> int:
        """Remove one document; see `KnowledgeMethods.adelete_knowledge`."""
        path = f"/knowledge/{segment(source)}"
        answer = await self._client(session).api_or_none(
            "DELETE", path, params=without_none(scope=_scope(session, scope))
        )
        return 0 if answer is None else int(answer["chunks"])

    async def clear(self, session: SessionRef, scope: str | None) -> int:
        """Remove all documents of a scope; see `KnowledgeMethods.aclear_knowledge`."""
        answer = await self._client(session).api(
            "DELETE", "/knowledge", params=without_none(scope=_scope(session, scope))
        )
        with parsing("receipt"):
            return int(answer["chunks"])


def _body(source: Source, fields: dict[str, Any]) -> dict[str, Any]:
    if source.origin != "upload":
        return {"json": {**fields, source.origin: source.url or source.text}}
    kind = fields.pop("content_type", None) or "application/octet-stream"
    form = {name: value if isinstance(value, str) else json.dumps(value) for name, value in fields.items()}
    return {"data": form, "files": {"file": (source.name, source.data, kind)}}


def _operation(client: RemoteClient, resource: Mapping[str, Any]) -> AcceptedOperation:
    with parsing("operation"):
        lane, part = split_turn_id(resource["id"])
    return AcceptedOperation(client.keys(lane), part)


def _scope(session: SessionRef, scope: str | None) -> str | None:
    """The scope that an argument selects; None for the gateway's default, the session's own."""
    config = session.knowledge
    if scope is not None:
        return scope
    return config.bases[0] if config.bases else None if config.scope == "session" else config.scope


def _refuse_own_collection(session: SessionRef) -> None:
    if session.knowledge.collection is not None:
        raise BadRequest(f"{COLLECTION}: remove the vector_store")


def _largest() -> int:
    """The size above which files are not read, in bytes. The gateway's own limit may be lower."""
    limit: int = Settings.model_fields["document_limit_bytes"].default
    return limit
