"""Exports and imports over the fleet's store: a session read as records, and created from records in one step."""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Iterator
from dataclasses import asdict
from typing import Final

import uuid_utils

from sessions.client.arguments.knowledge import NewDocument
from sessions.client.backend import Imported, NewSession
from sessions.client.fleet_client import FleetClient
from sessions.client.operations import operation_result
from sessions.client.ports import SessionRef
from sessions.client.scopes import session_name
from sessions.errors import CorruptRecord, NotFound, SessionExists
from sessions.local.knowledge import LocalKnowledge
from sessions.local.staging import Staging
from sessions.protocol.knowledge_requests import ReadKnowledge
from sessions.store.keys import SessionKeys
from sessions.store.session_info import SessionInfo
from sessions.store.state import session_scope
from sessions.transfer.records import (
    AgentRecord,
    CheckpointRecord,
    DocumentRecord,
    End,
    FilePiece,
    FileRecord,
    MemoryRecord,
    PassageRecord,
    PastTurn,
    Record,
    SessionHeader,
    StateRecord,
)
from sessions.transfer.texts import text_of

_TURNS_AT_ONCE: Final = 50
_MEMORIES_AT_ONCE: Final = 200
_READ_AT_ONCE: Final = 200


class LocalTransfer:
    """`TransferCalls` over the fleet's store."""

    def __init__(self, fleet: Callable[[], FleetClient], knowledge: LocalKnowledge) -> None:
        self._fleet = fleet
        self._knowledge = knowledge

    # --- export -----------------------------------------------------------------------------------------

    async def records(self, session: SessionRef) -> AsyncGenerator[Record]:
        """The session as records; see `TransferMethods.aexport`."""
        fleet = self._fleet()
        await fleet.ownership.check(session.keys, session.user_id, "own")
        info = await fleet.stores.records.info(session.keys)
        if info is None:
            raise await fleet.stores.records.missing(session.keys)
        counts: Counter[str] = Counter()
        async for record in self._all(fleet, session, info):
            if not isinstance(record, FilePiece):
                counts[record.type] += 1
            yield record
        yield End(counts=dict(counts))

    async def _all(self, fleet: FleetClient, session: SessionRef, info: SessionInfo) -> AsyncGenerator[Record]:
        keys, stores = session.keys, fleet.stores
        turns = await stores.history.length(keys, None)
        yield _header(info, turns, await _ttl(fleet, keys))
        for name, config in sorted((await stores.records.agent_configs(keys)).items()):
            yield AgentRecord(name=name, config=config)
        for name, value in sorted((await stores.state.read(session_scope(keys))).items()):
            yield StateRecord(name=name, value=value)
        for number in await stores.records.checkpoints(keys):
            yield await _checkpoint(fleet, keys, number)
        async for memory in _memories(fleet, keys):
            yield memory
        async for file in _files(fleet, keys):
            yield file
        async for turn in _turns(fleet, keys, turns):
            yield turn
        async for document in self._documents(fleet, session):
            yield document

    async def _documents(self, fleet: FleetClient, session: SessionRef) -> AsyncGenerator[Record]:
        for entry in await self._knowledge.list_sources(session, "session"):
            named = {name: entry[name] for name in DocumentRecord.model_fields if name != "type" and name in entry}
            yield DocumentRecord(**named)
            first: int | None = 0
            while first is not None:
                request = ReadKnowledge(
                    scope=session_name(session.session_id),
                    collection=entry["collection"],
                    source=entry["source"],
                    first=first,
                )
                page = await fleet.retrieval.search(session.keys, request)
                for passage in page["passages"]:
                    yield PassageRecord(**passage)
                first = page["next"]

    # --- import -----------------------------------------------------------------------------------------

    async def create_from(self, session: SessionRef, new: NewSession) -> Imported:
        """Create the session from an import; see `Session.aimport_from`."""
        fleet = self._fleet()
        await fleet.open()
        origin = f"import:{fleet.keyring.digest(new.origin)}"
        existed = await _existed(fleet, session.keys, origin)
        staging = Staging(fleet, session.keys, new, uuid_utils.uuid4().hex)
        try:
            async for page in _pages(new.source.records()):
                await staging.add(page, store=not existed)
            if not existed:
                await staging.create(origin)
        except BaseException:
            await asyncio.shield(staging.discard())
            raise
        counts = {**staging.counts, "documents": await self._add_documents(session, new)}
        left_out = (*new.source.left_out.lines, *staging.left_out)
        return Imported(staging.owner, counts, left_out, repeated=existed)

    async def _add_documents(self, session: SessionRef, new: NewSession) -> int:
        """Add the documents again, from their texts. One whose content the session has already changes nothing."""
        added = 0
        async for record, passages in _documents_in(new.source.records()):
            document = NewDocument.of(
                text_of(passages).encode(),
                name=record.source,
                metadata=record.metadata,
                scope="session",
                content_type="text/plain",
            )
            lane, part = await self._knowledge.submit(session, document)
            fleet = self._fleet()
            operation_result(await fleet.turns.wait(lane, part, fleet.settings.ingest_timeout), lane)
            added += 1
        return added


