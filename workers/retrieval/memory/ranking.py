"""Ranks memories for a query: by meaning and by words, fused by reciprocal rank; what is newer before what it changes.

The order is the same in every process: of equally good ones the newest is first, and cosines are rounded, because their
last digits differ between machines.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from sessions.protocol.filters import parse_filter
from sessions.protocol.memory_requests import SearchMemory
from sessions.store.memory_record import Memory, plain_text
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
        best = self._newer_first(self._once(self._sorted(self._scores(request))), request.limit)
        least = request.min_score or 0.0
        return [self._result(one.row, one.score) for one in best[: request.limit] if one.score >= least]

    def _scores(self, request: SearchMemory) -> dict[int, float]:
        """The scores of the rows that meaning or words find: 1 for the first by both."""
        allowed, related = self._allowed(request), self._similarity >= self._scale.floor
        near = self._top(self._similarity, self._weight, allowed & related, request.limit)
        worded = self._top(self._weight, self._similarity, allowed & (self._weight > 0), request.limit)
        k, trust = self._weights.k, self._scale.trust
        fused = {row: trust / (k + place) for place, row in enumerate(near, start=1)}
        for place, (row, weight) in enumerate(zip(worded, self._words_weights(worded), strict=True), start=1):
            fused[row] = fused.get(row, 0.0) + weight / (k + place)
        by_both = trust + self._lexical * self._trusted(self._weights.words)
        first = by_both if self._dense else 1.0
        return {row: min(1.0, score * (k + 1) / first) for row, score in fused.items()}

    def _words_weights(self, rows: Sequence[int]) -> list[float]:
        """The weight of each row's rank by words."""
        if not self._dense:
            return [1.0] * len(rows)
        known, alone = self._trusted(self._weights.words), self._trusted(self._weights.words_alone)
        return [known if finite else alone for finite in np.isfinite(self._similarity[rows]).tolist()]

    def _trusted(self, words: float) -> float:
        """A weight of words, raised towards 1 as far as the cosines cannot be relied upon."""
        return 1 - self._scale.trust * (1 - words)

    def _sorted(self, scores: Mapping[int, float]) -> list[_Scored]:
        """The rows by their scores; the newest of those with the same score first."""
        rows = _descending([(score,) for score in scores.values()], list(scores), self._recency)
        return [_Scored(scores[row], row, self._memory(row)) for row in rows]

    def _once(self, scored: Sequence[_Scored]) -> list[_Scored]:
        """The newest of the memories of one scope with the same content; earlier versions kept them all."""
        alike: dict[tuple[int, str], list[_Scored]] = {}
        for one in scored:
            alike.setdefault((self._place(one.row)[0], plain_text(one.memory.text)), []).append(one)
        dropped: set[int] = set()
        for group in alike.values():
            if len(group) > 1:  # only these have to be compared as a whole
                newest = {one.memory.content: one for one in sorted(group, key=lambda one: one.memory.recency)}
                dropped.update({one.row for one in group} - {one.row for one in newest.values()})
        return [one for one in scored if one.row not in dropped]

    def _newer_first(self, scored: list[_Scored], limit: int) -> list[_Scored]:
        """Move a memory before an older and better one that is about the same: it may say what has changed since."""
        compared = scored[: max(_COMPARED, limit)]
        superseded = self._superseded(compared)
        left, ordered = list(range(len(compared))), []
        while left:
            first = left[0]
            newest = max(
                (at for at in left if at == first or superseded[first, at]),
                key=lambda at: compared[at].memory.recency,
            )
            left.remove(newest)
            one = compared[newest]
            ordered.append(one if newest == first else replace(one, score=compared[first].score))
        return ordered + scored[len(compared) :]

    def _superseded(self, scored: Sequence[_Scored]) -> Mask:
        """Whether a memory (the first index) is superseded by another one (the second), which is newer."""
        times = sorted({one.memory.recency for one in scored})
        newness = np.array([bisect_right(times, one.memory.recency) for one in scored])
        vectors = [self._vector(one.row) for one in scored]
        known = [at for at, vector in enumerate(vectors) if vector is not None]
        result: Mask = np.zeros((len(scored), len(scored)), dtype=np.bool_)
        if not known:
            return result
        rows = np.array([scored[at].row for at in known])
        weights, span = self._weights, self._scale.same - self._scale.unrelated
        close, worded = self._similarity[rows], self._weight[rows]
        result[np.ix_(known, known)] = (
            (newness[known] > newness[known][:, None])
            & (close >= close[:, None] - weights.near * span)
            & (worded >= worded[:, None] * weights.words_kept)
            & (_cosines(np.array([vectors[at] for at in known])) >= self._scale.alike)
        )
        return result

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
        pairs = list(zip(values[rows].tolist(), others[rows].tolist(), strict=True))
        return _descending(pairs, rows.tolist(), self._recency)[:most]

    def _recency(self, row: int) -> tuple[int, str]:
        return self._memory(row).recency

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


def _cosines(vectors: Floats) -> npt.NDArray[np.float64]:
    """The cosine of each vector with each other one, rounded."""
    lengths = np.sqrt(np.vecdot(vectors, vectors))
    products = (lengths[:, None] * lengths).astype(np.float64)
    found: npt.NDArray[np.float64] = np.vecdot(vectors[:, None], vectors) / np.where(products > 0, products, 1.0)
    return np.round(found, _DIGITS)


def _descending(
    values: Sequence[tuple[float, ...]], rows: Sequence[int], recency: Callable[[int], tuple[int, str]]
) -> list[int]:
    """The rows by their values, the largest first; of those with the same values, which are few, the newest first."""
    equal = Counter(values)
    keys = {row: (value, recency(row) if equal[value] > 1 else ()) for value, row in zip(values, rows, strict=True)}
    return sorted(rows, key=keys.__getitem__, reverse=True)
