"""A search of the embedded engine: by meaning, by words, and both fused."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID

import qdrant_edge as edge

from workers.retrieval.index.engine_points import search_params
from workers.retrieval.index.fusion import Candidates
from workers.retrieval.index.records import DENSE, LEXICAL, query_terms
from workers.retrieval.ports import Hit, IndexQuery


def search_engine(
    engine: edge.EdgeShard,
    query: IndexQuery,
    allowed: edge.Filter,
    limit: int,
    *,
    nearest: Sequence[edge.PointId] | None = None,
) -> list[Hit]:
    """The best chunks that the filter allows; see `KnowledgeIndex.search`.

    Args:
        engine: the collection.
        query: the query.
        allowed: the filter of both halves.
        limit: how many chunks each half finds.
        nearest: chunks that are known to include those that are found by meaning; None if nothing is known.
    """
    cosines: dict[str, float] = {}
    bm25: dict[str, float] = {}
    if query.dense is not None:
        among = allowed if nearest is None else edge.Filter(must=[allowed, edge.HasIdCondition(set(nearest))])
        dense = edge.Query.Nearest(list(query.dense), using=DENSE)
        cosines = _scores(engine, edge.QueryRequest(limit=limit, query=dense, filter=among, params=search_params()))
    if terms := query_terms(query):
        vector = edge.SparseVector(list(terms.indices), list(terms.values))
        lexical = edge.Query.Nearest(vector, using=LEXICAL)
        bm25 = _scores(engine, edge.QueryRequest(limit=limit, query=lexical, filter=allowed))
    found = Candidates(query, cosines, bm25, _terms(engine, next(iter(bm25), None)))
    if not found.best:
        return []
    vectors = [DENSE] if query.dense is not None else False
    return found.hits(engine.retrieve([UUID(one) for one in found.best], with_payload=True, with_vector=vectors))


def _scores(engine: edge.EdgeShard, request: edge.QueryRequest) -> dict[str, float]:
    return {str(point.id): point.score for point in engine.query(request)}


def _terms(engine: edge.EdgeShard, best: str | None) -> list[int]:
    if best is None:
        return []
    for record in engine.retrieve([UUID(best)], with_payload=False, with_vector=[LEXICAL]):
        vectors: Any = record.vector
        return list(vectors[LEXICAL].indices)
    return []
