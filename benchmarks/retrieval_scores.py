"""Every passage's score for every question: by dense vectors, by words, and fused as an index fuses them."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from workers.retrieval.index.fusion import CANDIDATES, Candidates
from workers.retrieval.ports import EmbeddingModel, IndexQuery, Scope
from workers.retrieval.words.bm25 import Bm25Model


@dataclass(frozen=True)
class Scores:
    """Scores of passages (columns) for questions (rows).

    Attributes:
        queries: the questions as an index gets them.
        terms: of each passage.
    """

    queries: Sequence[IndexQuery]
    terms: Sequence[frozenset[int]]
    dense: np.ndarray
    lexical: np.ndarray


async def score_all(model: EmbeddingModel, texts: Sequence[str], questions: Sequence[str]) -> Scores:
    """Score the passages, exactly: without an index, over all of them."""
    lexical, scope = Bm25Model(), Scope("bench", "base:bench")
    vectors = np.array(await model.embed_documents(texts))
    queries = [
        IndexQuery(
            dense=await model.embed_query(text),
            sparse=lexical.query(text),
            scopes=[scope],
            limit=CANDIDATES,
            words=lexical.words(text),
            scale=model.scale(text),
        )
        for text in questions
    ]
    documents = [lexical.document(text) for text in texts]
    frequency = Counter(term for document in documents for term in document.indices)
    holding: defaultdict[int, list[tuple[int, float]]] = defaultdict(list)
    for number, document in enumerate(documents):
        for term, value in zip(document.indices, document.values, strict=True):
            # The inverse document frequency that Qdrant multiplies by.
            idf = math.log(1 + (len(texts) - frequency[term] + 0.5) / (frequency[term] + 0.5))
            holding[term].append((number, value * idf))
    words = np.zeros((len(questions), len(texts)))
    for row, query in zip(words, queries, strict=True):
        for term, weight in zip(query.sparse.indices, query.sparse.values, strict=True) if query.sparse else ():
            for number, value in holding[term]:
                row[number] += weight * value
    asked = np.array([query.dense for query in queries])
    return Scores(queries, [frozenset(document.indices) for document in documents], asked @ vectors.T, words)


def fused(scores: Scores, *, weight: float | None = None) -> np.ndarray:
    """The scores of an index that finds `CANDIDATES` by each half; 0 for what neither finds.

    Args:
        scores: the scores of both halves.
        weight: of meaning; None for what the model says of each question.
    """
    result = np.zeros_like(scores.dense)
    for query, row, dense, lexical in zip(scores.queries, result, scores.dense, scores.lexical, strict=True):
        if weight is not None:
            query = replace(query, scale=replace(query.scale, weight=weight))  # noqa: PLW2901
        cosines = {str(number): float(dense[number]) for number in _best(dense)}
        bm25 = {str(number): float(lexical[number]) for number in _best(lexical) if lexical[number] > 0}
        candidates = Candidates(query, cosines, bm25, scores.terms[int(next(iter(bm25)))] if bm25 else ())
        for found in candidates.best:
            row[int(found)] = candidates.score(found, float(dense[int(found)]))
    return result


def by_rank(scores: Scores, *, k: int) -> np.ndarray:
    """Reciprocal rank fusion, which was used before: the sum of 1 / (k + rank), from rank 0."""
    result = np.zeros_like(scores.dense)
    for half in (scores.dense, scores.lexical):
        for row, values in zip(result, half, strict=True):
            for rank, number in enumerate(_best(values)):
                row[number] += 1 / (k + rank) if values[number] > 0 else 0
    return result


def _best(values: np.ndarray) -> np.ndarray:
    return np.argsort(-values, kind="stable")[:CANDIDATES]