# --- what is read -------------------------------------------------------------------------------------------


async def _ttl(fleet: FleetClient, keys: SessionKeys) -> float | None:
    ttl_ms = int(await fleet.stores.scripts.read("HGET", keys.meta, "ttl") or 0)
    return ttl_ms / 1000 if ttl_ms else None


def _header(info: SessionInfo, turns: int, ttl: float | None) -> SessionHeader:
    return SessionHeader(
        session_id=info.session_id,
        user_id=info.user_id,
        title=info.title or None,
        metadata=dict(info.metadata),
        queue=info.queue,
        ttl=ttl,
        created_ms=round(info.created_at.timestamp() * 1000),
        exported_ms=round(time.time() * 1000),
        turns=turns,
        requests=info.requests,
        input_tokens=info.input_tokens,
        output_tokens=info.output_tokens,
        cost=info.cost or 0.0,
        unpriced_requests=info.unpriced_requests,
        cache_read_tokens=info.cache_read_tokens,
        cache_write_tokens=info.cache_write_tokens,
    )


async def _checkpoint(fleet: FleetClient, keys: SessionKeys, number: int) -> CheckpointRecord:
    found = asdict(await fleet.stores.records.checkpoint(keys, number))
    return CheckpointRecord(**{name: found[name] for name in CheckpointRecord.model_fields if name != "type"})


async def _memories(fleet: FleetClient, keys: SessionKeys) -> AsyncGenerator[MemoryRecord]:
    store, scope = fleet.stores.memory, session_scope(keys)
    ids = sorted(await store.ids(scope))
    for start in range(0, len(ids), _MEMORIES_AT_ONCE):
        for stored in (await store.read(scope, ids[start : start + _MEMORIES_AT_ONCE])).values():
            memory = stored.memory
            yield MemoryRecord(
                id=memory.id,
                text=memory.text,
                kind=memory.kind,
                metadata=dict(memory.metadata),
                created_ms=memory.created_ms,
                updated_ms=memory.updated_ms,
                version=memory.version,
            )


async def _files(fleet: FleetClient, keys: SessionKeys) -> AsyncGenerator[Record]:
    for file in await fleet.stores.files.listed(keys):
        added = round(file.added_at.timestamp() * 1000)
        yield FileRecord(id=file.id, name=file.name, media_type=file.media_type, size=file.size, added_ms=added)
        async for piece in fleet.stores.files.read(keys, file.id):
            yield FilePiece.of(piece)


async def _turns(fleet: FleetClient, keys: SessionKeys, length: int) -> AsyncGenerator[PastTurn]:
    for start in range(0, length, _TURNS_AT_ONCE):
        stop = min(start + _TURNS_AT_ONCE, length)
        entries = await fleet.stores.history.entries(keys, None, start, stop - 1)
        if len(entries) < stop - start:
            raise NotFound(f"session {keys.session_id!r} changed while it was exported: export it again")
        for entry in entries:
            try:
                messages = json.loads(entry.messages)
            except ValueError as error:
                turn = keys.public_id(entry.turn)
                raise CorruptRecord(f"the messages of turn {turn!r} cannot be read: {error!r}") from error
            yield PastTurn.model_construct(
                turn=entry.turn,
                agent=entry.agent,
                at_ms=entry.at_ms,
                count=entry.count,
                incomplete=entry.incomplete,
                sender=entry.sender,
                adapter=entry.adapter,
                native=entry.native.decode() if entry.adapter else None,
                messages=messages,
            )


# --- what is written ----------------------------------------------------------------------------------------


async def _existed(fleet: FleetClient, keys: SessionKeys, origin: str) -> bool:
    """Whether the session was imported from the same content before.

    Raises:
        SessionExists: it exists, and was not.
    """
    if await fleet.stores.records.info(keys) is None:
        return False
    if await fleet.stores.records.origin(keys) == origin:
        return True
    raise SessionExists(f"session {keys.session_id!r}: {SessionExists.__doc__}")


async def _pages(records: Iterator[Record]) -> AsyncGenerator[list[Record]]:
    """The records in pages. They are read in a thread, because files and other libraries' stores block."""

    def page() -> list[Record]:
        found: list[Record] = []
        for record in records:
            found.append(record)
            if len(found) == _READ_AT_ONCE or isinstance(record, FilePiece):
                break
        return found

    while found := await asyncio.to_thread(page):
        yield found


async def _documents_in(records: Iterator[Record]) -> AsyncGenerator[tuple[DocumentRecord, list[PassageRecord]]]:
    document: DocumentRecord | None = None
    passages: list[PassageRecord] = []
    async for page in _pages(records):
        for record in page:
            match record:
                case PassageRecord():
                    passages.append(record)
                case DocumentRecord() | End():
                    if document is not None and passages:
                        yield document, passages
                    document, passages = (record if isinstance(record, DocumentRecord) else None), []
                case _:
                    continue
