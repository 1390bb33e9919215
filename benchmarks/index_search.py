"""The index alone, with 50 scopes: searches of one of them, alone and next to a writer that never rests.

`python -m benchmarks.index_search [CHUNKS ...]`; a row of `make bench` searches one scope that has all chunks
(`knowledge_alone`). Each engine and size is measured in a separate process, so that its memory contains nothing else.
"""

from __future__ import annotations

import asyncio
import contextlib
import multiprocessing
import sys
import tempfile
import time
import warnings
from collections.abc import AsyncIterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import psutil
from qdrant_client import AsyncQdrantClient
from rich.console import Console

from benchmarks.producers import quantile
from benchmarks.report import Report, Row
from benchmarks.scale import ProgressCallback, Scale
from benchmarks.synthetic_data import RandomVectors, Texts, chunks, fill
from workers.retrieval.index.embedded import EmbeddedIndex
from workers.retrieval.index.server import ServerIndex
from workers.retrieval.index.server.requests import Requests
from workers.retrieval.ports import IndexPoint, IndexQuery, KnowledgeIndex, Scope
from workers.retrieval.words.bm25 import Bm25Model

_SCOPES = [Scope(f"tenant{number}", "base:handbook") for number in range(50)]
_COLLECTION = "bench"
_MODEL = RandomVectors.info


@dataclass(frozen=True)
class Figures:
    """For one engine at one size: milliseconds and bytes."""

    alone: list[float]
    written_to: list[float]
    pause: float
    opened: float
    memory: int


def index_search(scale: Scale, progress: ProgressCallback) -> list[Row]:
    """p50 and p99 of searches, how long the event loop was blocked, and memory, at each size."""
    rows = []
    for points in scale.points:
        progress(f"{points:,} chunks, embedded")
        ours = _apart("embedded", points, scale.searches)
        local = None
        if points <= scale.local_most:
            progress(f"{points:,} chunks, qdrant-client's local mode")
            local = _apart("local", points, max(1, scale.searches // 10))
        rows += _rows(points, ours, local)
    return rows


def _rows(points: int, ours: Figures, local: Figures | None) -> list[Row]:
    def row(what: str, share: float) -> Row:
        mine, other = quantile(ours.alone, share), None if local is None else quantile(local.alone, share)
        return Row(what, mine, local=other, ratio="" if other is None else f"{other / mine:.0f} x faster than local")

    return [
        row(f"{points:,} chunks, search of 1 scope of {len(_SCOPES)}, p50, ms", 0.5),
        row("... p99, ms", 0.99),
        Row("... next to a writer, p50, ms", quantile(ours.written_to, 0.5)),
        Row("... next to a writer, p99, ms", quantile(ours.written_to, 0.99)),
        Row("... longest pause of the event loop meanwhile, ms", ours.pause),
        Row("... opening the collection, ms", ours.opened),
        Row("... memory that the index adds, MB", ours.memory / 1e6, local=local and local.memory / 1e6),
    ]


def _apart(engine: str, points: int, searches: int) -> Figures:
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:
        return process.submit(_measured, engine, points, searches).result()


def _measured(engine: str, points: int, searches: int) -> Figures:
    warnings.simplefilter("ignore")  # the local mode says that it has no payload indexes
    with tempfile.TemporaryDirectory(prefix="sessionfleet-bench-") as folder:
        return asyncio.run(_measure(engine, Path(folder), points, searches))


async def _measure(engine: str, folder: Path, points: int, searches: int) -> Figures:
    index = _open(engine, folder)
    for scope in _SCOPES:
        await fill(index, _COLLECTION, _MODEL, scope, points // len(_SCOPES))
    if engine == "embedded":  # memory as after a start, without what filling left behind
        await index.close()
        index = _open(engine, folder)
    process = psutil.Process()
    before, began = process.memory_info().rss, time.perf_counter()
    await index.count(_COLLECTION, _SCOPES[0])
    opened = (time.perf_counter() - began) * 1000
    queries = await _queries(searches)
    alone = await _timed(index, queries)
    memory = process.memory_info().rss - before
    async with _writer(index), _pauses() as pauses:
        written_to = await _timed(index, queries)
    await index.close()
    return Figures(alone, written_to, max(pauses), opened, memory)


def _open(engine: str, folder: Path) -> KnowledgeIndex:
    if engine == "embedded":
        return EmbeddedIndex.open(folder)
    return ServerIndex(AsyncQdrantClient(":memory:"), Requests("local mode"))


async def _queries(count: int) -> list[IndexQuery]:
    texts, lexical = Texts(), Bm25Model()
    vectors = await RandomVectors(seed=2).embed_documents([""] * count)
    return [
        IndexQuery(vector, lexical.query(texts.sentence(6)), [_SCOPES[number % len(_SCOPES)]])
        for number, vector in enumerate(vectors)
    ]


async def _timed(index: KnowledgeIndex, queries: list[IndexQuery]) -> list[float]:
    """Milliseconds of each, sorted."""
    taken = []
    for query in queries:
        began = time.perf_counter()
        hits = await index.search(_COLLECTION, _MODEL, query)
        taken.append((time.perf_counter() - began) * 1000)
        assert hits
    return sorted(taken)


@contextlib.asynccontextmanager
async def _writer(index: KnowledgeIndex) -> AsyncIterator[None]:
    """Meanwhile, documents come and go as fast as possible: there is no model to wait for."""
    scope = Scope("writer", "base:new")
    documents = [document async for document in chunks(scope, 2_000)]
    writing = asyncio.create_task(_write(index, scope, documents))
    try:
        yield
    finally:
        writing.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await writing


async def _write(index: KnowledgeIndex, scope: Scope, documents: list[list[IndexPoint]]) -> None:
    while True:
        for document in documents:
            await index.write(_COLLECTION, _MODEL, document)
            await index.publish(_COLLECTION, scope, document[0].source, document[0].revision)
            await asyncio.sleep(0)
        await index.remove(_COLLECTION, scope)


@contextlib.asynccontextmanager
async def _pauses() -> AsyncIterator[list[float]]:
    """How long the event loop was blocked, each time, in milliseconds."""
    pauses = [0.0]

    async def tick() -> None:
        while True:
            began = time.perf_counter()
            await asyncio.sleep(0.001)
            pauses.append((time.perf_counter() - began) * 1000 - 1)

    ticking = asyncio.create_task(tick())
    try:
        yield pauses
    finally:
        ticking.cancel()


def main() -> None:
    """Measure, and show the table."""
    console = Console(stderr=True)
    scale = Scale(points=tuple(int(size) for size in sys.argv[1:])) if sys.argv[1:] else Scale()
    report = Report("qdrant-edge", quick=False)
    report.add(index_search(scale, console.print))
    report.show(Console(width=150))


if __name__ == "__main__":
    main()
