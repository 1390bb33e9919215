"""What the methods of `KnowledgeMethods` do, as coroutines for the portal's loop."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from typing import Any, Final, Protocol

from sessions.api.operation import Operation
from sessions.client.arguments.documents import Source, read_source
from sessions.client.arguments.retrieval import KnowledgeConfig, base_name
from sessions.client.arguments.values import json_object, seconds, short_text, webhook_url
from sessions.client.fleet_client import FleetClient
from sessions.client.scopes import lane_of, outlived, session_name, user_name
from sessions.errors import BadRequest, CorruptRecord, InvalidTurnId
from sessions.protocol.knowledge_requests import AddKnowledge, RemoveKnowledge, SearchKnowledge
from sessions.protocol.text import encodes
from sessions.store.keys import SessionKeys, new_turn_part, split_turn_id
from sessions.store.scripts import translated
from sessions.store.state import session_scope

_UPLOAD_SLACK: Final = 60.0
_MOST_FOUND: Final = 100


class Knowing(Protocol):
    """What of a session knowledge needs."""

    session_id: str
    user_id: str | None
    ttl: float | None
    queue: str
    keys: SessionKeys
    knowledge: KnowledgeConfig

    @property
    def client(self) -> FleetClient:
        """The client of this process."""
        ...


# --- whose ----------------------------------------------------------------------------------------------


async def _scope(session: Knowing, scope: str | None) -> str:
    """The scope that is meant, as it is named on the wire; the session must be the caller's."""
    config = session.knowledge
    owner = await session.client.owner_for(session.keys, session.user_id)
    if scope is None:
        scope = config.bases[0] if config.bases else config.scope
    if scope == "session":
        return session_name(session.session_id)
    if scope == "user":
        if owner is None:
            raise BadRequest(f"session {session.session_id!r} has no user: open it with user_id= for scope='user'")
        return user_name(owner)
    return f"base:{base_name(scope)}"


async def _scopes(session: Knowing, scope: str | None) -> tuple[str, ...]:
    """Where a search looks."""
    if scope is not None:
        return (await _scope(session, scope),)
    owner = await session.client.owner_for(session.keys, session.user_id)
    users = () if owner is None else (user_name(owner),)
    return (session_name(session.session_id), *users, *(f"base:{name}" for name in session.knowledge.bases))


def _lane(session: Knowing, scope: str) -> SessionKeys:
    return lane_of(session.keys.tenant, scope, session.client.settings.partitions)


# --- what is asked --------------------------------------------------------------------------------------


