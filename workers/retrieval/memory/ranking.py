"""Ranks memories for a query: by meaning and by words, fused by reciprocal rank; what is newer before what it changes.

The order is the same in every process: of equally good ones the newest is first, and cosines are rounded, because their
last digits differ between machines.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
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
_COMPARED: Final = 20
_DIGITS: Final = 5


@dataclass(frozen=True, slots=True)
class RankingWeights:
    """Parameters of the ranking. The defaults suit MiniLM; `python -m benchmarks.memory_found` measures them.

    Attributes:
        k: the constant of reciprocal rank fusion: rank r scores 1 / (k + r).
        floor: the cosine below which a memory counts as unrelated, unless it contains a word of the query.
        words: the weight of the rank by words, next to 1 for that by meaning. It is small, since distractors are what
            shares words with a question and does not answer it.
        words_alone: the same for a memory without a vector, whose rank by meaning is not known.
        about_same: the cosine from which two memories are about the same, so that the newer one comes first;
        near: unless its similarity to the query is lower by more than this,
        words_kept: or it has less than this share of the older one's words of the query.
    """

    k: float = 2.0
    floor: float = 0.2
    words: float = 0.2
    words_alone: float = 0.7
    about_same: float = 0.75
    near: float = 0.3
    words_kept: float = 0.7


@dataclass(frozen=True, slots=True)
class _Scored:
    score: float
    row: int
    memory: Memory


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
        self._dense, self._lexical = vector is not None, bool(sparse.indices)

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
            self._top(self._similarity, self._weight, allowed & (self._similarity >= weights.floor), request.limit),
            self._top(self._weight, self._similarity, allowed & (self._weight > 0), request.limit),
        ]
        fused: dict[int, float] = {}
        for ranked, weight_of in zip(lists, (lambda _: 1.0, self._words_weight(weights)), strict=True):
            for place, row in enumerate(ranked, start=1):
                fused[row] = fused.get(row, 0.0) + weight_of(row) / (weights.k + place)
        most = max((self._dense + self._lexical * weights.words) if self._dense else 1.0, 1.0) / (weights.k + 1)
        scored = [_Scored(min(1.0, score / most), row, self._memory(row)) for row, score in fused.items()]
        scored.sort(key=lambda one: (one.score, one.memory.recency), reverse=True)
        best = self._newer_first(self._once(scored), weights, request.limit)
        least = request.min_score or 0.0
        return [self._result(one.row, one.score) for one in best[: request.limit] if one.score >= least]

    def _words_weight(self, weights: RankingWeights) -> Callable[[int], float]:
        if not self._dense:
            return lambda _: 1.0
        return lambda row: weights.words if math.isfinite(self._similarity[row]) else weights.words_alone

    def _once(self, scored: Sequence[_Scored]) -> list[_Scored]:
        """The newest of the memories of one scope with the same content; earlier versions kept them all."""
        newest: dict[tuple[int, bytes], _Scored] = {}
        for one in scored:
            key = (self._place(one.row)[0], one.memory.content)
            if key not in newest or one.memory.recency > newest[key].memory.recency:
                newest[key] = one
        kept = {one.row for one in newest.values()}
        return [one for one in scored if one.row in kept]

    def _newer_first(self, scored: list[_Scored], weights: RankingWeights, limit: int) -> list[_Scored]:
        """Move a memory before an older and better one that is about the same: it may say what has changed since."""
        left, ordered = scored[: max(_COMPARED, limit)], []
        rest = scored[len(left) :]
        while left:
            first = left[0]
            newest = max(
                (one for one in left if one is first or self._supersedes(one, first, weights)),
                key=lambda one: one.memory.recency,
            )
            left.remove(newest)
            ordered.append(newest if newest is first else replace(newest, score=first.score))
        return ordered + rest

    def _supersedes(self, newer: _Scored, older: _Scored, weights: RankingWeights) -> bool:
        if newer.memory.recency[0] <= older.memory.recency[0]:
            return False
        one, other = self._vector(newer.row), self._vector(older.row)
        if one is None or other is None or self._similarity[newer.row] < self._similarity[older.row] - weights.near:
            return False
        if self._weight[newer.row] < self._weight[older.row] * weights.words_kept:
            return False
        lengths = float(np.linalg.norm(one) * np.linalg.norm(other))
        return round(float(np.vecdot(one, other)) / (lengths or 1.0), _DIGITS) >= weights.about_same

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
            rows = rows[values[rows] >= last]  # including all ties with the last one, which ids decide
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
