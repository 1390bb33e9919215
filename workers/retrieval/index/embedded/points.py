"""Converts our chunks, filters and queries to qdrant-edge's types, and configures the engine.

The engine keeps a code of 4 bits for each number of a dense vector next to the vector (TurboQuant). A search compares
the codes of all chunks, and then the vectors of four times as many of the nearest as it needs: at 100,000 chunks it
finds what comparing all vectors finds, in a third of the time (docs/knowledge-index.md).
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Final
from uuid import UUID

import qdrant_edge as edge

from workers.retrieval.index.conditions import AnyCondition, Between, Condition, Conditions, Either, Negated, Together
from workers.retrieval.index.records import DENSE, LEXICAL, to_stored
from workers.retrieval.ports import EmbeddingInfo, IndexPoint, SparseVector, Vector

VACUUM_FROM: Final = 1000  # the engine's thresholds for rewriting a segment: this many removed points,
VACUUM_SHARE: Final = 0.2  # and this share of all points
_NO_GRAPH: Final = 1_000_000_000  # kilobytes of vectors from which the engine would build a graph
_RESCORED: Final = 4.0  # how many vectors a search compares for each hit that it needs


def engine_config(info: EmbeddingInfo) -> edge.EdgeConfig:
    """The configuration of a collection for this model."""
    codes = edge.TurboQuantQuantizationConfig(bits=edge.TurboQuantBitSize.Bits4)
    return edge.EdgeConfig(
        vectors={DENSE: edge.EdgeVectorParams(info.dimension, edge.Distance.Cosine, quantization_config=codes)},
        sparse_vectors={LEXICAL: edge.EdgeSparseVectorParams(modifier=edge.Modifier.Idf)},
        optimizers=edge.EdgeOptimizersConfig(
            indexing_threshold=_NO_GRAPH, deleted_threshold=VACUUM_SHARE, vacuum_min_vector_number=VACUUM_FROM
        ),
        max_search_threads=1,  # one segment, one thread: more would only wait
    )


def engine_point(point: IndexPoint, published: Collection[str]) -> edge.Point:
    """A chunk as the engine stores it."""
    terms = edge.SparseVector(list(point.sparse.indices), list(point.sparse.values))
    return edge.Point(UUID(point.id), {DENSE: list(point.dense), LEXICAL: terms}, to_stored(point, published))


def engine_filter(conditions: Conditions) -> edge.Filter:
    """Conditions as a filter of the engine."""
    return edge.Filter(must=[_condition(one) for one in conditions])


def _condition(condition: AnyCondition) -> edge.ConditionType:
    match condition:
        case Condition(field, values):
            return edge.FieldCondition(field, match=edge.MatchAny(list(values)))
        case Between(since, before, field):
            return edge.FieldCondition(field, range=edge.RangeFloat(gte=since, lt=before))
        case Together(parts):
            return edge.Filter(must=[_condition(part) for part in parts])
        case Either(parts):
            return edge.Filter(should=[_condition(part) for part in parts])
        case Negated(part):
            return edge.Filter(must_not=[_condition(part)])


def dense_request(vector: Vector, limit: int, allowed: edge.Filter | None = None) -> edge.QueryRequest:
    """Ask for the chunks with the nearest vectors, of those that the filter allows."""
    nearest = edge.Query.Nearest(list(vector), using=DENSE)
    codes = edge.QuantizationSearchParams(rescore=True, oversampling=_RESCORED)
    return edge.QueryRequest(limit=limit, query=nearest, filter=allowed, params=edge.SearchParams(quantization=codes))


def lexical_request(terms: SparseVector, limit: int, allowed: edge.Filter) -> edge.QueryRequest:
    """Ask for the chunks with the largest BM25 scores."""
    vector = edge.SparseVector(list(terms.indices), list(terms.values))
    return edge.QueryRequest(limit=limit, query=edge.Query.Nearest(vector, using=LEXICAL), filter=allowed)


def scores(engine: edge.EdgeShard, request: edge.QueryRequest) -> dict[str, float]:
    """What the engine answers to a request, the best first: ids with their scores."""
    return {str(point.id): point.score for point in engine.query(request)}
