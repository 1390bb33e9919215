"""Ranks memories for a query: by meaning and by words, fused by reciprocal rank.

The order is the same in every process: ties are broken by id, the newest first, and cosines are rounded, because their
last digits differ between machines.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from sessions.protocol.filters import parse_filter
from sessions.protocol.memory_requests import SearchMemory
from sessions.store.memory_record import Memory
from workers.retrieval.memory.metadata import Mask
from workers.retrieval.memory.scope_index import ScopeIndex
from workers.retrieval.memory.vectors import Floats
from workers.retrieval.ports import SparseVector

_RANKED: Final = 100
_DIGITS: Final = 5


@dataclass(frozen=True, slots=True)
class RankingWeights:
    """Parameters of the ranking. The defaults suit MiniLM; `python -m benchmarks.memory_search` measures them.

    Attributes:
        k: the constant of reciprocal rank fusion: rank r scores 1 / (k + r).
        floor: the cosine below which a memory counts as unrelated, unless it contains a word of the query.
    """

    k: float = 2.0
    floor: float = 0.2


class Ranking:
    """The memories of several scopes, as one list of rows, compared with one query."""

    def __init__(self, indexes: Mapping[str, ScopeIndex], vector: Floats | None, sparse: SparseVector) -> None:
        self._names = list(indexes)
        self._indexes = list(indexes.values())
        similarities = [index.similarities(vector) for index in self._indexes]
        self._starts = np.cumsum([0, *(len(found) for found in similarities)]).tolist()
        self._similarity = np.round(_joined(similarities), _DIGITS)
        idf_weights = self._idf_weights(sparse)
        self._weight = np.round(_joined([index.term_weights(idf_weights) for index in self._indexes]), _DIGITS)
        self._halves = (vector is not None) + bool(sparse.indices)

    def _idf_weights(self, query: SparseVector) -> dict[int, float]:
        """The weight of each query term times its inverse document frequency over all searched scopes."""
        total = sum(len(index) for index in self._indexes)
        idf_weights = {}
        for term, weight in zip(query.indices, query.values, strict=True):
            having = sum(index.document_frequency(term) for index in self._indexes)
            idf_weights[term] = weight * math.log(1 + (total - having + 0.5) / (having + 0.5))
        return idf_weights

    def best(self, request: SearchMemory, weights: RankingWeights) -> list[dict[str, Any]]:
        """The best matches for the request, as dicts for the caller."""
        allowed = self._allowed(request)
        lists = [
            self._top(self._similarity, allowed & (self._similarity >= weights.floor), request.limit),
            self._top(self._weight, allowed & (self._weight > 0), request.limit),
        ]
        fused: dict[int, float] = {}
        for ranked in lists:
            for place, row in enumerate(ranked, start=1):
                fused[row] = fused.get(row, 0.0) + 1 / (weights.k + place)
        most = max(1, self._halves) / (weights.k + 1)
        scored = sorted(((score / most, self._memory(row).id, row) for row, score in fused.items()), reverse=True)
        least = request.min_score or 0.0
        return [self._result(row, score) for score, _, row in scored[: request.limit] if score >= least]

    def _allowed(self, request: SearchMemory) -> Mask:
        filters = parse_filter(request.filters)
        masks = [index.allowed(request.types, filters) for index in self._indexes]
        return np.concatenate(masks) if masks else np.zeros(0, dtype=np.bool_)

    def _top(self, values: Floats, mask: Mask, limit: int) -> list[int]:
        rows, most = np.flatnonzero(mask), max(_RANKED, 2 * limit)
        if len(rows) > most:
            last = np.partition(values[rows], -most)[-most]
            rows = rows[values[rows] >= last]  # including all ties with the last one, which ids decide
        return sorted(rows.tolist(), key=lambda row: (values[row], self._memory(row).id), reverse=True)[:most]

    def _place(self, row: int) -> tuple[int, int]:
        number = bisect_right(self._starts, row) - 1
        return number, row - self._starts[number]

    def _memory(self, row: int) -> Memory:
        number, inner = self._place(row)
        return self._indexes[number].memory(inner)

    def _result(self, row: int, score: float) -> dict[str, Any]:
        number, inner = self._place(row)
        shown = self._indexes[number].memory(inner).shown(self._names[number])
        similarity = float(self._similarity[row])
        return {
            **shown,
            "score": round(score, 4),
            "similarity": round(similarity, 4) if math.isfinite(similarity) else None,
        }


def _joined(parts: Sequence[Floats]) -> Floats:
    return np.concatenate(parts) if parts else np.zeros(0, dtype=np.float32)
