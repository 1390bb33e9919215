"""The order of memories for a query: by meaning, by words, and both fused by reciprocal rank.

It is the same in every process: what is equal is ordered by id, the newest first, and cosines are compared without the
last digits, in which machines differ.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from sessions.protocol.memory_requests import SearchMemory
from sessions.store.memory_record import Memory
from workers.retrieval.memory.scope_index import Mask, ScopeIndex
from workers.retrieval.memory.vectors import Floats
from workers.retrieval.ports import SparseVector

_RANKED: Final = 100
_DIGITS: Final = 5


@dataclass(frozen=True, slots=True)
class Weighing:
    """How ranks are fused. The values suit the default model: `python -m benchmarks.memory_search` measures them.

    Attributes:
        k: of reciprocal rank fusion; a rank r counts 1 / (k + r).
        floor: the cosine below which a memory counts as unrelated, unless it has a word of the query.
    """

    k: float = 2.0
    floor: float = 0.2


class Ranking:
    """The memories of several scopes as one list of rows, compared with one query."""

    def __init__(self, indexes: Mapping[str, ScopeIndex], vector: Floats | None, sparse: SparseVector) -> None:
        self._names = list(indexes)
        self._indexes = list(indexes.values())
        similarities = [index.similarities(vector) for index in self._indexes]
        self._starts = np.cumsum([0, *(len(found) for found in similarities)]).tolist()
        self._similarity = np.round(_joined(similarities), _DIGITS)
        worth = self._worth(sparse)
        self._weight = np.round(_joined([index.term_weights(worth) for index in self._indexes]), _DIGITS)
        self._halves = (vector is not None) + bool(sparse.indices)

    def _worth(self, query: SparseVector) -> dict[int, float]:
        """What each term of the query tells: its inverse document frequency over all scopes searched."""
        total = sum(len(index) for index in self._indexes)
        worth = {}
        for term, weight in zip(query.indices, query.values, strict=True):
            having = sum(index.document_frequency(term) for index in self._indexes)
            worth[term] = weight * math.log(1 + (total - having + 0.5) / (having + 0.5))
        return worth

    def best(self, request: SearchMemory, weighing: Weighing) -> list[dict[str, Any]]:
        """What the request asks for, best first, as it is told to others."""
        allowed = self._allowed(request)
        lists = [
            self._top(self._similarity, allowed & (self._similarity >= weighing.floor), request.limit),
            self._top(self._weight, allowed & (self._weight > 0), request.limit),
        ]
        fused: dict[int, float] = {}
        for ranked in lists:
            for place, row in enumerate(ranked, start=1):
                fused[row] = fused.get(row, 0.0) + 1 / (weighing.k + place)
        most = max(1, self._halves) / (weighing.k + 1)
        scored = sorted(((score / most, self._memory(row).id, row) for row, score in fused.items()), reverse=True)
        least = request.min_score or 0.0
        return [self._told(row, score) for score, _, row in scored[: request.limit] if score >= least]

    def _allowed(self, request: SearchMemory) -> Mask:
        masks = [index.allowed(request.types, request.filters) for index in self._indexes]
        return np.concatenate(masks) if masks else np.zeros(0, dtype=np.bool_)

    def _top(self, values: Floats, mask: Mask, limit: int) -> list[int]:
        rows, most = np.flatnonzero(mask), max(_RANKED, 2 * limit)
        if len(rows) > most:
            last = np.partition(values[rows], -most)[-most]
            rows = rows[values[rows] >= last]  # with all that are equal to the last: their ids decide
        return sorted(rows.tolist(), key=lambda row: (values[row], self._memory(row).id), reverse=True)[:most]

    def _place(self, row: int) -> tuple[int, int]:
        number = bisect_right(self._starts, row) - 1
        return number, row - self._starts[number]

    def _memory(self, row: int) -> Memory:
        number, inner = self._place(row)
        return self._indexes[number].memory(inner)

    def _told(self, row: int, score: float) -> dict[str, Any]:
        number, inner = self._place(row)
        told = self._indexes[number].memory(inner).shown(self._names[number])
        similarity = float(self._similarity[row])
        return {
            **told,
            "score": round(score, 4),
            "similarity": round(similarity, 4) if math.isfinite(similarity) else None,
        }


def _joined(parts: Sequence[Floats]) -> Floats:
    return np.concatenate(parts) if parts else np.zeros(0, dtype=np.float32)
