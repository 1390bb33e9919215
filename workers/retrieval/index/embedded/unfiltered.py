"""Finds the dense hits of a search without its filter, if most of the collection passes the filter.

Checking a filter costs the engine more than comparing vectors: 25 ms for 100,000 chunks that pass, and 3 ms for their
vectors. So the whole collection is searched for more hits than needed, and the filter checks these only. If enough of
them pass, the nearest of these are exactly what a filtered search finds.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Final

import qdrant_edge as edge

from workers.retrieval.index.embedded.points import dense_request, scores
from workers.retrieval.ports import IndexQuery, Scope

_LARGE: Final = 5_000  # chunks; below, any search takes about a millisecond
_LEAST_SHARE: Final = 0.25  # of the collection; fewer are found faster with the filter
_MARGIN: Final = 1.25
_KEPT: Final = 1_000
_STALE_AFTER: Final = 0.05  # of the collection, written or removed since


class ScopeSizes:
    """How many published chunks each of the last searched scopes has, roughly: only speed depends on it."""

    def __init__(self, count: Callable[[Scope], int]) -> None:
        self._count = count
        self._sizes: OrderedDict[Scope, int] = OrderedDict()
        self._changes = 0

    def changed(self, chunks: int) -> None:
        """Note that this many chunks were written, published or removed."""
        self._changes += chunks

    def passing(self, scopes: Sequence[Scope], total: int) -> int:
        """How many of the collection's chunks belong to one of the scopes."""
        if self._changes > total * _STALE_AFTER:
            self._sizes.clear()
            self._changes = 0
        return sum(self._size(scope) for scope in set(scopes))

    def _size(self, scope: Scope) -> int:
        if scope not in self._sizes:
            self._sizes[scope] = self._count(scope)
            if len(self._sizes) > _KEPT:
                self._sizes.popitem(last=False)
        return self._sizes[scope]


def nearest(
    engine: edge.EdgeShard, query: IndexQuery, allowed: edge.Filter, limit: int, sizes: ScopeSizes
) -> dict[str, float] | None:
    """The `limit` dense hits of a search with their cosines; None if only a filtered search can tell."""
    if query.dense is None or _is_narrow(query):
        return None
    total = engine.info().points_count
    passing = sizes.passing(query.scopes, total) if total >= _LARGE else 0
    if passing < limit or passing < total * _LEAST_SHARE:
        return None
    more = math.ceil(limit * _MARGIN * total / passing)
    near = {hit.id for hit in engine.query(dense_request(query.dense, more))}
    among = edge.Filter(must=[allowed, edge.HasIdCondition(near)])
    passed = scores(engine, dense_request(query.dense, limit, among))
    return passed if len(passed) == limit else None


def _is_narrow(query: IndexQuery) -> bool:
    """Whether the query has filters of unknown selectivity besides its scopes."""
    times = (query.since_ms, query.until_ms)
    return query.sources is not None or bool(query.metadata) or any(time is not None for time in times)
