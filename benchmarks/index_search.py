"""Searching knowledge: the embedded index at 1,000 to 100,000 chunks, beside qdrant-client's local mode.

`python -m benchmarks.index_search` runs this alone. Chunks have about 800 characters, vectors are made up (384
numbers), 50 tenants have a scope each. `ours` is the embedded index, `usual` the local mode; each in a fresh process.
"""

from __future__ import annotations

import asyncio
import contextlib
import multiprocessing
import random
import tempfile
import time
import uuid
import warnings
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
from rich.console import Console

from benchmarks.producers import quantile
from benchmarks.report import Report, Row

if TYPE_CHECKING:
    from benchmarks.rig import Rig
    from benchmarks.scenarios import Say, Scale
    from workers.retrieval.ports import IndexPoint, IndexQuery, KnowledgeIndex, Scope

_DIMENSION = 384
_SCOPES = 50
_BATCH = 128
_LOCAL_AT_MOST = 10_000  # beyond that the local mode takes minutes
_TARGET_MS = 50
_COLLECTION = "bench"


@dataclass(frozen=True)
class Figures:
    """Of one engine at one size; milliseconds and bytes."""

    chunks_per_second: float
    alone: list[float]
    whole: list[float]
    written_to: list[float]
    longest_pause: float
    memory: int
    opened: float


