"""A search on a Qdrant server: by meaning, by words, and both fused, in two requests.

What the first one finds can be gone when the second one reads it, because its document was replaced. The new revision
was not visible yet when the first one looked, so the search is then made again.
"""

from __future__ import annotations

from typing import Any, Final

from qdrant_client import AsyncQdrantClient, models

from workers.retrieval.index.fusion import CANDIDATES, Candidates
from workers.retrieval.index.records import DENSE, LEXICAL, query_terms
from workers.retrieval.index.server.requests import Requests
from workers.retrieval.ports import Hit, IndexQuery

_ATTEMPTS: Final = 3
# Qdrant's default of 100 misses a tenth of the nearest 50; see docs/knowledge-index.md.
_WIDTH: Final = models.SearchParams(hnsw_ef=256)


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
    asked = _requests(query, allowed)
    if not asked:
        return []
    for _ in range(_ATTEMPTS):
        found = await _candidates(client, requests, collection, query, asked)
        records = await _read(client, requests, collection, found) if found.best else []
        if len(records) == len(found.best):
            break
    return found.hits(records)


def _requests(query: IndexQuery, allowed: models.Filter) -> list[models.QueryRequest]:
    limit = max(CANDIDATES, query.limit)
    asked = []
    if query.dense is not None:
        asked.append(_nearest(list(query.dense), DENSE, allowed, limit, params=_WIDTH))
    if terms := query_terms(query):
        vector = models.SparseVector(indices=list(terms.indices), values=list(terms.values))
        # The best one a second time, with its terms: those of all would be most of the response.
        asked += [_nearest(vector, LEXICAL, allowed, limit), _nearest(vector, LEXICAL, allowed, 1, [LEXICAL])]
    return asked


async def _candidates(
    client: AsyncQdrantClient,
    requests: Requests,
    collection: str,
    query: IndexQuery,
    asked: list[models.QueryRequest],
) -> Candidates:
    answers = [answer.points for answer in await requests.send(lambda: client.query_batch_points(collection, asked))]
    best_terms: list[int] = []
    terms = query_terms(query)
    if terms:
        for best in answers.pop():
            vectors: Any = best.vector
            best_terms = vectors[LEXICAL].indices
    halves = [{str(point.id): point.score for point in points} for points in answers]
    return Candidates(query, {} if query.dense is None else halves[0], halves[-1] if terms else {}, best_terms)


async def _read(
    client: AsyncQdrantClient, requests: Requests, collection: str, found: Candidates
) -> list[models.Record]:
    ids: list[Any] = list(found.best)
    with_vectors = [DENSE] if found.need_vectors else False
    return await requests.send(lambda: client.retrieve(collection, ids, with_payload=True, with_vectors=with_vectors))


def _nearest(
    vector: Any,
    name: str,
    allowed: models.Filter,
    limit: int,
    vectors: list[str] | None = None,
    params: models.SearchParams | None = None,
) -> models.QueryRequest:
    return models.QueryRequest(
        query=vector, using=name, filter=allowed, limit=limit, with_vector=vectors, params=params
    )
