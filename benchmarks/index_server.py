"""The same chunks in the embedded index and on a Qdrant server, in one run: adding, searching, and what is found.

`QDRANT_URL=http://127.0.0.1:6333 python -m benchmarks.index_server [CHUNKS ...]`. Each collection is called `bench-...`
and removed afterwards. The server's searches are measured once its optimiser has ended, since it builds the graph of a
segment in the background. Vectors have 40 directions and some noise, since random ones have no neighbours that a graph
could follow, and those of texts do. A query is a stored vector turned so far that its cosine with it is 0.7, as that of
a question and its answer. `exact` asks the server for the true neighbours.
"""

from __future__ import annotations

import asyncio
import os
import statistics
import sys
import tempfile
import time
import uuid
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import psutil
from qdrant_client import AsyncQdrantClient, models

from benchmarks.synthetic_data import RandomVectors, Texts, chunks
from workers.retrieval.index.embedded import EmbeddedIndex
from workers.retrieval.index.records import DENSE, query_conditions
from workers.retrieval.index.server import ServerIndex
from workers.retrieval.index.server.points import server_filter
from workers.retrieval.ports import IndexPoint, IndexQuery, KnowledgeIndex, Scope
from workers.retrieval.words.bm25 import Bm25Model

_SCOPE = Scope("default", "base:bench")
_FEW = [Scope(f"tenant{number}", "base:bench") for number in range(50)]
_MODEL = RandomVectors.info
_BATCH = 16  # chunks, as a worker writes them
_TIMED = 2_000  # chunks that are added so; the others are written document by document
_SEARCHES = 100
_NEAREST = 10
_COSINE = 0.7
_DIRECTIONS = 40
_NOISE = 0.15
_SETTLED = 5.0  # seconds without a change of the collection's state
_LONGEST = 1800.0


@dataclass
class Figures:
    """Chunks that were added and in how many seconds, milliseconds of searches, the share of the nearest found."""

    added: int = 0
    seconds: float = 0.0
    settled: float = 0.0
    searches: list[float] = field(default_factory=list)
    found: float = 0.0


async def _measure(url: str, key: str | None, points: int, scopes: Sequence[Scope]) -> None:
    collection = f"bench-{uuid.uuid4().hex[:8]}"
    client = AsyncQdrantClient(url=url, api_key=key, timeout=60, check_compatibility=False)
    server = ServerIndex.connect(url, api_key=key, timeout=60)
    with tempfile.TemporaryDirectory(prefix="sessionfleet-bench-") as folder:
        embedded = EmbeddedIndex.open(Path(folder))
        figures = {"embedded": Figures(), "server": Figures()}
        try:
            vectors, dense = _Vectors(), list[list[float]]()
            added = 0
            async for document in _documents(points, scopes, vectors):
                if added < _TIMED:
                    for name, index in (("embedded", embedded), ("server", server)):
                        figures[name].seconds += await _add(index, collection, document, _BATCH)
                        figures[name].added += len(document)
                else:
                    await asyncio.gather(*(_add(index, collection, document, 256) for index in (embedded, server)))
                added += len(document)
                if len(dense) < _SEARCHES and document[0].scope == scopes[0]:
                    dense += [list(point.dense) for point in document[:_SEARCHES]]
            figures["server"].settled = await _settle(client, collection)
            queries = _queries(dense[:_SEARCHES], scopes[0], vectors)
            nearest = [await _exact(client, collection, query) for query in queries]
            for name, index in (("embedded", embedded), ("server", server)):
                await _search(index, collection, queries, nearest, figures[name])
        finally:
            await client.delete_collection(collection)
            await client.close()
            await server.close()
            await embedded.close()
    _say(points, scopes, figures)


class _Vectors:
    """Vectors that lie as those of texts do, and queries near them."""

    def __init__(self) -> None:
        self._numbers = np.random.default_rng(1)
        self._directions = self._numbers.standard_normal((_DIRECTIONS, _MODEL.dimension)) / _DIRECTIONS**0.5

    def some(self, count: int) -> list[list[float]]:
        noise = _NOISE * self._numbers.standard_normal((count, _MODEL.dimension))
        vectors = self._numbers.standard_normal((count, _DIRECTIONS)) @ self._directions + noise
        unit: list[list[float]] = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).tolist()
        return unit

    def near(self, stored: Sequence[float]) -> list[float]:
        vector, [other] = np.array(stored), np.array(self.some(1))
        other -= vector * (other @ vector)
        asked: list[float] = (_COSINE * vector + (1 - _COSINE**2) ** 0.5 * other / np.linalg.norm(other)).tolist()
        return asked