async def submit(
    session: Knowing,
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
    client = session.client
    source = read_source(given, name, client.settings.document_limit_bytes, client.ring.digest)
    patience = client.settings.ingest_timeout if timeout is None else seconds("timeout", timeout)
    whose = await _scope(session, scope)
    request = AddKnowledge(
        scope=whose,
        collection=session.knowledge.collection,
        source=source.name,
        origin=source.origin,
        text=source.text,
        url=source.url,
        content_type=content_type,
        metadata=json_object("metadata", metadata),
    )
    told = "" if webhook is None else webhook_url(webhook)
    await client.open()
    if told:
        await client.refuse_webhook(told, session.queue if whose == session_name(session.session_id) else "turns")
    if whose == session_name(session.session_id):  # it is made by its first document, as by its first turn
        await client.state.write(session_scope(session.keys), [], user_id=session.user_id, ttl=session.ttl)
    lane, part = _lane(session, whose), new_turn_part()
    await _upload(client, lane, part, source, patience)
    key = None if idempotency_key is None else short_text("idempotency_key", idempotency_key)
    if key and source.data:  # else the same key with another file of this name would be taken for a repeat
        request = request.model_copy(update={"digest": await asyncio.to_thread(client.ring.digest, source.data)})
    accepted = await client.operate(lane, request, timeout=patience, part=part, idempotency_key=key, webhook=told)
    return Operation(client, lane, accepted)


async def _upload(client: FleetClient, lane: SessionKeys, part: str, source: Source, patience: float) -> None:
    if source.origin == "upload":
        await client.refuse_when_full()
        key = lane.upload(part)
        sealed = await asyncio.to_thread(client.ring.seal, key, "", source.data)  # 32 MiB take 0.15 s
        with translated():
            await client.store.set(key, sealed, px=int((patience + _UPLOAD_SLACK) * 1000))


async def operation_of(session: Knowing, operation_id: str) -> Operation:
    """An operation by its id; see `KnowledgeMethods.aoperation`."""
    lane_id, part = split_turn_id(operation_id)
    for scope in await _scopes(session, None):
        lane = _lane(session, scope)
        if lane.session_id == lane_id:
            return Operation(session.client, lane, part)
    raise InvalidTurnId(f"operation {operation_id!r} is of no scope that session {session.session_id!r} is attached to")


async def search(
    session: Knowing,
    query: str,
    limit: int,
    filters: Mapping[str, Any] | None,
    sources: Sequence[str] | None,
    scope: str | None,
    timeout: float | None,
) -> list[dict[str, Any]]:
    """Find passages; see `KnowledgeMethods.asearch_knowledge`."""
    if not isinstance(query, str) or not query.strip():
        raise BadRequest(f"query {query!r}: give a text that is not empty")
    if not isinstance(limit, int) or not 1 <= limit <= _MOST_FOUND:
        raise BadRequest(f"limit {limit!r}: give a number from 1 to {_MOST_FOUND}")
    request = SearchKnowledge(
        query=query,
        scopes=await _scopes(session, scope),
        collection=session.knowledge.collection,
        limit=limit,
        sources=None if sources is None else _names(sources),
        filters=json_object("filters", filters),
    )
    found: list[dict[str, Any]] = await session.client.retrieve(session.keys, request, timeout=timeout)
    return found


async def list_sources(session: Knowing, scope: str | None) -> list[dict[str, Any]]:
    """List the documents of a scope; see `KnowledgeMethods.alist_knowledge`."""
    lane = _lane(session, await _scope(session, scope))
    if await outlived(session.client.store, lane):
        return []
    with translated():
        raw = await session.client.store.hgetall(lane.sources)
    stored = {field.decode(): value for field, value in raw.items() if not field.startswith(b"#")}
    opened = [session.client.ring.open(lane.sources, field, value) for field, value in stored.items()]
    try:
        entries = [json.loads(value) for value in opened]
        return sorted(entries, key=lambda entry: str(entry["source"]))
    except (ValueError, KeyError, TypeError) as error:
        raise CorruptRecord(f"the list of knowledge {lane.session_id!r} cannot be read: {error!r}") from error


async def remove(session: Knowing, source: str, scope: str | None) -> int:
    """Remove one document; see `KnowledgeMethods.adelete_knowledge`."""
    whose = await _scope(session, scope)
    lane, client = _lane(session, whose), session.client
    await client.open()
    with translated():
        if not await client.store.exists(lane.meta):
            return 0  # nothing was ever added: no worker is needed to say so
    request, patience = RemoveKnowledge(scope=whose, source=source), client.settings.retrieval_timeout
    part = await client.operate(lane, request, timeout=patience, part=new_turn_part(), idempotency_key=None)
    removed: dict[str, int] = await Operation(client, lane, part).aresult(patience)
    return removed["chunks"]


async def clear(session: Knowing, scope: str | None) -> int:
    """Remove all documents of a scope; see `KnowledgeMethods.aclear_knowledge`."""
    whose = await _scope(session, scope)
    return (await session.client.forget_documents(_lane(session, whose), whose))["chunks"]


def _names(sources: Sequence[str]) -> tuple[str, ...]:
    if isinstance(sources, str) or not all(isinstance(name, str) and encodes(name) for name in sources):
        raise BadRequest(f"sources {sources!r}: give a list of the names of documents")
    return tuple(sources)
