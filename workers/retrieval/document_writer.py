"""A scope's documents, in the index and in the list of them: two places that no transaction spans.

    note that it is written -> (write) per batch -> note that it is published -> publish -> note the document

What is begun is noted in the list, under the lease, before the index is touched; the note that ends it is the one that
changes the list. So whoever works in the lane next finds what a dead operation left, and finishes it or takes it back:
also where nobody goes on with it, because it was cancelled, came too late, or killed its workers.

The store refuses a worker whose lease has ended, the index cannot. Such a worker knows by its own clock that it must
not touch it; `docs/failure-modes.md` says what is left of that.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Final

from workers.retrieval.catalog import Entry, SourceCatalog, Unfinished
from workers.retrieval.chunk_texts import ChunkTexts, without_text
from workers.retrieval.operation_context import OperationContext
from workers.retrieval.ports import EmbeddingInfo, IndexPoint, KnowledgeIndex, Scope

_FOUND: Final = "found"


class Shelf:
    """Changes index and list together. Each step may be done again.

    Args:
        texts_in_store: whether chunks' texts are kept in the store instead of the index.
    """

    def __init__(
        self, index: KnowledgeIndex, catalog: SourceCatalog, texts: ChunkTexts, *, texts_in_store: bool
    ) -> None:
        self._index = index
        self._catalog = catalog
        self._texts = texts
        self._texts_in_store = texts_in_store

    async def settle(self, op: OperationContext, scope: Scope, *, going_on_with: str | None = None) -> None:
        """Finish or take back what another operation left unfinished, or this one with another revision.

        Raises:
            IndexUnavailable, LeaseLost: it is still there.
        """
        left = await self._catalog.unfinished(op.keys)
        if left is None or (left.part == op.part and (left.entry is None or left.entry.revision == going_on_with)):
            return
        await self._settle(op, scope, left)

    async def give_up(self, op: OperationContext, scope: Scope) -> None:
        """Take back what this operation has begun, for it will not go on."""
        left = await self._catalog.unfinished(op.keys)
        if left is not None and left.part == op.part:
            await self._settle(op, scope, left)

    async def begin(self, op: OperationContext, scope: Scope, entry: Entry) -> None:
        """Note that a document's chunks will be written."""
        await self.settle(op, scope, going_on_with=entry.revision)
        if await self._catalog.unfinished(op.keys) is None:
            await self._catalog.begin(op.fields, Unfinished(op.part, "write", entry))

    async def write(
        self, op: OperationContext, entry: Entry, model: EmbeddingInfo, points: Sequence[IndexPoint]
    ) -> None:
        """Write chunks, unpublished, and their texts to where those are kept."""
        if self._texts_in_store:
            await self._texts.keep(op, entry.revision, points)
            points = [without_text(point) for point in points]
        op.fields.check_held()
        await self._index.write(entry.collection, model, points)

    async def complete(self, entry: Entry, scope: Scope) -> bool:
        """Whether the index has all chunks of a document, as its operation's journal believes."""
        there = await self._index.count(entry.collection, scope, source=entry.source, revision=entry.revision)
        return there == entry.chunks

    async def publish(self, op: OperationContext, scope: Scope, entry: Entry, before: Entry | None) -> None:
        """Make a document visible that was written whole, in the place of an earlier revision."""
        await self._catalog.begin(op.fields, Unfinished(op.part, "publish", entry))
        await self._publish(op, scope, entry, before)

    async def remove(self, op: OperationContext, scope: Scope, source: str | None) -> dict[str, int]:
        """Remove a document, or all of a scope; how many documents and chunks there were when it began."""
        await self.settle(op, scope)
        found = op.journal.lookup(_FOUND)
        if found is None:
            entries = [entry async for entry in self._catalog.entries(op.keys, source)]
            found = json.dumps({"sources": len(entries), "chunks": sum(entry.chunks for entry in entries)}).encode()
            await op.journal.record(_FOUND, found)
            if entries:
                await self._catalog.begin(op.fields, Unfinished(op.part, "remove", source=source))
        await self._remove(op, scope, source)
        counts: dict[str, int] = json.loads(found)
        return counts

    # --- steps ------------------------------------------------------------------------------------------

    async def _settle(self, op: OperationContext, scope: Scope, left: Unfinished) -> None:
        entry = left.entry
        if entry is None:
            await self._remove(op, scope, left.source)
            return
        known = await self._catalog.entry(op.keys, entry.collection, entry.source)
        if left.doing == "publish" and known is not None:
            # The revision before it may be gone already: there is only the way forward.
            await self._publish(op, scope, entry, known)
            return
        op.fields.check_held()
        await self._index.remove(entry.collection, scope, source=entry.source, revision=entry.revision)
        await self._texts.drop(op, entry.revision)
        await self._catalog.finish(op.fields)

    async def _publish(self, op: OperationContext, scope: Scope, entry: Entry, before: Entry | None) -> None:
        op.fields.check_held()
        await self._index.publish(entry.collection, scope, entry.source, entry.revision)
        if before is not None:
            await self._texts.drop(op, before.revision)
        await self._catalog.put(op.fields, entry, before)

    async def _remove(self, op: OperationContext, scope: Scope, source: str | None) -> None:
        entries = [entry async for entry in self._catalog.entries(op.keys, source)]
        collections = {entry.collection for entry in entries} | set(await self._index.collections())
        for collection in sorted(collections):
            op.fields.check_held()
            await self._index.remove(collection, scope, source=source)
        for entry in entries:
            await self._texts.drop(op, entry.revision)
            await self._catalog.drop(op.fields, entry)
        if source is None:
            await self._texts.drop(op)
        if await self._catalog.unfinished(op.keys) is not None:
            await self._catalog.finish(op.fields)
