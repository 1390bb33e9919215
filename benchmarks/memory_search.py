"""Searching one user's 10,000 memories in a retrieval worker, and what is found in a small set of real sentences.

`python -m benchmarks.memory_search` runs only this.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
import uuid
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import psutil
from rich.console import Console

from benchmarks.knowledge_alone import timed
from benchmarks.memory_found import WAYS, MemoryBench
from benchmarks.memory_sets import memory_set
from benchmarks.producers import quantile
from benchmarks.report import Report, Row
from benchmarks.rig import Rig
from benchmarks.scale import ProgressCallback
from benchmarks.synthetic_data import RandomVectors, Texts
from broker_config.redis_clients import async_store
from sessions.protocol.memory_requests import SearchMemory
from sessions.store.memory import MemoryStore
from sessions.store.memory_places import MemoryScope
from sessions.store.memory_record import Memory, new_memory_id
from sessions.store.scripts import ScriptRunner
from sessions.store.state import wide_scope
from workers.retrieval.embeddings import resolve_embedding_model
from workers.retrieval.memory import MemorySearch
from workers.retrieval.memory.vectors import model_tag, pack
from workers.retrieval.ports import EmbeddingModel
from workers.retrieval.words.bm25 import Bm25Model

_MEMORIES = 10_000
_SAMPLES = 1_000
_TARGET_MS = 50


async def memory_search(rig: Rig, count: int, samples: int, progress: ProgressCallback) -> list[Row]:
    """Adding, loading and searching this many memories; then what is found."""
    client = async_store(rig.settings)
    store = MemoryStore(ScriptRunner(client), client)
    scope = wide_scope("default", uuid.uuid4().hex, rig.settings.partitions)
    texts, synthetic, real = Texts(), RandomVectors(), resolve_embedding_model(None)
    try:
        progress(f"adding {count:,} memories")
        rows = await adding(_adder(store, scope, texts), count, samples)
        progress("searching with a made-up model")
        await note_vectors(store, scope, synthetic, synthetic)
        rows += await searching(store, scope, synthetic, texts, samples, "made-up model")
        progress("searching with the default model")
        await note_vectors(store, scope, synthetic, real)
        rows += await searching(store, scope, real, texts, samples, "default model")
        progress("what is found")
        return rows + await _found(real)
    finally:
        await client.aclose()


def _adder(store: MemoryStore, scope: MemoryScope, texts: Texts) -> Callable[[], Awaitable[None]]:
    async def add() -> None:
        number = int(time.time() * 1000)
        metadata = {"topic": f"t{number % 7}"}
        await store.add(scope, Memory(new_memory_id(), texts.sentence(), "long", metadata, number))

    return add


async def adding(add: Callable[[], Awaitable[object]], count: int, samples: int) -> list[Row]:
    """Add this many memories: the first and last ones one by one, those in between many at a time."""
    first = await timed(add, samples)
    began = time.perf_counter()
    for start in range(samples, count - samples, 500):
        await asyncio.gather(*(add() for _ in range(min(500, count - samples - start))))
    many = time.perf_counter() - began
    last = await timed(add, samples)
    p50 = [quantile(taken, 0.5) * 1000 for taken in (first, last)]
    return [
        Row("add a memory, p50, ms", p50[0], means="one after the other, no vector yet"),
        Row(f"... to {count:,} memories, p50, ms", p50[1], ratio=f"{p50[1] / p50[0]:.2f} x the first"),
        Row("... 500 at once, memories/s", max(1, count - 2 * samples) / many),
    ]


async def note_vectors(store: MemoryStore, scope: MemoryScope, maker: EmbeddingModel, model: EmbeddingModel) -> None:
    """Made-up vectors under a model's name: embedding 10,000 texts takes minutes, and searching them costs the same."""
    await model.embed_query("hello")
    ids = await store.ids(scope)
    for start in range(0, len(ids), 500):
        read = list((await store.read(scope, ids[start : start + 500])).values())
        vectors = await maker.embed_documents([stored.memory.text for stored in read])
        noted = [(stored, pack(vector)) for stored, vector in zip(read, vectors, strict=True)]
        await store.note_vectors(scope, model_tag(model.info), noted)


async def searching(
    store: MemoryStore, scope: MemoryScope, model: EmbeddingModel, texts: Texts, samples: int, name: str
) -> list[Row]:
    process = psutil.Process()
    lexical = Bm25Model()
    worker, before = MemorySearch(store, model, lexical), process.memory_info().rss

    async def search(**options: Any) -> None:
        found = await worker.search({"user": scope}, SearchMemory(query=texts.sentence(6), **options))
        assert not found.unembedded

    began = time.perf_counter()
    await search()
    cold, grown = time.perf_counter() - began, process.memory_info().rss - before
    spent = time.process_time()
    warm = await timed(search, samples)
    spent = time.process_time() - spent
    filtered = await timed(lambda: search(filters={"topic": "t3"}), samples)
    p50, p99 = (quantile(warm, share) * 1000 for share in (0.5, 0.99))
    what = f"{worker.copied:,} memories, {name}"
    return [
        Row(f"{what}, first search, s", cold, means="it reads all of them from the store"),
        Row("... what the copy adds to the process, MB", max(grown, 0) / 1e6),
        Row("... search, p50, ms", p50, means="from a query of 6 words to 5 memories"),
        Row("... search, CPU, ms", spent / samples * 1000),
        Row("... search, p99, ms", p99, target=f"less than {_TARGET_MS}", met=p99 < _TARGET_MS),
        Row("... with a filter of metadata, p50, ms", quantile(filtered, 0.5) * 1000, means="that one in seven passes"),
        Row("... with a filter of metadata, p99, ms", quantile(filtered, 0.99) * 1000),
    ]


async def _found(model: EmbeddingModel) -> list[Row]:
    """How often the answering memory is among the first five, by each half and by both."""
    plain = memory_set("plain")
    bench, rows = MemoryBench(model, plain), []
    sizes = f"{len(plain.asked)} questions to {len(plain.texts)} memories"
    for way in WAYS:
        found = await bench.figures(way)
        rows += [
            Row(f"{sizes}, {way.name}, recall@5", found.recall_at_5),
            Row("... MRR", found.mrr),
            Row("... returned for a question that none answers", found.unrelated),
        ]
    return rows


def main() -> None:
    """Measure, and show the table."""
    with tempfile.TemporaryDirectory(prefix="sessionfleet-bench-") as folder:
        rig = Rig(Path(folder))
        try:
            report = Report(rig.server_name, quick=False)
            progress = Console(stderr=True).print
            report.add(asyncio.run(memory_search(rig, _MEMORIES, _SAMPLES, progress)), "memory")
        finally:
            rig.close()
    report.show(Console(width=150))


if __name__ == "__main__":
    main()
