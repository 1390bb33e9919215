"""Documents: added and searched by the retrieval workers, and listed in the fleet's store."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any, Final

from sessions.client.arguments.documents import Source, read_source
from sessions.client.arguments.knowledge import KnowledgeQuery, NewDocument
from sessions.client.arguments.retrieval import base_name
from sessions.client.backend import AcceptedOperation
from sessions.client.fleet_client import FleetClient
from sessions.client.ports import SessionRef
from sessions.client.scopes import lane_of, orphaned, session_name, user_name
from sessions.errors import BadRequest, CorruptRecord, InvalidTurnId
from sessions.protocol.access import Access
from sessions.protocol.knowledge_requests import AddKnowledge, RemoveKnowledge, SearchKnowledge
from sessions.store.keys import SessionKeys, new_turn_part, split_turn_id
from sessions.store.scripts import translated
from sessions.store.state import session_scope

_UPLOAD_SLACK: Final = 60.0


class LocalKnowledge:
    """`KnowledgeCalls` over the fleet's store and its retrieval workers."""

    def __init__(self, fleet: Callable[[], FleetClient]) -> None:
        self._fleet = fleet

    async def submit(self, session: SessionRef, document: NewDocument) -> AcceptedOperation:
        """Submit one document; see `KnowledgeMethods.asubmit_knowledge`."""
        fleet = self._fleet()
        limit, digest = fleet.settings.document_limit_bytes, fleet.keyring.digest
        source = read_source(document.source, document.name, limit, digest)
        scope = await _scope(fleet, session, document.scope, "write")
        of_session = scope == session_name(session.session_id)
        await fleet.open()
        if document.webhook:
            await fleet.admission.refuse_webhook(document.webhook, session.queue if of_session else "turns")
        if of_session:  # a session's first document creates it, as its first turn does
            await fleet.stores.state.write(session_scope(session.keys), [], user_id=session.user_id, ttl=session.ttl)
        request = AddKnowledge(
            scope=scope,
            collection=session.knowledge.collection,
            source=source.name,
            origin=source.origin,
            text=source.text,
            url=source.url,
            content_type=document.content_type,
            charset=document.charset,
            metadata=document.metadata,
        )
        if document.idempotency_key and source.data:  # another file of the same name is a different request
            request = request.model_copy(update={"digest": await asyncio.to_thread(digest, source.data)})
        lane, part = _lane(fleet, session, scope), new_turn_part()
        timeout = fleet.settings.ingest_timeout if document.timeout is None else document.timeout
        await _upload(fleet, lane, part, source, timeout)
        accepted = await fleet.retrieval.submit(
            lane,
            request,
            timeout=timeout,
            part=part,
            idempotency_key=document.idempotency_key,
            webhook=document.webhook,
        )
        return AcceptedOperation(lane, accepted)

    async def operation_of(self, session: SessionRef, operation_id: str) -> AcceptedOperation:
        """An operation by its id; see `KnowledgeMethods.aoperation`."""
        fleet = self._fleet()
        lane_id, part = split_turn_id(operation_id)
        for scope in await _scopes(fleet, session, None):
            lane = _lane(fleet, session, scope)
            if lane.session_id == lane_id:
                return AcceptedOperation(lane, part)
        raise InvalidTurnId(f"operation {operation_id!r} is not in one of the scopes of session {session.session_id!r}")

    async def search(self, session: SessionRef, query: KnowledgeQuery) -> list[dict[str, Any]]:
        """Find passages; see `KnowledgeMethods.asearch_knowledge`."""
        fleet = self._fleet()
        request = SearchKnowledge(
            query=query.query,
            scopes=await _scopes(fleet, session, query.scope),
            collection=session.knowledge.collection,
            limit=query.limit,
            sources=query.sources,
            filters=query.filters,
            min_score=query.min_score,
        )
        found: list[dict[str, Any]] = await fleet.retrieval.search(session.keys, request, timeout=query.timeout)
        return found

    async def list_sources(self, session: SessionRef, scope: str | None) -> list[dict[str, Any]]:
        """List the documents of a scope; see `KnowledgeMethods.alist_knowledge`."""
        fleet = self._fleet()
        lane = _lane(fleet, session, await _scope(fleet, session, scope))
        redis = fleet.stores.redis
        if await orphaned(redis, lane):
            return []
        with translated():
            raw = await redis.hgetall(lane.sources)
        stored = {field.decode(): value for field, value in raw.items() if not field.startswith(b"#")}
        opened = [fleet.keyring.open(lane.sources, field, value) for field, value in stored.items()]
        try:
            entries = [json.loads(value) for value in opened]
            return sorted(entries, key=lambda entry: str(entry["source"]))
        except (ValueError, KeyError, TypeError) as error:
            raise CorruptRecord(f"the list of knowledge {lane.session_id!r} cannot be read: {error!r}") from error

    async def remove(self, session: SessionRef, source: str, scope: str | None) -> int:
        """Remove one document; see `KnowledgeMethods.adelete_knowledge`."""
        fleet = self._fleet()
        scope_name = await _scope(fleet, session, scope, "write")
        lane = _lane(fleet, session, scope_name)
        if not await fleet.retrieval.has_documents(lane):
            return 0
        request = RemoveKnowledge(scope=scope_name, source=source)
        removed: dict[str, int] = await fleet.retrieval.run(lane, request, fleet.settings.retrieval_timeout)
        return removed["chunks"]

    async def clear(self, session: SessionRef, scope: str | None) -> int:
        """Remove all documents of a scope; see `KnowledgeMethods.aclear_knowledge`."""
        fleet = self._fleet()
        scope_name = await _scope(fleet, session, scope, "write")
        return (await fleet.retrieval.forget_documents(_lane(fleet, session, scope_name), scope_name))["chunks"]


async def _scope(fleet: FleetClient, session: SessionRef, scope: str | None, access: Access = "read") -> str:
    """The wire name of a scope argument. Connects first, and checks that the caller may use the session."""
    config = session.knowledge
    owner = await fleet.ownership.owner_for(session.keys, session.user_id, access)
    if scope is None:
        scope = config.bases[0] if config.bases else config.scope
    if scope == "session":
        return session_name(session.session_id)
    if scope == "user":
        if owner is None:
            raise BadRequest(f"session {session.session_id!r} has no user: open it with user_id= to use scope='user'")
        return user_name(owner)
    return f"base:{base_name(scope)}"


async def _scopes(fleet: FleetClient, session: SessionRef, scope: str | None) -> tuple[str, ...]:
    """The scopes that a search covers, by their wire names."""
    if scope is not None:
        return (await _scope(fleet, session, scope),)
    owner = await fleet.ownership.owner_for(session.keys, session.user_id)
    users = () if owner is None else (user_name(owner),)
    return (session_name(session.session_id), *users, *(f"base:{name}" for name in session.knowledge.bases))


def _lane(fleet: FleetClient, session: SessionRef, scope: str) -> SessionKeys:
    return lane_of(session.keys.tenant, scope, fleet.settings.partitions)


async def _upload(fleet: FleetClient, lane: SessionKeys, part: str, source: Source, timeout: float) -> None:
    """Store a file's bytes under the id of the operation that will read them."""
    if source.origin == "upload":
        await fleet.admission.refuse_when_full()
        key = lane.upload(part)
        encrypted = await asyncio.to_thread(fleet.keyring.seal, key, "", source.data)  # in a thread: 32 MiB take 0.15 s
        with translated():
            await fleet.stores.redis.set(key, encrypted, px=int((timeout + _UPLOAD_SLACK) * 1000))
