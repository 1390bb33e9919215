"""Knowledge: taking documents in, finding passages, removing them.

    content -> known already? -> sections -> chunks -> (vectors -> index) per batch -> publish -> note

Every step may be done again after a crash: chunk ids are made of scope, source, revision and number, a batch that was
written is journalled, and nothing is visible before it is published. How index and list are changed together, and what
becomes of an operation that never goes on, is the shelf's business.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import uuid
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final

from broker_config.settings import Settings
from broker_config.telemetry import get_logger
from sessions.client.scopes import lane_of, orphaned
from sessions.errors import IndexUnavailable
from sessions.protocol.knowledge_requests import AddKnowledge, CopyKnowledge, RemoveKnowledge, SearchKnowledge
from sessions.store.keys import SessionKeys
from sessions.store.sealing import KeyRing
from workers.retrieval.catalog import Entry, SourceCatalog
from workers.retrieval.chunk_texts import ChunkTexts
from workers.retrieval.chunking import MAX_CHARS, OVERLAP_CHARS, chunk_document, embedded_text
from workers.retrieval.document_loader import Content, Contents
from workers.retrieval.document_writer import Shelf
from workers.retrieval.index.names import default_collection
from workers.retrieval.operation_context import OperationContext, progress
from workers.retrieval.ports import (
    Chunk,
    EmbeddingModel,
    Hit,
    IndexPoint,
    IndexQuery,
    KnowledgeIndex,
    LexicalModel,
    Scope,
)

_log = get_logger(__name__)
_BATCH: Final = 16
_CHUNKING: Final = f"1:{MAX_CHARS}:{OVERLAP_CHARS}"
_NAMESPACE: Final = uuid.UUID("6f3c2a52-0d0f-5c0e-9a43-2f6d1f5b7c11")


class Knowledge:
    """The operations on knowledge. One per process."""

    def __init__(
        self,
        settings: Settings,
        store: Any,
        keyring: KeyRing,
        index: KnowledgeIndex,
        embedding: EmbeddingModel,
        lexical: LexicalModel,
    ) -> None:
        self._settings = settings
        self._store = store
        self._keyring = keyring
        self._index = index
        self._embedding = embedding
        self._lexical = lexical
        self._catalog = SourceCatalog(store, keyring)
        self._texts = ChunkTexts(store, keyring)
        self._shelf = Shelf(index, self._catalog, self._texts, texts_in_store=settings.texts_in_store)
        self._contents = Contents(settings, store, keyring)

    # --- take in ----------------------------------------------------------------------------------------

    async def add(self, op: OperationContext, request: AddKnowledge) -> dict[str, Any]:
        """Take in one document; the same content again changes nothing.

        Raises:
            DocumentError: it cannot be read. IndexUnavailable, EmbeddingUnavailable, IndexMismatch, LeaseLost.
        """
        content = await self._contents.of(op, request)
        collection = await self._collection(request.collection)
        entry = self._entry(request, collection, content, op)
        scope = Scope(op.keys.tenant, request.scope)
        await self._forget_orphaned(op, scope)
        await self._shelf.settle(op, scope, going_on_with=entry.revision)
        before = await self._catalog.entry(op.keys, collection, request.source)
        if before is not None and before.revision == entry.revision:
            return before.receipt("unchanged")
        twin = await self._catalog.same_content(op.keys, collection, self._keyring.digests(content.data))
        if before is None and twin is not None:
            return twin.receipt("duplicate")
        document = await self._contents.read(op, content)
        chunks = await asyncio.to_thread(chunk_document, document)
        entry = entry.cut(document.kind, document.pages, len(chunks))
        await self._write(op, entry, scope, chunks)
        await self._shelf.publish(op, scope, entry, before)
        return entry.receipt("added" if before is None else "replaced")

    async def undo(self, op: OperationContext, request: AddKnowledge | CopyKnowledge) -> None:
        """Remove what a document which will not be taken in has left."""
        await self._shelf.give_up(op, Scope(op.keys.tenant, request.scope))

    def _entry(self, request: AddKnowledge, collection: str, content: Content, op: OperationContext) -> Entry:
        """What is known of a document before it is read. Its revision changes with all that its chunks depend on."""
        digest = self._keyring.digest(content.data)
        model = self._embedding.info.id
        made_of = json.dumps([digest, collection, request.source, _CHUNKING, model, request.metadata], sort_keys=True)
        return Entry(
            source=request.source,
            collection=collection,
            revision=hashlib.sha256(made_of.encode()).hexdigest()[:32],
            digest=digest,
            bytes=len(content.data),
            metadata=request.metadata,
            model=model,
            added_ms=op.now_ms,
        )

    async def _write(self, op: OperationContext, entry: Entry, scope: Scope, chunks: Sequence[Chunk]) -> None:
        """Embed and write the chunks; again where the index has lost some that the journal knows."""
        await self._shelf.begin(op, scope, entry)
        await self._write_batches(op, entry, scope, chunks, again=False)
        if not await self._shelf.complete(entry, scope):
            _log.warning("chunks_lost", scope=scope.name, source=entry.source, collection=entry.collection)
            await self._write_batches(op, entry, scope, chunks, again=True)

    async def _write_batches(
        self, op: OperationContext, entry: Entry, scope: Scope, chunks: Sequence[Chunk], *, again: bool
    ) -> None:
        """Embed and write, batch by batch; a batch that the journal knows is written already."""
        for start in range(0, len(chunks), _BATCH):
            key = f"batch:{entry.revision}:{start}"
            if op.journal.lookup(key) is not None and not again:
                continue
            batch = chunks[start : start + _BATCH]
            await self._write_batch(op, entry, scope, batch)
            done = progress(
                "embedding", done=start + len(batch), total=len(chunks), pages=entry.pages, source=entry.source
            )
            await op.journal.record(key, b"1", [done])

    async def _write_batch(self, op: OperationContext, entry: Entry, scope: Scope, chunks: Sequence[Chunk]) -> None:
        title = "" if entry.untitled else entry.source
        texts = [embedded_text(chunk, title) for chunk in chunks]
        op.fields.check_held()
        vectors = await self._embedding.embed_documents(texts)
        points = [
            IndexPoint(
                id=_point_id(op.keys, entry, chunk.number),
                scope=scope,
                source=entry.source,
                revision=entry.revision,
                dense=vector,
                sparse=self._lexical.document(text),
                payload=_payload(entry, chunk),
            )
            for chunk, vector, text in zip(chunks, vectors, texts, strict=True)
        ]
        await self._shelf.write(op, entry, self._embedding.info, points)

    async def _collection(self, wanted: str | None) -> str:
        return wanted or default_collection(self._embedding.info)

    # --- find -------------------------------------------------------------------------------------------

    async def search(self, op: OperationContext, request: SearchKnowledge) -> list[dict[str, Any]]:
        """The best passages within the request's scopes, as dicts."""
        scopes = [Scope(op.keys.tenant, name) for name in request.scopes if await self._visible(op.keys.tenant, name)]
        if not scopes:
            return []
        query = IndexQuery(
            dense=await self._embedding.embed_query(request.query),
            sparse=self._lexical.query(request.query),
            scopes=scopes,
            limit=request.limit,
            sources=request.sources,
            metadata=request.filters,
        )
        collection = await self._collection(request.collection)
        hits = await self._index.search(collection, self._embedding.info, query)
        return [_found(hit) for hit in await self._with_texts(op.keys.tenant, hits)]

    async def _with_texts(self, tenant: str, hits: Sequence[Hit]) -> list[Hit]:
        """The hits with their texts; one whose document was removed or replaced just now has none, and is left out."""
        bare = [hit for hit in hits if "text" not in hit.payload]
        lanes = [lane_of(tenant, hit.scope.name, self._settings.partitions) for hit in bare]
        places = [(lane, hit.revision, hit.payload["number"]) for lane, hit in zip(lanes, bare, strict=True)]
        texts = dict(zip((hit.id for hit in bare), await self._texts.read(places), strict=True))
        full = [(hit, texts.get(hit.id, {})) for hit in hits]
        return [replace(hit, payload={**hit.payload, **text}) for hit, text in full if text is not None]

    # --- remove, copy -----------------------------------------------------------------------------------

    async def remove(self, op: OperationContext, request: RemoveKnowledge) -> dict[str, int]:
        """Remove a document, or all of a scope; how many documents and chunks there were."""
        scope = Scope(op.keys.tenant, request.scope)
        if await self._forget_orphaned(op, scope) or request.outlived:
            return {"sources": 0, "chunks": 0}
        return await self._shelf.remove(op, scope, request.source)

    async def copy(self, op: OperationContext, request: CopyKnowledge) -> dict[str, int]:
        """Give this scope a copy of another one's documents, vectors included: nothing is embedded again."""
        origin = lane_of(op.keys.tenant, request.origin, self._settings.partitions)
        scope = Scope(op.keys.tenant, request.scope)
        await self._forget_orphaned(op, scope)
        await self._shelf.settle(op, scope)
        copied = 0
        if not await self._visible(op.keys.tenant, request.origin):
            return {"sources": copied}
        async for entry in self._catalog.entries(origin):
            await self._copy_entry(op, request, origin, entry)
            copied += 1
        return {"sources": copied}

    async def _copy_entry(
        self, op: OperationContext, request: CopyKnowledge, origin: SessionKeys, entry: Entry
    ) -> None:
        scope, theirs = Scope(op.keys.tenant, request.scope), Scope(op.keys.tenant, request.origin)
        before = await self._catalog.entry(op.keys, entry.collection, entry.source)
        if before is not None and before.revision == entry.revision:
            return
        await self._shelf.begin(op, scope, entry)
        async for page in self._index.scroll(entry.collection, theirs):
            points = [
                replace(point, id=_point_id(op.keys, entry, point.payload["number"]), scope=scope)
                for point in page
                if point.source == entry.source and point.revision == entry.revision
            ]
            if points:
                full = await self._with_words(origin, points)
                await self._shelf.write(op, entry, self._embedding.info, full)
        if not await self._shelf.complete(entry, scope):
            raise IndexUnavailable(f"{entry.source!r} was replaced while it was copied; it is copied again")
        await self._shelf.publish(op, scope, entry, before)

    # --- whose ------------------------------------------------------------------------------------------

    async def _visible(self, tenant: str, scope: str) -> bool:
        return not await orphaned(self._store, lane_of(tenant, scope, self._settings.partitions))

    async def _forget_orphaned(self, op: OperationContext, scope: Scope) -> bool:
        """Remove what an earlier session of this id has left, before anything is done for this one."""
        if not await orphaned(self._store, op.keys):
            return False
        await self._shelf.remove(op, scope, None)
        return True

    async def _with_words(self, lane: SessionKeys, points: Sequence[IndexPoint]) -> list[IndexPoint]:
        """Chunks of a lane with their texts, wherever those are kept."""
        bare = [point for point in points if "text" not in point.payload]
        places = [(lane, point.revision, point.payload["number"]) for point in bare]
        words = dict(zip((point.id for point in bare), await self._texts.read(places), strict=True))
        return [replace(point, payload={**point.payload, **(words.get(point.id) or {})}) for point in points]


def _point_id(lane: SessionKeys, entry: Entry, number: int) -> str:
    return str(uuid.uuid5(_NAMESPACE, "\0".join((lane.ref, entry.source, entry.revision, str(number)))))


def _payload(entry: Entry, chunk: Chunk) -> dict[str, Any]:
    return {
        "number": chunk.number,
        "start": chunk.start,
        "end": chunk.end,
        "page": chunk.page,
        "heading": chunk.heading,
        "metadata": entry.metadata,
        "text": chunk.text,
    }


def _found(hit: Hit) -> dict[str, Any]:
    payload = hit.payload
    return {
        "text": payload["text"],
        "score": hit.score,
        "similarity": hit.similarity,
        "source": hit.source,
        "chunk": payload["number"],
        "page": payload.get("page"),
        "heading": payload.get("heading"),
        "start": payload["start"],
        "end": payload["end"],
        "metadata": payload.get("metadata") or {},
        "id": hit.id,
    }
