"""Converts our chunks and filters to the types of qdrant-client."""

from __future__ import annotations

from qdrant_client import models

from workers.retrieval.index.conditions import AnyCondition, Between, Condition, Conditions, Either, Negated, Together
from workers.retrieval.index.records import DENSE, LEXICAL, to_stored
from workers.retrieval.ports import IndexPoint


def server_point(point: IndexPoint, published: set[str]) -> models.PointStruct:
    """A chunk as the server stores it."""
    terms = models.SparseVector(indices=list(point.sparse.indices), values=list(point.sparse.values))
    return models.PointStruct(
        id=point.id, vector={DENSE: list(point.dense), LEXICAL: terms}, payload=to_stored(point, published)
    )


def server_filter(conditions: Conditions) -> models.Filter:
    """Conditions as a filter of the server."""
    return models.Filter(must=[_condition(one) for one in conditions])


def _condition(condition: AnyCondition) -> models.Condition:
    match condition:
        case Condition(field, values):
            return models.FieldCondition(key=field, match=models.MatchAny(any=list(values)))
        case Between(since, before, field):
            return models.FieldCondition(key=field, range=models.Range(gte=since, lt=before))
        case Together(parts):
            return models.Filter(must=[_condition(part) for part in parts])
        case Either(parts):
            return models.Filter(should=[_condition(part) for part in parts])
        case Negated(part):
            return models.Filter(must_not=[_condition(part)])
