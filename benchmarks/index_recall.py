"""Searches of one scope that has all chunks: with codes and without, their CPU time, and whether they find the same.

`python -m benchmarks.index_recall [CHUNKS]`. Random vectors are the worst case for codes: no direction is empty, and
the nearest chunks are hardly nearer than others. CPU time, because it hardly depends on what else the machine does.
"""

from __future__ import annotations

import asyncio
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import qdrant_edge as edge

from benchmarks.synthetic_data import RandomVectors, Texts, fill
from workers.retrieval.index.embedded import EmbeddedIndex
from workers.retrieval.index.embedded.points import engine_config, engine_filter
from workers.retrieval.index.embedded.shard import DATA, Shard
from workers.retrieval.index.fusion import CANDIDATES
from workers.retrieval.index.records import DENSE, query_conditions
from workers.retrieval.ports import IndexQuery, Scope
from workers.retrieval.words.bm25 import Bm25Model

_SCOPE = Scope("default", "base:bench")
_MODEL = RandomVectors.info
_SEARCHES = 50
_FOUND = CANDIDATES


def main() -> None:
    """Measure, and print the figures."""
    points = int(sys.argv[1]) if sys.argv[1:] else 100_000
    with tempfile.TemporaryDirectory(prefix="sessionfleet-bench-") as folder:
        asyncio.run(_fill(Path(folder), points))
        collection = Path(folder) / "bench"
        queries = asyncio.run(_queries())
        exact = _exact(collection, queries)
        shard = Shard.load(collection)
        found = [_search(shard, query, limit=_FOUND) for query in queries]
        few = _timed(queries, lambda query: _search(shard, query))
        hybrid = _timed(queries, lambda query: _search(shard, query, hybrid=True))
        shard.close()
        recalls = [len(set(a) & set(b)) / _FOUND for a, b in zip(exact[1], found, strict=True)]
        _say(f"{points:,} chunks in one scope, dense search with its filter, all vectors compared", exact[0])
        _say("... codes compared, without the filter where possible", few[0])
        _say("... and with words (BM25), as a search of a worker", hybrid[0])
        print(f"of the nearest {_FOUND}, found: {statistics.mean(recalls):.4f}")
        codes, files = _size(collection, "quantized_data"), _size(collection)
        print(f"on disk: {files / 1e6:.0f} MB, of which {codes / 1e6:.0f} MB are codes")


async def _fill(folder: Path, points: int) -> None:
    index = EmbeddedIndex.open(folder)
    await fill(index, "bench", _MODEL, _SCOPE, points)
    await index.close()


async def _queries() -> list[IndexQuery]:
    texts, lexical = Texts(), Bm25Model()
    dense = await RandomVectors(seed=2).embed_documents([""] * _SEARCHES)
    return [IndexQuery(vector, lexical.query(texts.sentence(6)), [_SCOPE]) for vector in dense]


def _search(shard: Shard, query: IndexQuery, *, limit: int = 5, hybrid: bool = False) -> list[str]:
    asked = replace(query, sparse=query.sparse if hybrid else None, limit=limit)
    return [hit.id for hit in shard.search(_MODEL, asked)]


def _exact(collection: Path, queries: Sequence[IndexQuery]) -> tuple[list[float], list[list[str]]]:
    engine = edge.EdgeShard.load(str(collection / DATA), engine_config(_MODEL))

    def search(query: IndexQuery) -> list[str]:
        conditions = query_conditions(query)
        assert conditions is not None
        assert query.dense is not None
        request = edge.QueryRequest(
            limit=_FOUND,
            query=edge.Query.Nearest(list(query.dense), using=DENSE),
            filter=engine_filter(conditions),
            params=edge.SearchParams(exact=True),
        )
        return [str(hit.id) for hit in engine.query(request)]

    done = _timed(queries, search)
    engine.close()
    return done


def _timed(
    queries: Sequence[IndexQuery], search: Callable[[IndexQuery], list[str]]
) -> tuple[list[float], list[list[str]]]:
    taken, found = [], []
    for query in queries:
        began = time.thread_time()
        found.append(search(query))
        taken.append((time.thread_time() - began) * 1000)
    return sorted(taken), found


def _say(what: str, taken: Sequence[float]) -> None:
    print(f"{what}: p50 {statistics.median(taken):.1f} ms of CPU, least {taken[0]:.1f}")


def _size(folder: Path, part: str = "") -> int:
    return sum(path.stat().st_blocks * 512 for path in folder.rglob("*") if path.is_file() and part in str(path))


if __name__ == "__main__":
    main()
