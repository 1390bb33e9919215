"""A search on a Qdrant server: by meaning, by words, and both fused, in two requests."""

from __future__ import annotations

from typing import Any

from qdrant_client import AsyncQdrantClient, models

from workers.retrieval.index.fusion import CANDIDATES, Candidates
from workers.retrieval.index.records import DENSE, LEXICAL, query_terms
from workers.retrieval.index.server.requests import Requests
from workers.retrieval.ports import Hit, IndexQuery


async def search_server(
    client: AsyncQdrantClient,
    requests: Requests,
    collection: str,
    query: IndexQuery,
    allowed: models.Filter,
) -> list[Hit]:
    """The best chunks that the filter allows; see `KnowledgeIndex.search`.

    Args:
        client: the server's client.
        requests: sends its requests.
        collection: the collection.
        query: the query.
        allowed: the filter of both halves.

    Raises:
        NoCollection: there is no such collection.
        IndexUnavailable: the server cannot answer now.
    """
    limit = max(CANDIDATES, query.limit)
    asked = []
    if query.dense is not None:
        asked.append(_nearest(list(query.dense), DENSE, allowed, limit))
    terms = query_terms(query)
    if terms:
        vector = models.SparseVector(indices=list(terms.indices), values=list(terms.values))
        # The best one a second time, with its terms: those of all would be most of the response.
        asked += [_nearest(vector, LEXICAL, allowed, limit), _nearest(vector, LEXICAL, allowed, 1, [LEXICAL])]
    if not asked:
        return []
    answers = [answer.points for answer in await requests.send(lambda: client.query_batch_points(collection, asked))]
    best_terms: list[int] = []
    if terms:
        for best in answers.pop():
            vectors: Any = best.vector
            best_terms = vectors[LEXICAL].indices
    halves = [{str(point.id): point.score for point in points} for points in answers]
    cosines = {} if query.dense is None else halves[0]
    found = Candidates(query, cosines, halves[-1] if terms else {}, best_terms)
    if not found.best:
        return []
    ids: list[Any] = list(found.best)
    with_vectors = [DENSE] if found.need_vectors else False
    return found.hits(
        await requests.send(lambda: client.retrieve(collection, ids, with_payload=True, with_vectors=with_vectors))
    )


def _nearest(
    vector: Any, name: str, allowed: models.Filter, limit: int, vectors: list[str] | None = None
) -> models.QueryRequest:
    return models.QueryRequest(query=vector, using=name, filter=allowed, limit=limit, with_vector=vectors)
