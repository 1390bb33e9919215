"""The operations on knowledge: adding, searching, removing and copying documents.

    bytes -> already known? -> sections -> chunks -> for each batch: (vectors -> index) -> publish -> catalog

Every step can be repeated after a crash: chunk ids are derived from scope, source, revision and number, written batches
are journalled, and nothing is visible before it is published. `DocumentWriter` changes index and catalog together, and
cleans up after operations that are never resumed.
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
from sessions.protocol.knowledge_requests import (
    AddKnowledge,
    CopyKnowledge,
    ReadKnowledge,
    RemoveKnowledge,
    SearchKnowledge,
)
from sessions.store.keys import SessionKeys
from sessions.store.sealing import KeyRing
from workers.retrieval.catalog import CatalogEntry, SourceCatalog
from workers.retrieval.chunk_texts import ChunkTexts
from workers.retrieval.chunking import MAX_CHARS, OVERLAP_CHARS, chunk_document, embedded_text
from workers.retrieval.document_loader import DocumentLoader, RawDocument
from workers.retrieval.document_writer import DocumentWriter
from workers.retrieval.documents.charsets import label_in
from workers.retrieval.found_passages import alike, found_passage
from workers.retrieval.index.names import default_collection
from workers.retrieval.known_vectors import KnownVectors
from workers.retrieval.operation_context import OperationContext, progress_event
from workers.retrieval.ports import (
    Chunk,
    EmbeddingModel,
    Hit,
    IndexPoint,
    IndexQuery,
    KnowledgeIndex,
    LexicalModel,
    Scope,
    SparseVector,
    Vector,
)

_log = get_logger(__name__)
_BATCH: Final = 16
_SPARE: Final = 10  # hits that are asked for beyond the limit, to meet the copies of a text
_MOST_HITS: Final = 1000
_READ_AT_ONCE: Final = 1000  # passages of at most 800 characters: a result of less than 4 MiB
# The first number grows when documents are read or divided differently, so that adding one again replaces its passages.
_CHUNKING: Final = f"4:{MAX_CHARS}:{OVERLAP_CHARS}"
FLOOR: Final = 0.15
"""The score below which a passage has nothing to do with a query; docs/retrieval.md has what it keeps."""
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
        self._writer = DocumentWriter(index, self._catalog, self._texts, texts_in_store=settings.texts_in_store)
        self._loader = DocumentLoader(settings, store, keyring)

    # --- add --------------------------------------------------------------------------------------------

    async def add(self, op: OperationContext, request: AddKnowledge) -> dict[str, Any]:
        """Add one document. Adding the same content again under the same name changes nothing.

        A document with the content of another one is a document of its own, which has the vectors of the other.

        Raises:
            DocumentError: the document cannot be read.
            IndexUnavailable, EmbeddingUnavailable: index or model cannot answer now.
            IndexMismatch: the collection holds another model's vectors.
            LeaseLost: another worker may own the operation now.
        """
        content = await self._loader.load(op, request)
        collection = await self._collection(request.collection)
        entry = self._entry(request, collection, content, op)
        scope = Scope(op.keys.tenant, request.scope)
        await self._remove_orphaned(op, scope)
        await self._writer.settle(op, scope, resumed_revision=entry.revision)
        before = await self._catalog.entry(op.keys, collection, request.source)
        digests = self._keyring.digests(content.data)
        twin = await self._catalog.same_content(op.keys, collection, digests, but=request.source)
        same_as = None if twin is None else twin.source
        if before is not None and before.revision == entry.revision:
            return before.receipt("unchanged", same_as=same_as)
        document = await self._loader.parse(op, content)
        name, limit = "" if entry.untitled else entry.source, self._embedding.limit()
        chunks = await asyncio.to_thread(chunk_document, document, limit=limit, name=name)
        entry = entry.with_parsed(document, len(chunks))
        if document.warnings:
            _log.warning("document_partly_unread", source=entry.source, pages=list(document.unread_pages))
        known = await self._known_vectors(op, request, twin, before)
        await self._write(op, entry, scope, chunks, known)
        await self._writer.publish(op, scope, entry, before)
        status = "replaced" if before is not None else "added" if twin is None else "duplicate"
        return entry.receipt(status, embedded=known.missing(chunks), same_as=same_as)

    async def undo(self, op: OperationContext, request: AddKnowledge | CopyKnowledge) -> None:
        """Remove the chunks of a document that will not be completed."""
        await self._writer.revert(op, Scope(op.keys.tenant, request.scope))

    def _entry(
        self, request: AddKnowledge, collection: str, content: RawDocument, op: OperationContext
    ) -> CatalogEntry:
        """The entry of a document before it is parsed. Its revision depends on everything that its chunks depend on."""
        digest = self._keyring.digest(content.data)
        model = self._embedding.info.id
        entry = CatalogEntry(
            source=request.source,
            collection=collection,
            revision="",
            digest=digest,
            bytes=len(content.data),
            metadata=request.metadata,
            model=model,
            added_ms=op.now_ms,
        )
        return replace(entry, revision=_revision(entry, model, _charset(request)))

    async def _known_vectors(
        self, op: OperationContext, request: AddKnowledge, *entries: CatalogEntry | None
    ) -> KnownVectors:
        """The vectors of documents of the scope, by their texts; not of documents that were read in an older way."""
        known = KnownVectors()
        model, scope = self._embedding.info.id, Scope(op.keys.tenant, request.scope)
        for entry in entries:
            # The catalog does not have the charset that was given for a document.
            charsets = {"", _charset(request)}
            if entry is not None and entry.revision in {_revision(entry, model, charset) for charset in charsets}:
                async for page in self._index.scroll(entry.collection, scope, source=entry.source):
                    known.add(await self._points_with_texts(op.keys, page))
        return known

    async def _write(
        self, op: OperationContext, entry: CatalogEntry, scope: Scope, chunks: Sequence[Chunk], known: KnownVectors
    ) -> None:
        """Embed and write the chunks. If the index has lost some that the journal lists, write all of them again."""
        await self._writer.begin(op, scope, entry)
        await self._write_batches(op, entry, scope, chunks, known, again=False)
        if not await self._writer.is_complete(entry, scope):
            _log.warning("chunks_lost", scope=scope.name, source=entry.source, collection=entry.collection)
            await self._write_batches(op, entry, scope, chunks, known, again=True)

    async def _write_batches(
        self,
        op: OperationContext,
        entry: CatalogEntry,
        scope: Scope,
        chunks: Sequence[Chunk],
        known: KnownVectors,
        *,
        again: bool,
    ) -> None:
        """Embed and write batch by batch, skipping batches that the journal lists as written."""
        for start in range(0, len(chunks), _BATCH):
            key = f"batch:{entry.revision}:{start}"
            if op.journal.lookup(key) is not None and not again:
                continue
            batch = chunks[start : start + _BATCH]
            await self._write_batch(op, entry, scope, batch, known)
            done = progress_event(
                "embedding", done=start + len(batch), total=len(chunks), pages=entry.pages, source=entry.source
            )
            await op.journal.record(key, b"1", [done])

    async def _write_batch(
        self, op: OperationContext, entry: CatalogEntry, scope: Scope, chunks: Sequence[Chunk], known: KnownVectors
    ) -> None:
        title = "" if entry.untitled else entry.source
        texts = [embedded_text(chunk, title) for chunk in chunks]
        op.fields.check_held()
        vectors = await self._vectors(chunks, texts, known)
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
        await self._writer.write(op, entry, self._embedding.info, points)

    async def _vectors(self, chunks: Sequence[Chunk], texts: Sequence[str], known: KnownVectors) -> list[Vector]:
        """The vectors of these chunks; only those that are not known are embedded."""
        vectors = [known.of(chunk) for chunk in chunks]
        missing = [text for text, vector in zip(texts, vectors, strict=True) if vector is None]
        embedded = iter(await self._embedding.embed_documents(missing) if missing else ())
        return [next(embedded) if vector is None else vector for vector in vectors]

    async def _collection(self, wanted: str | None) -> str:
        return wanted or default_collection(self._embedding.info)

    # --- search -----------------------------------------------------------------------------------------

    async def search(self, op: OperationContext, request: SearchKnowledge) -> list[dict[str, Any]]:
        """The best passages within the request's scopes, as dicts. No text is among them twice."""
        # The store is asked while the model computes.
        dense, scopes = await asyncio.gather(
            self._embedding.embed_query(request.query), self._visible_scopes(op.keys.tenant, request.scopes)
        )
        if not scopes:
            return []
        query = IndexQuery(
            dense=dense,
            sparse=self._lexical.query(request.query),
            scopes=scopes,
            limit=request.limit + _SPARE,
            sources=request.sources,
            metadata=request.filters,
            words=self._lexical.words(request.query),
            reading=self._embedding.reading(request.query),
            min_score=FLOOR if request.min_score is None else request.min_score,
        )
        collection = await self._collection(request.collection)
        while True:
            hits = await self._index.search(collection, self._embedding.info, query)
            found = alike(await self._with_texts(op.keys.tenant, hits))
            if len(found) >= request.limit or len(hits) < query.limit or query.limit >= _MOST_HITS:
                return [found_passage(group) for group in found[: request.limit]]
            query = replace(query, limit=min(4 * query.limit, _MOST_HITS))

    async def _visible_scopes(self, tenant: str, names: Sequence[str]) -> list[Scope]:
        visible = await asyncio.gather(*(self._visible(tenant, name) for name in names))
        return [Scope(tenant, name) for name, seen in zip(names, visible, strict=True) if seen]

    async def _with_texts(self, tenant: str, hits: Sequence[Hit]) -> list[Hit]:
        """The hits with their texts. A hit without one is dropped: its document was removed or replaced just now."""
        bare = [hit for hit in hits if "text" not in hit.payload]
        lanes = [lane_of(tenant, hit.scope.name, self._settings.partitions) for hit in bare]
        places = [(lane, hit.revision, hit.payload["number"]) for lane, hit in zip(lanes, bare, strict=True)]
        texts = dict(zip((hit.id for hit in bare), await self._texts.read(places), strict=True))
        full = [(hit, texts.get(hit.id, {})) for hit in hits]
        return [replace(hit, payload={**hit.payload, **text}) for hit, text in full if text is not None]

    # --- read -------------------------------------------------------------------------------------------

    async def read(self, op: OperationContext, request: ReadKnowledge) -> dict[str, Any]:
        """The passages of one document from `first` on, as many as fit into one result."""
        lane = lane_of(op.keys.tenant, request.scope, self._settings.partitions)
        entry = await self._catalog.entry(lane, request.collection, request.source)
        if entry is None or not await self._visible(op.keys.tenant, request.scope):
            return {"passages": [], "next": None}
        points: list[IndexPoint] = []
        scope = Scope(op.keys.tenant, request.scope)
        async for page in self._index.scroll(entry.collection, scope, source=entry.source):
            points += [
                replace(point, dense=(), sparse=SparseVector((), ()))  # the vectors are the largest part
                for point in page
                if point.revision == entry.revision and point.payload["number"] >= request.first
            ]
        points.sort(key=lambda point: int(point.payload["number"]))
        full = await self._points_with_texts(lane, points[:_READ_AT_ONCE])
        after = points[_READ_AT_ONCE].payload["number"] if len(points) > _READ_AT_ONCE else None
        return {"passages": [_read_passage(point) for point in full], "next": after}

    # --- remove, copy -----------------------------------------------------------------------------------

    async def remove(self, op: OperationContext, request: RemoveKnowledge) -> dict[str, int]:
        """Remove one document, or all of a scope. Returns how many documents and chunks there were."""
        scope = Scope(op.keys.tenant, request.scope)
        if await self._remove_orphaned(op, scope) or request.outlived:
            return {"sources": 0, "chunks": 0}
        return await self._writer.remove(op, scope, request.source)

    async def copy(self, op: OperationContext, request: CopyKnowledge) -> dict[str, int]:
        """Copy another scope's documents into this one, including their vectors, so that nothing is embedded again."""
        origin = lane_of(op.keys.tenant, request.origin, self._settings.partitions)
        scope = Scope(op.keys.tenant, request.scope)
        await self._remove_orphaned(op, scope)
        await self._writer.settle(op, scope)
        copied = 0
        if not await self._visible(op.keys.tenant, request.origin):
            return {"sources": copied}
        async for entry in self._catalog.entries(origin):
            await self._copy_entry(op, request, origin, entry)
            copied += 1
        return {"sources": copied}

    async def _copy_entry(
        self, op: OperationContext, request: CopyKnowledge, origin: SessionKeys, entry: CatalogEntry
    ) -> None:
        scope, theirs = Scope(op.keys.tenant, request.scope), Scope(op.keys.tenant, request.origin)
        before = await self._catalog.entry(op.keys, entry.collection, entry.source)
        if before is not None and before.revision == entry.revision:
            return
        await self._writer.begin(op, scope, entry)
        async for page in self._index.scroll(entry.collection, theirs, source=entry.source):
            points = [
                replace(point, id=_point_id(op.keys, entry, point.payload["number"]), scope=scope)
                for point in page
                if point.revision == entry.revision
            ]
            if points:
                full = await self._points_with_texts(origin, points)
                await self._writer.write(op, entry, self._embedding.info, full)
        if not await self._writer.is_complete(entry, scope):
            raise IndexUnavailable(f"{entry.source!r} was replaced while it was copied; the copy is retried")
        await self._writer.publish(op, scope, entry, before)

    # --- expired sessions -------------------------------------------------------------------------------

    async def _visible(self, tenant: str, scope: str) -> bool:
        return not await orphaned(self._store, lane_of(tenant, scope, self._settings.partitions))

    async def _remove_orphaned(self, op: OperationContext, scope: Scope) -> bool:
        """Remove the documents of an expired session with the same id, before this one's documents are changed."""
        if not await orphaned(self._store, op.keys):
            return False
        await self._writer.remove(op, scope, None)
        return True

    async def _points_with_texts(self, lane: SessionKeys, points: Sequence[IndexPoint]) -> list[IndexPoint]:
        """The chunks of a lane with their texts, wherever those are kept."""
        bare = [point for point in points if "text" not in point.payload]
        places = [(lane, point.revision, point.payload["number"]) for point in bare]
        texts = dict(zip((point.id for point in bare), await self._texts.read(places), strict=True))
        return [replace(point, payload={**point.payload, **(texts.get(point.id) or {})}) for point in points]


def _charset(request: AddKnowledge) -> str:
    """The charset that was given for a document; '' if none was."""
    return (request.charset or label_in(request.content_type) or "").lower()


def _revision(entry: CatalogEntry, model: str, charset: str) -> str:
    """The revision of a document that is read and embedded now."""
    parts = [entry.digest, entry.collection, entry.source, _CHUNKING, model, entry.metadata]
    if charset:
        parts.append(charset)  # the same bytes in another charset are another text
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:32]


def _point_id(lane: SessionKeys, entry: CatalogEntry, number: int) -> str:
    return str(uuid.uuid5(_NAMESPACE, "\0".join((lane.ref, entry.source, entry.revision, str(number)))))


def _payload(entry: CatalogEntry, chunk: Chunk) -> dict[str, Any]:
    return {
        "number": chunk.number,
        "start": chunk.start,
        "end": chunk.end,
        "page": chunk.page,
        "heading": chunk.heading,
        "metadata": entry.metadata,
        "text": chunk.text,
    }


def _read_passage(point: IndexPoint) -> dict[str, Any]:
    payload = point.payload
    return {name: payload.get(name) for name in ("number", "text", "start", "end", "page", "heading")}
