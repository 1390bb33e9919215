"""Searching documents, and reading one of them again."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final

from broker_config.settings import Settings
from sessions.client.scopes import lane_of, orphaned
from sessions.protocol.knowledge_requests import ReadKnowledge, SearchKnowledge
from workers.retrieval.index.names import default_collection
from workers.retrieval.knowledge.catalog import SourceCatalog
from workers.retrieval.knowledge.chunk_texts import ChunkTexts
from workers.retrieval.knowledge.found_passages import alike, found_passage
from workers.retrieval.operation_context import OperationContext
from workers.retrieval.ports import (
    EmbeddingModel,
    Hit,
    IndexPoint,
    IndexQuery,
    KnowledgeIndex,
    LexicalModel,
    Scope,
    SparseVector,
)

FLOOR: Final = 0.15
"""The score below which a passage has nothing to do with a query; docs/retrieval.md has what it keeps."""
_SPARE: Final = 10  # hits that are asked for beyond the limit, to meet the copies of a text
_MOST_HITS: Final = 1000
_READ_AT_ONCE: Final = 1000  # passages of at most 800 characters: a result of less than 4 MiB


class KnowledgeSearch:
    """The operations that change nothing. One per process."""

    def __init__(
        self,
        settings: Settings,
        store: Any,
        catalog: SourceCatalog,
        texts: ChunkTexts,
        index: KnowledgeIndex,
        embedding: EmbeddingModel,
        lexical: LexicalModel,
    ) -> None:
        self._settings = settings
        self._store = store
        self._catalog = catalog
        self._texts = texts
        self._index = index
        self._embedding = embedding
        self._lexical = lexical

    async def search(self, tenant: str, request: SearchKnowledge) -> list[dict[str, Any]]:
        """The best passages of a tenant within the request's scopes, as dicts. No text is among them twice."""
        # The store is asked while the model computes.
        dense, scopes = await asyncio.gather(
            self._embedding.embed_query(request.query), self._visible_scopes(tenant, request.scopes)
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
            scale=self._embedding.scale(request.query),
            min_score=FLOOR if request.min_score is None else request.min_score,
        )
        collection = request.collection or default_collection(self._embedding.info)
        while True:
            hits = await self._index.search(collection, self._embedding.info, query)
            found = alike(await self._with_texts(tenant, hits))
            if len(found) >= request.limit or len(hits) < query.limit or query.limit >= _MOST_HITS:
                return [found_passage(group) for group in found[: request.limit]]
            query = replace(query, limit=min(4 * query.limit, _MOST_HITS))

    async def _visible_scopes(self, tenant: str, names: Sequence[str]) -> list[Scope]:
        visible = await asyncio.gather(*(self._visible(tenant, name) for name in names))
        return [Scope(tenant, name) for name, seen in zip(names, visible, strict=True) if seen]

    async def _visible(self, tenant: str, scope: str) -> bool:
        """False for the documents of a session that has expired."""
        return not await orphaned(self._store, lane_of(tenant, scope, self._settings.partitions))

    async def _with_texts(self, tenant: str, hits: Sequence[Hit]) -> list[Hit]:
        """The hits with their texts. A hit without one is dropped: its document was removed or replaced just now."""
        lanes = [lane_of(tenant, hit.scope.name, self._settings.partitions) for hit in hits]
        payloads = await self._texts.payloads(list(zip(lanes, hits, strict=True)))
        return [
            replace(hit, payload=payload) for hit, payload in zip(hits, payloads, strict=True) if payload is not None
        ]

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
        full = await self._texts.full(lane, points[:_READ_AT_ONCE])
        after = points[_READ_AT_ONCE].payload["number"] if len(points) > _READ_AT_ONCE else None
        return {"passages": [_read_passage(point) for point in full], "next": after}


def _read_passage(point: IndexPoint) -> dict[str, Any]:
    payload = point.payload
    return {name: payload.get(name) for name in ("number", "text", "start", "end", "page", "heading")}