async def _documents(points: int, scopes: Sequence[Scope], vectors: _Vectors) -> AsyncIterator[list[IndexPoint]]:
    for scope in scopes:
        async for document in chunks(scope, points // len(scopes)):
            dense = vectors.some(len(document))
            yield [replace(point, dense=vector) for point, vector in zip(document, dense, strict=True)]


async def _add(index: KnowledgeIndex, collection: str, document: Sequence[IndexPoint], batch: int) -> float:
    """Seconds that it takes to write and publish a document."""
    began = time.perf_counter()
    for start in range(0, len(document), batch):
        await index.write(collection, _MODEL, document[start : start + batch])
    await index.publish(collection, document[0].scope, document[0].source, document[0].revision)
    return time.perf_counter() - began


async def _settle(client: AsyncQdrantClient, collection: str) -> float:
    """Wait until the server's optimiser has ended; returns the seconds."""
    began = last = time.monotonic()
    while time.monotonic() - last < _SETTLED:
        if (await client.get_collection(collection)).status is not models.CollectionStatus.GREEN:
            last = time.monotonic()
        if last - began > _LONGEST:
            raise RuntimeError(f"the server has not optimised the collection in {_LONGEST:.0f} s")
        await asyncio.sleep(0.2)
    return last - began


def _queries(stored: Sequence[Sequence[float]], scope: Scope, vectors: _Vectors) -> list[IndexQuery]:
    texts, lexical = Texts(), Bm25Model()
    return [IndexQuery(vectors.near(vector), lexical.query(texts.sentence(6)), [scope]) for vector in stored]


async def _exact(client: AsyncQdrantClient, collection: str, query: IndexQuery) -> set[str]:
    allowed = query_conditions(query)
    assert allowed is not None
    assert query.dense is not None
    answer = await client.query_points(
        collection, list(query.dense), using=DENSE, query_filter=server_filter(allowed), limit=_NEAREST,
        search_params=models.SearchParams(exact=True), with_payload=False,
    )  # fmt: skip
    return {str(point.id) for point in answer.points}


async def _search(
    index: KnowledgeIndex,
    collection: str,
    queries: Sequence[IndexQuery],
    nearest: Sequence[set[str]],
    figures: Figures,
) -> None:
    shares = []
    for query, expected in zip(queries, nearest, strict=True):
        by_meaning = IndexQuery(query.dense, None, query.scopes, limit=_NEAREST)
        hits = await index.search(collection, _MODEL, by_meaning)
        shares.append(len({hit.id for hit in hits} & expected) / len(expected))
    figures.found = statistics.mean(shares)
    for query in queries:
        began = time.perf_counter()
        assert await index.search(collection, _MODEL, query)
        figures.searches.append((time.perf_counter() - began) * 1000)
    figures.searches.sort()


def _say(points: int, scopes: Sequence[Scope], figures: dict[str, Figures]) -> None:
    load = psutil.getloadavg()[0]
    print(f"{points:,} chunks in {len(scopes)} scope(s), load average {load:.1f} on {psutil.cpu_count()} cores")
    for name, one in figures.items():
        taken = one.searches
        print(
            f"  {name}: {one.added / one.seconds:.0f} chunks/s added, search p50 {statistics.median(taken):.1f} ms, "
            f"p90 {taken[int(0.9 * len(taken))]:.1f} ms, of the nearest {_NEAREST} found {one.found:.3f}"
            + (f", optimised {one.settled:.0f} s after the last chunk" if name == "server" else "")
        )


def main() -> None:
    """Measure, and print the figures."""
    url, key = os.environ.get("QDRANT_URL"), os.environ.get("QDRANT_API_KEY")
    if not url:
        sys.exit("say where: QDRANT_URL=http://127.0.0.1:6333 python -m benchmarks.index_server")
    for points in [int(size) for size in sys.argv[1:]] or [10_000, 100_000]:
        for scopes in ([_SCOPE], _FEW):
            asyncio.run(_measure(url, key, points, scopes))


if __name__ == "__main__":
    main()
