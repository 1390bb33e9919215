"""The stored form of a chunk, which is the same in both engines, and the filters that select stored chunks.

    {tenant, scope, source, revision, state, tags, at, payload}

All filtered fields are keywords, except `at`: a number, for chunks that have a time. `state` is a word, since the
embedded engine (0.9) cannot match booleans. `tags` are the user's metadata as `key=json`, so that strings, numbers,
booleans and lists match in the same way and no key of theirs collides with ours. `payload` is JSON text, so that it
comes back unchanged whatever types the engine has.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from operator import mul
from typing import Any, Final

from sessions.errors import EmbeddingFailed, IndexMismatch
from workers.retrieval.ports import EmbeddingInfo, Hit, IndexPoint, IndexQuery, Scope, SparseVector, Vector

FORMAT: Final = 1
DENSE: Final = "dense"
LEXICAL: Final = "bm25"
KEYWORDS: Final = ("tenant", "scope", "source", "revision", "state", "tags")
TIME: Final = "at"
WRITTEN: Final = "written"
PUBLISHED: Final = "published"

_TAG_LIMIT = 200


@dataclass(frozen=True, slots=True)
class Condition:
    """A stored keyword must be one of these values or, if negated, none of them."""

    field: str
    values: tuple[str, ...]
    negated: bool = False


@dataclass(frozen=True, slots=True)
class Between:
    """The time of a chunk must be in this range, in milliseconds since the epoch; `before` is excluded."""

    since: int | None
    before: int | None
    field: str = TIME


Conditions = Sequence[Condition | Between]


def to_stored(point: IndexPoint, published: Collection[str]) -> dict[str, Any]:
    """The stored form of a chunk. Chunks that are in `published` stay so, since the id implies the content."""
    metadata = point.payload.get("metadata") or {}
    return {
        "tenant": _clean(point.scope.tenant),
        "scope": _clean(point.scope.name),
        "source": _clean(point.source),
        "revision": _clean(point.revision),
        "state": PUBLISHED if point.id in published else WRITTEN,
        "tags": [tag for key, value in metadata.items() for tag in _tags(key, value)],
        **({} if point.at_ms is None else {TIME: point.at_ms}),
        "payload": _clean(json.dumps(dict(point.payload), ensure_ascii=False)),
    }


def point_of(record: Any) -> IndexPoint:
    """The chunk from a stored record with vectors. The records of both engines have the same attributes."""
    found, vectors = record.payload or {}, record.vector
    scope, payload = Scope(found["tenant"], found["scope"]), json.loads(found["payload"])
    terms = vectors.get(LEXICAL)
    sparse = SparseVector(terms.indices, terms.values) if terms else SparseVector([], [])
    source, revision = found["source"], found["revision"]
    return IndexPoint(str(record.id), scope, source, revision, vectors[DENSE], sparse, payload, found.get(TIME))


def hit_of(query: IndexQuery, point: Any) -> Hit:
    """The hit from a point that a search found. The points of both engines have the same attributes."""
    found = point.payload or {}
    scope, payload = Scope(found["tenant"], found["scope"]), json.loads(found["payload"])
    similarity = None if query.dense is None else cosine(query.dense, point.vector[DENSE])
    return Hit(str(point.id), scope, found["source"], found["revision"], point.score, payload, similarity)


def cosine(asked: Vector, found: Vector) -> float:
    """The cosine of two vectors; 0 if one of them has length 0."""
    length = math.hypot(*asked) * math.hypot(*found)
    return sum(map(mul, asked, found)) / length if length else 0.0


def scope_conditions(
    scope: Scope, *, source: str | None = None, revision: str | None = None, state: str | None = None
) -> list[Condition]:
    """Select a scope's chunks, optionally of one source, revision or state only."""
    named = {"tenant": scope.tenant, "scope": scope.name, "source": source, "revision": revision, "state": state}
    return [Condition(field, (_clean(value),)) for field, value in named.items() if value is not None]


def count_conditions(scope: Scope, source: str | None, revision: str | None) -> list[Condition]:
    """Select the published chunks, or all chunks of one revision."""
    return scope_conditions(scope, source=source, revision=revision, state=PUBLISHED if revision is None else None)


def superseded_conditions(scope: Scope, source: str, revision: str) -> list[Condition]:
    """Select the other published revisions of a source. Unpublished chunks belong to a later operation, and stay."""
    return [
        *scope_conditions(scope, source=source, state=PUBLISHED),
        Condition("revision", (_clean(revision),), negated=True),
    ]


def query_conditions(query: IndexQuery) -> list[Condition | Between] | None:
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
        among["source"] = list(query.sources)
    conditions = [Condition(field, tuple(map(_clean, values))) for field, values in among.items()]
    conditions += [Condition("tags", tuple(_tags(key, value))) for key, value in query.metadata.items()]
    if not all(condition.values for condition in conditions):
        return None
    if query.since_ms is None and query.until_ms is None:
        return [*conditions]
    return [*conditions, Between(query.since_ms, query.until_ms)]


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


def _tags(key: str, value: Any) -> list[str]:
    """The keywords of a metadata entry: one for each value of a list."""
    values = value if isinstance(value, list | tuple | set | frozenset) else [value]
    return [_tag(key, each) for each in values]


def _tag(key: str, value: Any) -> str:
    if isinstance(value, float) and value.is_integer():
        value = int(value)  # 1.0 and 1 are the same number, but different JSON
    text = _clean(f"{key}={json.dumps(value, ensure_ascii=False, sort_keys=True)}")
    if len(text) <= _TAG_LIMIT:
        return text
    return f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"


def _clean(text: str) -> str:
    """Escape lone surrogates (from file names, or half an emoji), which no engine accepts."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")
