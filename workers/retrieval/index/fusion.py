"""Fuses what a search finds by meaning with what it finds by words, into one score between 0 and 1.

    score = weight * meaning + (1 - weight) * words

`meaning` is the cosine, from 0 for the usual one of texts that have nothing in common to 1 for texts that say the same.
`words` is the BM25 score in relation to the best one, times the share of the query's words that the best one has. So a
score means the same in every search, and a passage is not first because the others are worse, which is all that a rank
says. docs/retrieval.md has the figures.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any, Final

from workers.retrieval.index.records import DENSE, cosine, hit_of
from workers.retrieval.ports import Hit, IndexQuery

CANDIDATES: Final = 50
"""How many passages each half of a search finds, unless more hits are wanted."""

# Of passages that were found by words only, the cosine is not known before they are read: so many more are read.
_SPARE: Final = 10


class Candidates:
    """What both halves of a search found."""

    def __init__(
        self, query: IndexQuery, cosines: Mapping[str, float], bm25: Mapping[str, float], best_terms: Collection[int]
    ) -> None:
        """Collect the candidates, by id.

        Args:
            query: the query.
            cosines: those of the passages that were found by meaning.
            bm25: the scores of the passages that were found by words.
            best_terms: the terms of the best of these.
        """
        self._query = query
        self._cosines = cosines
        share = covered(query, best_terms) / max(bm25.values()) if bm25 else 0.0
        self._words = {found: share * weight for found, weight in bm25.items()}
        # A passage that was found by words only has no larger cosine than the least that was found by meaning.
        least = min(cosines.values(), default=None)
        likely = {found: cosines.get(found, least) for found in {**cosines, **bm25}}
        order = {found: _order(self.score(found, near), near, found) for found, near in likely.items()}
        self.best = sorted(order, key=order.__getitem__)[: query.limit + _SPARE]

    @property
    def need_vectors(self) -> bool:
        """Whether one of `best` was found by words only, so that its cosine is computed from its vector."""
        return self._query.dense is not None and not self._cosines.keys() >= set(self.best)

    def hits(self, records: Iterable[Any]) -> list[Hit]:
        """The best of `best`, from their stored records; without those that are gone by now.

        Args:
            records: with the dense vectors, if `need_vectors`.
        """
        found = [(record, self._similarity(record)) for record in records]
        scored = [(self.score(str(record.id), similarity), similarity, record) for record, similarity in found]
        scored.sort(key=lambda one: _order(one[0], one[1], str(one[2].id)))
        kept = [one for one in scored[: self._query.limit] if one[0] >= self._query.min_score]
        return [hit_of(record, score, similarity) for score, similarity, record in kept]

    def _similarity(self, record: Any) -> float | None:
        if self._query.dense is None:
            return None
        known = self._cosines.get(str(record.id))
        return cosine(self._query.dense, record.vector[DENSE]) if known is None else known

    def score(self, found: str, similarity: float | None) -> float:
        """The score of a candidate, given its cosine; None if only words are compared."""
        words = min(1.0, self._words.get(found, 0.0))
        if similarity is None:
            return words
        weight = 1.0 if self._query.sparse is None else self._query.scale.weight
        return weight * self._query.scale.meaning(similarity) + (1 - weight) * words


def _order(score: float, similarity: float | None, found: str) -> tuple[float, float, str]:
    """Where a candidate comes, the best first. Of equal scores, such as several of 1, the nearest comes first."""
    return -score, -(similarity or 0.0), found


def covered(query: IndexQuery, terms: Collection[int]) -> float:
    """The share of the query's words of which a passage with these terms has a form."""
    words = query.words or [frozenset([term]) for term in (query.sparse.indices if query.sparse else ())]
    held = set(terms)
    return sum(not word.isdisjoint(held) for word in words) / len(words) if words else 0.0
