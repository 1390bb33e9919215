"""Changes a scope's documents in the index (Qdrant) and in the catalog (Redis), which no transaction spans.

    record pending write -> write each batch -> record pending publish -> publish -> record the document

A pending change is recorded in the catalog, under the lease, before the index is changed; the write that completes it
also updates the catalog. The next operation of the lane therefore finds what an interrupted one left, and completes or
reverts it, even if that one is never resumed because it was cancelled, timed out or crashed its workers.

The store rejects writes of a worker whose lease has expired; the index cannot. Such a worker must notice by its own
clock that it may not change the index. `docs/failure-modes.md` describes the remaining risk.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Final

from workers.retrieval.knowledge.catalog import CatalogEntry, PendingChange, SourceCatalog
from workers.retrieval.knowledge.chunk_texts import ChunkTexts, without_text
from workers.retrieval.operation_context import OperationContext
from workers.retrieval.ports import EmbeddingInfo, IndexPoint, KnowledgeIndex, Scope

_FOUND: Final = "found"


class DocumentWriter:
    """Changes index and catalog together. Every step can be repeated after a crash.

    Args:
        texts_in_store: whether the chunks' texts are kept in the store instead of the index.
    """

    def __init__(
        self, index: KnowledgeIndex, catalog: SourceCatalog, texts: ChunkTexts, *, texts_in_store: bool
    ) -> None:
        self._index = index
        self._catalog = catalog
        self._texts = texts
        self._texts_in_store = texts_in_store

    async def settle(self, op: OperationContext, scope: Scope, *, resumed_revision: str | None = None) -> None:
        """Complete or revert a pending change of another operation, or of this one with another revision.

        Raises:
            IndexUnavailable, LeaseLost: the change is still pending.
        """
        pending = await self._catalog.pending_change(op.keys)
        if pending is None:
            return
        if pending.part == op.part and (pending.entry is None or pending.entry.revision == resumed_revision):
            return
        await self._settle(op, scope, pending)

    async def revert(self, op: OperationContext, scope: Scope) -> None:
        """Revert the pending change of this operation, which will not be resumed."""
        pending = await self._catalog.pending_change(op.keys)
        if pending is not None and pending.part == op.part:
            await self._settle(op, scope, pending)

    async def begin(self, op: OperationContext, scope: Scope, entry: CatalogEntry) -> None:
        """Record that a document's chunks will be written."""
        await self.settle(op, scope, resumed_revision=entry.revision)
        if await self._catalog.pending_change(op.keys) is None:
            await self._catalog.begin(op.fields, PendingChange(op.part, "write", entry))

    async def write(
        self, op: OperationContext, entry: CatalogEntry, model: EmbeddingInfo, points: Sequence[IndexPoint]
    ) -> None:
        """Write unpublished chunks, and their texts to the place where those are kept."""
        if self._texts_in_store:
            await self._texts.keep(op, entry.revision, points)
            points = [without_text(point) for point in points]
        op.fields.check_held()
        await self._index.write(entry.collection, model, points)

    async def is_complete(self, entry: CatalogEntry, scope: Scope) -> bool:
        """Whether the index really has all chunks that the operation's journal lists as written."""
        count = await self._index.count(entry.collection, scope, source=entry.source, revision=entry.revision)
        return count == entry.chunks

    async def publish(
        self, op: OperationContext, scope: Scope, entry: CatalogEntry, before: CatalogEntry | None
    ) -> None:
        """Make a completely written document visible; it replaces an earlier revision."""
        await self._catalog.begin(op.fields, PendingChange(op.part, "publish", entry))
        await self._publish(op, scope, entry, before)

    async def remove(self, op: OperationContext, scope: Scope, source: str | None) -> dict[str, int]:
        """Remove one document, or all of a scope. Returns how many documents and chunks there were at the start."""
        await self.settle(op, scope)
        found = op.journal.lookup(_FOUND)
        if found is None:
            entries = [entry async for entry in self._catalog.entries(op.keys, source)]
            found = json.dumps({"sources": len(entries), "chunks": sum(entry.chunks for entry in entries)}).encode()
            await op.journal.record(_FOUND, found)
            if entries:
                await self._catalog.begin(op.fields, PendingChange(op.part, "remove", source=source))
        await self._remove(op, scope, source)
        counts: dict[str, int] = json.loads(found)
        return counts

    # --- steps ------------------------------------------------------------------------------------------

    async def _settle(self, op: OperationContext, scope: Scope, pending: PendingChange) -> None:
        entry = pending.entry
        if entry is None:
            await self._remove(op, scope, pending.source)
            return
        known = await self._catalog.entry(op.keys, entry.collection, entry.source)
        if pending.doing == "publish" and known is not None:
            # The earlier revision may have been removed already, so the change can only be completed.
            await self._publish(op, scope, entry, known)
            return
        op.fields.check_held()
        await self._index.remove(entry.collection, scope, source=entry.source, revision=entry.revision)
        await self._texts.drop(op, entry.revision)
        await self._catalog.finish(op.fields)

    async def _publish(
        self, op: OperationContext, scope: Scope, entry: CatalogEntry, before: CatalogEntry | None
    ) -> None:
        op.fields.check_held()
        await self._index.publish(entry.collection, scope, entry.source, entry.revision)
        if before is not None:
            await self._texts.drop(op, before.revision)
        await self._catalog.put(op.fields, op.keys, entry, before)

    async def _remove(self, op: OperationContext, scope: Scope, source: str | None) -> None:
        entries = [entry async for entry in self._catalog.entries(op.keys, source)]
        collections = {entry.collection for entry in entries} | set(await self._index.collections())
        for collection in sorted(collections):
            op.fields.check_held()
            await self._index.remove(collection, scope, source=source)
        for entry in entries:
            await self._texts.drop(op, entry.revision)
            await self._catalog.drop(op.fields, op.keys, entry)
        if source is None:
            await self._texts.drop(op)
        if await self._catalog.pending_change(op.keys) is not None:
            await self._catalog.finish(op.fields)