def index_search(rig: Rig | None, scale: Scale, say: Say) -> list[Row]:
    """p50 and p99 of searches, alone and beside a writer that never rests; memory; how long the loop stood still."""
    full = scale.looks >= 100
    rows = []
    for chunks in (1_000, 10_000, 100_000) if full else (500,):
        say(f"embedded index, {chunks:,} chunks")
        ours = _apart("embedded", chunks, scale.looks)
        local = None
        if chunks <= _LOCAL_AT_MOST:
            say(f"qdrant-client's local mode, {chunks:,} chunks")
            local = _apart("local", chunks, scale.looks // 4 or 1)
        rows += _rows(chunks, ours, local)
    return rows


def _rows(chunks: int, ours: Figures, local: Figures | None) -> list[Row]:
    def row(what: str, name: str, part: float, target: bool = False) -> Row:
        mine = quantile(getattr(ours, name), part)
        theirs = quantile(getattr(local, name), part) if local else None
        ratio = f"{theirs / mine:.0f} x faster" if theirs else ""
        return Row(
            what, mine, theirs, ratio=ratio,
            target=f"less than {_TARGET_MS}" if target else "", met=mine < _TARGET_MS if target else None,
        )  # fmt: skip

    return [
        row(f"{chunks:,} chunks, search one scope of {_SCOPES}, p50, ms", "alone", 0.5),
        row("... p99, ms", "alone", 0.99, target=True),
        row("... while a writer never rests, p50, ms", "written_to", 0.5),
        row("... while a writer never rests, p99, ms", "written_to", 0.99),
        row(f"... search one scope that has all {chunks:,}, p50, ms", "whole", 0.5),
        Row("... the loop's longest pause while written to, ms", ours.longest_pause),
        Row("... chunks written/s", ours.chunks_per_second, local.chunks_per_second if local else None),
        Row("... opened in, ms", ours.opened),
        Row("... memory of the index, MB", ours.memory / 1e6, local.memory / 1e6 if local else None),
    ]


def _apart(engine: str, chunks: int, looks: int) -> Figures:
    """Measure in a process of its own, whose memory holds nothing else."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(_measured, engine, chunks, looks).result()


def _measured(engine: str, chunks: int, looks: int) -> Figures:
    with tempfile.TemporaryDirectory(prefix="sessionfleet-bench-") as folder:
        return asyncio.run(_measure(engine, Path(folder), chunks, looks))


async def _measure(engine: str, folder: Path, chunks: int, looks: int) -> Figures:
    made = _Made()
    process = psutil.Process()
    index = _open(engine, folder)
    before = process.memory_info().rss
    began = time.perf_counter()
    spent = await _fill(index, made, chunks)
    writing = time.perf_counter() - began - spent
    opened = 0.0
    if engine == "embedded":
        await index.close()
        index = _open(engine, folder)
        began = time.perf_counter()
        await index.count(_COLLECTION, made.scopes[0])
        opened = (time.perf_counter() - began) * 1000
    alone = [await _timed(index, made.query(made.scopes[n % _SCOPES])) for n in range(looks)]
    memory = process.memory_info().rss - before
    async with _writer(index, made), _pauses() as pauses:
        written_to = [await _timed(index, made.query(made.scopes[n % _SCOPES])) for n in range(looks)]
    whole = []
    if chunks <= _LOCAL_AT_MOST or engine == "embedded":
        everything = await _fill_one_scope(index, made, chunks)
        whole = [await _timed(index, made.query(everything)) for _ in range(looks // 4 or 1)]
    await index.close()
    return Figures(chunks / writing, sorted(alone), sorted(whole), sorted(written_to), max(pauses), memory, opened)


async def _timed(index: KnowledgeIndex, query: IndexQuery) -> float:
    from workers.retrieval.ports import EmbeddingInfo

    began = time.perf_counter()
    hits = await index.search(_COLLECTION, EmbeddingInfo("made-up", _DIMENSION), query)
    taken = (time.perf_counter() - began) * 1000
    assert hits
    return taken


async def _fill(index: KnowledgeIndex, made: _Made, chunks: int) -> float:
    """Write and publish, source by source; seconds that it took to make the chunks."""
    from workers.retrieval.ports import EmbeddingInfo

    making = 0.0
    for number, start in enumerate(range(0, chunks, _BATCH)):
        scope, source = made.scopes[number % _SCOPES], f"source {number}"
        began = time.perf_counter()
        points = made.chunks(scope, source, min(_BATCH, chunks - start))
        making += time.perf_counter() - began
        await index.write(_COLLECTION, EmbeddingInfo("made-up", _DIMENSION), points)
        await index.publish(_COLLECTION, scope, source, "r1")
    if number + 1 < _SCOPES:  # so small a collection that some scopes would be empty
        made.scopes = made.scopes[: number + 1] * _SCOPES
    return making


async def _fill_one_scope(index: KnowledgeIndex, made: _Made, chunks: int) -> Scope:
    from workers.retrieval.ports import EmbeddingInfo, Scope

    scope = Scope("big", "base:everything")
    for start in range(0, chunks, _BATCH):
        points = made.chunks(scope, "everything", min(_BATCH, chunks - start))
        await index.write(_COLLECTION, EmbeddingInfo("made-up", _DIMENSION), points)
    await index.publish(_COLLECTION, scope, "everything", "r1")
    return scope


@contextlib.asynccontextmanager
async def _writer(index: KnowledgeIndex, made: _Made) -> AsyncIterator[None]:
    """Someone who writes all the time; the chunks are made beforehand, for that is not what is measured."""
    from workers.retrieval.ports import EmbeddingInfo

    batches = [made.chunks(made.scopes[n], f"new {n}", _BATCH) for n in range(8)]

    async def write() -> None:
        while True:
            for number, batch in enumerate(batches):
                await index.write(_COLLECTION, EmbeddingInfo("made-up", _DIMENSION), batch)
                await index.publish(_COLLECTION, made.scopes[number], f"new {number}", "r1")
                await asyncio.sleep(0)
            for number in range(len(batches)):
                await index.remove(_COLLECTION, made.scopes[number], source=f"new {number}")

    writing = asyncio.create_task(write())
    await asyncio.sleep(0)
    try:
        yield
    finally:
        writing.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await writing


@contextlib.asynccontextmanager
async def _pauses() -> AsyncIterator[list[float]]:
    """How long the loop stood still, each time, in milliseconds."""
    pauses = [0.0]

    async def tick() -> None:
        while True:
            began = time.perf_counter()
            await asyncio.sleep(0.001)
            pauses.append((time.perf_counter() - began - 0.001) * 1000)

    ticking = asyncio.create_task(tick())
    try:
        yield pauses
    finally:
        ticking.cancel()


class _Made:
    """Chunks and queries: words as rare as words are, directions as they come."""

    def __init__(self) -> None:
        import numpy as np

        from workers.retrieval.lexical import Bm25Model
        from workers.retrieval.ports import Scope

        self._dice = random.Random(1)
        self._numbers = np.random.default_rng(1)
        letters = "abcdefghijklmnopqrstuvwxyz"
        self._words = ["".join(self._dice.choices(letters, k=self._dice.randint(3, 9))) for _ in range(20_000)]
        self._weights = [1 / rank for rank in range(1, 20_001)]
        self._lexical = Bm25Model()
        self.scopes = [Scope(f"tenant{n}", "base:handbook") for n in range(_SCOPES)]

    def _text(self, words: int) -> str:
        return " ".join(self._dice.choices(self._words, self._weights, k=words))

    def _vectors(self, count: int) -> Iterator[list[float]]:
        import numpy as np

        vectors = self._numbers.standard_normal((count, _DIMENSION))
        yield from (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).tolist()

    def chunks(self, scope: Scope, source: str, count: int) -> list[IndexPoint]:
        from workers.retrieval.ports import IndexPoint

        points = []
        for number, vector in enumerate(self._vectors(count)):
            text = self._text(115)
            payload = {
                "text": text, "page": 1 + number // 3, "heading": "Handbook > Part", "start": 700 * number,
                "end": 700 * number + len(text), "number": number, "metadata": {"lang": "en", "year": 2026},
            }  # fmt: skip
            id_ = str(uuid.UUID(int=self._dice.getrandbits(128), version=4))
            points.append(IndexPoint(id_, scope, source, "r1", vector, self._lexical.document(text), payload))
        return points

    def query(self, scope: Scope) -> IndexQuery:
        from workers.retrieval.ports import IndexQuery

        return IndexQuery(next(self._vectors(1)), self._lexical.query(self._text(8)), [scope], limit=5)


def _open(engine: str, folder: Path) -> KnowledgeIndex:
    if engine == "embedded":
        from workers.retrieval.index.embedded import EmbeddedIndex

        return EmbeddedIndex.open(folder)
    from qdrant_client import AsyncQdrantClient

    from workers.retrieval.index.requests import Requests
    from workers.retrieval.index.server import ServerIndex

    warnings.simplefilter("ignore")
    return ServerIndex(AsyncQdrantClient(":memory:"), Requests("local mode"))


def main() -> None:
    """Measure, and show the table."""
    from benchmarks.scenarios import Scale

    console = Console(stderr=True)
    report = Report("qdrant-edge, embedded", quick=False)
    report.add(index_search(None, Scale(), console.print))
    report.show(Console(width=150))


if __name__ == "__main__":
    main()
