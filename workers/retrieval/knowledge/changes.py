"""Adding, removing and copying documents.

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
    RemoveKnowledge,
)
from sessions.store.keys import SessionKeys
from sessions.store.sealing import KeyRing
from workers.retrieval.chunking import MAX_CHARS, OVERLAP_CHARS, chunk_document, embedded_text
from workers.retrieval.documents.charsets import label_in
from workers.retrieval.documents.recognition.limits import RecognitionLimits
from workers.retrieval.index.names import default_collection
from workers.retrieval.knowledge.catalog import CatalogEntry, SourceCatalog
from workers.retrieval.knowledge.chunk_texts import ChunkTexts
from workers.retrieval.knowledge.document_loader import DocumentLoader, RawDocument
from workers.retrieval.knowledge.document_writer import DocumentWriter
from workers.retrieval.knowledge.known_vectors import KnownVectors
from workers.retrieval.operation_context import OperationContext, progress_event
from workers.retrieval.ports import (
    Chunk,
    EmbeddingModel,
    IndexPoint,
    KnowledgeIndex,
    LexicalModel,
    Scope,
    Vector,
)

_log = get_logger(__name__)
_BATCH: Final = 16
# The first number grows when documents are read or divided differently, so that adding one again replaces its passages.
_CHUNKING: Final = f"5:{MAX_CHARS}:{OVERLAP_CHARS}"
_NAMESPACE: Final = uuid.UUID("6f3c2a52-0d0f-5c0e-9a43-2f6d1f5b7c11")


class KnowledgeChanges:
    """The operations that change what is found. One per process."""

    def __init__(
        self,
        settings: Settings,
        store: Any,
        keyring: KeyRing,
        catalog: SourceCatalog,
        texts: ChunkTexts,
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
        self._catalog = catalog
        self._texts = texts
        self._writer = DocumentWriter(index, catalog, texts, texts_in_store=settings.texts_in_store)
        self._loader = DocumentLoader(settings, store, keyring)

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
        collection = request.collection or default_collection(self._embedding.info)
        digests = self._keyring.digests(content.data)
        entry = self._entry(request, collection, content, digests[0], op.now_ms)
        if not RecognitionLimits.of(self._settings).problem:
            entry = read_with_recognition(entry, await self._catalog.entry(op.keys, collection, request.source))
        scope = Scope(op.keys.tenant, request.scope)
        await self._remove_orphaned(op, scope)
        await self._writer.settle(op, scope, resumed_revision=entry.revision)
        before = await self._catalog.entry(op.keys, collection, request.source)
        twin = await self._catalog.same_content(op.keys, collection, digests, but=request.source)
        same_as = None if twin is None else twin.source
        if before is not None and before.revision == entry.revision:
            return before.receipt("unchanged", same_as=same_as)
        document = await self._loader.parse(op, content)
        limit = self._embedding.limit()
        chunks = await asyncio.to_thread(chunk_document, document, limit=limit, name=entry.title)
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
        self, request: AddKnowledge, collection: str, content: RawDocument, digest: str, now_ms: int
    ) -> CatalogEntry:
        """The entry of a document before it is parsed. Its revision depends on everything that its chunks depend on."""
        model = self._embedding.info.id
        entry = CatalogEntry(
            source=request.source,
            collection=collection,
            revision="",
            digest=digest,
            bytes=len(content.data),
            metadata=request.metadata,
            model=model,
            added_ms=now_ms,
        )
        return replace(entry, revision=_revision(entry, model, _charset(request)))

    async def _known_vectors(
        self, op: OperationContext, request: AddKnowledge, *entries: CatalogEntry | None
    ) -> KnownVectors:
        """The vectors of documents of the scope, by their texts; not of documents that were read in an older way."""
        known = KnownVectors()
        model, scope = self._embedding.info.id, Scope(op.keys.tenant, request.scope)
        charsets = {"", _charset(request)}  # the catalog does not have the one that was given for a document
        for entry in entries:
            if entry is not None and entry.revision in {_revision(entry, model, charset) for charset in charsets}:
                async for page in self._index.scroll(entry.collection, scope, source=entry.source):
                    known.add(await self._texts.full(op.keys, page))
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
        texts = [embedded_text(chunk, entry.title) for chunk in chunks]
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
        if await orphaned(self._store, origin):
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
                full = await self._texts.full(origin, points)
                await self._writer.write(op, entry, self._embedding.info, full)
        if not await self._writer.is_complete(entry, scope):
            raise IndexUnavailable(f"{entry.source!r} was replaced while it was copied; the copy is retried")
        await self._writer.publish(op, scope, entry, before)

    async def _remove_orphaned(self, op: OperationContext, scope: Scope) -> bool:
        """Remove the documents of an expired session with the same id, before this one's documents are changed."""
        if not await orphaned(self._store, op.keys):
            return False
        await self._writer.remove(op, scope, None)
        return True


def _charset(request: AddKnowledge) -> str:
    """The charset that was given for a document; '' if none was."""
    return (request.charset or label_in(request.content_type) or "").lower()


def read_with_recognition(entry: CatalogEntry, before: CatalogEntry | None) -> CatalogEntry:
    """The entry of a document that is added again, with another revision if recognition may read more of it now."""
    revision = hashlib.sha256(f"{entry.revision}:recognised".encode()).hexdigest()[:32]
    if before is None or before.revision not in (entry.revision, revision):
        return entry
    is_read = before.revision == entry.revision and (before.recognised_pages or not before.unread_pages)
    return entry if is_read else replace(entry, revision=revision)


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
