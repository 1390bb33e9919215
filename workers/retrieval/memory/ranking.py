"""Ranks memories for a query: by meaning and by words, fused by reciprocal rank; what is newer before what it changes.

The order is the same in every process: of equally good ones the newest is first, and cosines are rounded, because their
last digits differ between machines.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np

from sessions.protocol.filters import parse_filter
from sessions.protocol.memory_requests import SearchMemory
from sessions.store.memory_record import Memory
from workers.retrieval.memory.metadata import Mask
from workers.retrieval.memory.scope_index import ScopeIndex
from workers.retrieval.memory.vectors import Floats
from workers.retrieval.ports import CosineScale, SparseVector

_RANKED: Final = 100
_COMPARED: Final = 20
_DIGITS: Final = 5


@dataclass(frozen=True, slots=True)
class RankingWeights:
    """Parameters of the ranking; `python -m benchmarks.memory_found` measures them.

    The model's `CosineScale` tells which memories are related to a query, and which two are about the same. Of two that
    are about the same, the newer one comes first, even if the older one is closer to the query.

    Attributes:
        k: the constant of reciprocal rank fusion: rank r scores 1 / (k + r).
        words: the weight of the rank by words, next to 1 for that by meaning. It is small, since distractors are what
            shares words with a question and does not answer it.
        words_alone: the same for a memory without a vector, whose rank by meaning is not known.
        near: how much closer the older one may be, as a share of the model's scale from `unrelated` to `same`.
        words_kept: the share of the older one's words of the query that the newer one must have.
    """

    k: float = 2.0
    words: float = 0.2
    words_alone: float = 0.7
    near: float = 0.43
    words_kept: float = 0.7


@dataclass(frozen=True, slots=True)
class _Scored:
    score: float
    row: int
    memory: Memory


class Ranking:
    """The memories of several scopes, as one list of rows, compared with one query."""

    def __init__(
        self,
        indexes: Mapping[str, ScopeIndex],
        vector: Floats | None,
        sparse: SparseVector,
        scale: CosineScale,
        weights: RankingWeights | None = None,
    ) -> None:
        """Compare the memories with a query.

        Args:
            indexes: the scopes by their names.
            vector: the query's vector; None if only words are compared.
            sparse: the query's terms.
            scale: what the cosines of the query tell.
            weights: the parameters.
        """
        self._names = list(indexes)
        self._indexes = list(indexes.values())
        similarities = [index.similarities(vector) for index in self._indexes]
        self._starts = np.cumsum([0, *(len(found) for found in similarities)]).tolist()
        self._similarity = np.round(_joined(similarities), _DIGITS)
        idf_weights = self._idf_weights(sparse)
        self._weight = np.round(_joined([index.term_weights(idf_weights) for index in self._indexes]), _DIGITS)
        self._dense, self._lexical = vector is not None, bool(sparse.indices)
        self._scale = scale
        self._weights = weights or RankingWeights()

    def _idf_weights(self, query: SparseVector) -> dict[int, float]:
        """The weight of each query term times its inverse document frequency over all searched scopes."""
        total = sum(len(index) for index in self._indexes)
        idf_weights = {}
        for term, weight in zip(query.indices, query.values, strict=True):
            having = sum(index.document_frequency(term) for index in self._indexes)
            idf_weights[term] = weight * math.log(1 + (total - having + 0.5) / (having + 0.5))
        return idf_weights

    def best(self, request: SearchMemory) -> list[dict[str, Any]]:
        """The best matches for the request, as dicts for the caller."""
        scored = [_Scored(score, row, self._memory(row)) for row, score in self._scores(request).items()]
        scored.sort(key=lambda one: (one.score, one.memory.recency), reverse=True)
        best = self._newer_first(self._once(scored), request.limit)
        least = request.min_score or 0.0
        return [self._result(one.row, one.score) for one in best[: request.limit] if one.score >= least]

    def _scores(self, request: SearchMemory) -> dict[int, float]:
        """The scores of the rows that meaning or words find: 1 for the first by both."""
        allowed, related = self._allowed(request), self._similarity >= self._scale.floor
        near = self._top(self._similarity, self._weight, allowed & related, request.limit)
        worded = self._top(self._weight, self._similarity, allowed & (self._weight > 0), request.limit)
        fused = {row: self._scale.trust / (self._weights.k + place) for place, row in enumerate(near, start=1)}
        for place, row in enumerate(worded, start=1):
            fused[row] = fused.get(row, 0.0) + self._words_weight(row) / (self._weights.k + place)
        by_both = self._scale.trust + self._lexical * self._trusted(self._weights.words)
        first = by_both if self._dense else 1.0
        return {row: min(1.0, score * (self._weights.k + 1) / first) for row, score in fused.items()}

    def _words_weight(self, row: int) -> float:
        """The weight of a row's rank by words."""
        if not self._dense:
            return 1.0
        known = math.isfinite(self._similarity[row])
        return self._trusted(self._weights.words if known else self._weights.words_alone)

    def _trusted(self, words: float) -> float:
        """A weight of words, raised towards 1 as far as the cosines cannot be relied upon."""
        return 1 - self._scale.trust * (1 - words)

    def _once(self, scored: Sequence[_Scored]) -> list[_Scored]:
        """The newest of the memories of one scope with the same content; earlier versions kept them all."""
        newest: dict[tuple[int, bytes], _Scored] = {}
        for one in scored:
            key = (self._place(one.row)[0], one.memory.content)
            if key not in newest or one.memory.recency > newest[key].memory.recency:
                newest[key] = one
        kept = {one.row for one in newest.values()}
        return [one for one in scored if one.row in kept]

    def _newer_first(self, scored: list[_Scored], limit: int) -> list[_Scored]:
        """Move a memory before an older and better one that is about the same: it may say what has changed since."""
        left, ordered = scored[: max(_COMPARED, limit)], []
        rest = scored[len(left) :]
        while left:
            first = left[0]
            newest = max(
                (one for one in left if one is first or self._supersedes(one, first)),
                key=lambda one: one.memory.recency,
            )
            left.remove(newest)
            ordered.append(newest if newest is first else replace(newest, score=first.score))
        return ordered + rest

    def _supersedes(self, newer: _Scored, older: _Scored) -> bool:
        if newer.memory.recency <= older.memory.recency:
            return False
        one, other = self._vector(newer.row), self._vector(older.row)
        if one is None or other is None:
            return False
        weights, span = self._weights, self._scale.same - self._scale.unrelated
        if self._similarity[newer.row] < self._similarity[older.row] - weights.near * span:
            return False
        if self._weight[newer.row] < self._weight[older.row] * weights.words_kept:
            return False
        lengths = float(np.linalg.norm(one) * np.linalg.norm(other))
        return round(float(np.vecdot(one, other)) / (lengths or 1.0), _DIGITS) >= self._scale.alike

    def _vector(self, row: int) -> Floats | None:
        number, inner = self._place(row)
        return self._indexes[number].vector(inner)

    def _allowed(self, request: SearchMemory) -> Mask:
        filters = parse_filter(request.filters)
        masks = [index.allowed(request.types, filters) for index in self._indexes]
        return np.concatenate(masks) if masks else np.zeros(0, dtype=np.bool_)

    def _top(self, values: Floats, others: Floats, mask: Mask, limit: int) -> list[int]:
        """The rows with the largest values; the other half decides between equal ones, then the age."""
        rows, most = np.flatnonzero(mask), max(_RANKED, 2 * limit)
        if len(rows) > most:
            last = np.partition(values[rows], -most)[-most]
            rows = rows[values[rows] >= last]  # including all ties with the last one
        return sorted(
            rows.tolist(), key=lambda row: (values[row], others[row], self._memory(row).recency), reverse=True
        )[:most]

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
