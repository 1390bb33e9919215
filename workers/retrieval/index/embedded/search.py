"""A search of the embedded engine: by meaning, by words, and both fused."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import qdrant_edge as edge

from workers.retrieval.index.embedded.points import dense_request, lexical_request, scores
from workers.retrieval.index.embedded.unfiltered import ScopeSizes, nearest
from workers.retrieval.index.fusion import CANDIDATES, Candidates
from workers.retrieval.index.records import DENSE, LEXICAL, query_terms
from workers.retrieval.ports import Hit, IndexQuery


def search_engine(engine: edge.EdgeShard, query: IndexQuery, allowed: edge.Filter, sizes: ScopeSizes) -> list[Hit]:
    """The best chunks that the filter allows; see `KnowledgeIndex.search`.

    Args:
        engine: the collection.
        query: the query.
        allowed: the filter of both halves.
        sizes: how many chunks the scopes have.
    """
    limit = max(CANDIDATES, query.limit)
    cosines: dict[str, float] = {}
    bm25: dict[str, float] = {}
    if query.dense is not None:
        near = nearest(engine, query, allowed, limit, sizes)
        cosines = scores(engine, dense_request(query.dense, limit, allowed)) if near is None else near
    if terms := query_terms(query):
        bm25 = scores(engine, lexical_request(terms, limit, allowed))
    found = Candidates(query, cosines, bm25, _terms(engine, next(iter(bm25), None)))
    if not found.best:
        return []
    vectors = [DENSE] if found.need_vectors else False
    return found.hits(engine.retrieve([UUID(one) for one in found.best], with_payload=True, with_vector=vectors))


def _terms(engine: edge.EdgeShard, best: str | None) -> list[int]:
    if best is None:
        return []
    for record in engine.retrieve([UUID(best)], with_payload=False, with_vector=[LEXICAL]):
        vectors: Any = record.vector
        return list(vectors[LEXICAL].indices)
    return []
