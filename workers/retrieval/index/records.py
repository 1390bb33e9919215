"""The stored form of a chunk, which is the same in both engines, and the filters that select stored chunks.

    {tenant, scope, source, revision, state, tags, at, payload}

All filtered fields are keywords, except `at`: a number, for chunks that have a time. `state` is a word, since the
embedded engine (0.9) cannot match booleans. `tags` are the user's metadata (see `metadata_tags`), so that all values
match in the same way and no name of theirs collides with ours. `payload` is JSON text, so that it comes back unchanged
whatever types the engine has.
"""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Sequence
from operator import mul
from typing import Any, Final

from sessions.errors import EmbeddingFailed, IndexMismatch
from sessions.protocol.filters import parse_filter
from workers.retrieval.index.conditions import TIME, AnyCondition, Between, Condition, Conditions, Negated, clean
from workers.retrieval.index.metadata_tags import TAGS, filter_condition, tags_of
from workers.retrieval.ports import EmbeddingInfo, Hit, IndexPoint, IndexQuery, Scope, SparseVector, Vector

FORMAT: Final = 1
DENSE: Final = "dense"
LEXICAL: Final = "bm25"
KEYWORDS: Final = ("tenant", "scope", "source", "revision", "state", TAGS)
WRITTEN: Final = "written"
PUBLISHED: Final = "published"


def to_stored(point: IndexPoint, published: Collection[str]) -> dict[str, Any]:
    """The stored form of a chunk. Chunks that are in `published` stay so, since the id implies the content."""
    metadata = point.payload.get("metadata") or {}
    return {
        "tenant": clean(point.scope.tenant),
        "scope": clean(point.scope.name),
        "source": clean(point.source),
        "revision": clean(point.revision),
        "state": PUBLISHED if point.id in published else WRITTEN,
        TAGS: tags_of(metadata),
        **({} if point.at_ms is None else {TIME: point.at_ms}),
        "payload": clean(json.dumps(dict(point.payload), ensure_ascii=False)),
    }


def point_of(record: Any) -> IndexPoint:
    """The chunk from a stored record with vectors. The records of both engines have the same attributes."""
    found, vectors = record.payload or {}, record.vector
    scope, payload = Scope(found["tenant"], found["scope"]), json.loads(found["payload"])
    terms = vectors.get(LEXICAL)
    sparse = SparseVector(terms.indices, terms.values) if terms else SparseVector([], [])
    source, revision = found["source"], found["revision"]
    return IndexPoint(str(record.id), scope, source, revision, vectors[DENSE], sparse, payload, found.get(TIME))


def hit_of(record: Any, score: float, similarity: float | None) -> Hit:
    """The hit from a stored record. The records of both engines have the same attributes."""
    found = record.payload or {}
    scope, payload = Scope(found["tenant"], found["scope"]), json.loads(found["payload"])
    return Hit(str(record.id), scope, found["source"], found["revision"], score, payload, similarity)


def cosine(asked: Vector, found: Vector) -> float:
    """The cosine of two vectors; 0 if one of them has length 0."""
    length = math.hypot(*asked) * math.hypot(*found)
    return sum(map(mul, asked, found)) / length if length else 0.0


def scope_conditions(
    scope: Scope, *, source: str | None = None, revision: str | None = None, state: str | None = None
) -> list[Condition]:
    """Select a scope's chunks, optionally of one source, revision or state only."""
    named = {"tenant": scope.tenant, "scope": scope.name, "source": source, "revision": revision, "state": state}
    return [Condition(field, (clean(value),)) for field, value in named.items() if value is not None]


def scroll_conditions(scope: Scope | None, source: str | None) -> list[Condition]:
    """Select the published chunks of one source, of one scope, or all."""
    if scope is None:
        return [Condition("state", (PUBLISHED,))]
    return scope_conditions(scope, source=source, state=PUBLISHED)


def count_conditions(scope: Scope, source: str | None, revision: str | None) -> list[Condition]:
    """Select the published chunks, or all chunks of one revision."""
    return scope_conditions(scope, source=source, revision=revision, state=PUBLISHED if revision is None else None)


def superseded_conditions(scope: Scope, source: str, revision: str) -> Conditions:
    """Select the other published revisions of a source. Unpublished chunks belong to a later operation, and stay."""
    return [
        *scope_conditions(scope, source=source, state=PUBLISHED),
        Negated(Condition("revision", (clean(revision),))),
    ]


def query_conditions(query: IndexQuery) -> Conditions | None:
    """Select the chunks that a query may find; None if there cannot be any.

    Raises:
        ValueError: the query has no scope, scopes of two tenants, no vector, or no positive limit.
    """
    if len({scope.tenant for scope in query.scopes}) != 1:
        raise ValueError(f"a search needs scopes of exactly one tenant, not {list(query.scopes)!r}")
    if query.dense is None and query.sparse is None:
        raise ValueError("a search needs a dense vector, terms, or both")
    if query.limit < 1:
        raise ValueError(f"a search cannot be limited to {query.limit!r} hits; ask for at least 1")
    among = {"tenant": [query.scopes[0].tenant], "scope": [s.name for s in query.scopes], "state": [PUBLISHED]}
    if query.sources is not None:
        if not query.sources:
            return None
        among["source"] = list(query.sources)
    conditions: list[AnyCondition] = [Condition(field, tuple(map(clean, values))) for field, values in among.items()]
    if query.metadata:
        conditions.append(filter_condition(parse_filter(query.metadata)))
    if query.since_ms is not None or query.until_ms is not None:
        conditions.append(Between(query.since_ms, query.until_ms))
    return conditions


def query_terms(query: IndexQuery) -> SparseVector | None:
    """The query's terms; None if there are none, since the engines reject an empty vector."""
    return query.sparse if query.sparse is not None and len(query.sparse.indices) else None


def check_points(model: EmbeddingInfo, points: Sequence[IndexPoint]) -> None:
    """Reject vectors that the engine would accept but could never find.

    Raises:
        IndexMismatch: a vector does not have the model's dimension.
        EmbeddingFailed: a vector contains NaN or infinity.
    """
    for point in points:
        if len(point.dense) != model.dimension:
            raise IndexMismatch(
                f"a chunk of {point.source!r} has a vector of {len(point.dense)} numbers, but the model {model.id!r} "
                f"makes {model.dimension}; index the document again with one model"
            )
        if not math.isfinite(sum(point.dense)):
            raise EmbeddingFailed(f"the model {model.id!r} made a vector without finite numbers for {point.source!r}")


def check_model(collection: str, has: EmbeddingInfo, wants: EmbeddingInfo) -> None:
    """Reject vectors of a second model in a collection.

    Raises:
        IndexMismatch: the models differ.
    """
    if has != wants:
        raise IndexMismatch(
            f"the collection {collection!r} holds vectors of {has.id!r} ({has.dimension} numbers), not of {wants.id!r} "
            f"({wants.dimension}); use that model, or another collection"
        )
