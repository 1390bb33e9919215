"""What a retrieval worker does with documents, in this process: no queue, no lease, no other process.

Searches run as in the worker, from the query's text to the passages, on the embedded index and, for comparison, on
qdrant-client's local mode.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
import uuid
import warnings
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

from qdrant_client import AsyncQdrantClient

from benchmarks.producers import quantile
from benchmarks.report import Row
from benchmarks.retrieval import rate
from benchmarks.rig import Rig
from benchmarks.scale import ProgressCallback, Scale
from benchmarks.synthetic_data import Texts, fill
from benchmarks.without_lease import DictJournal, NoEvents, UnleasedFields
from broker_config.redis_clients import async_store
from broker_config.settings import Settings
from sessions.client.scopes import lane_of
from sessions.protocol.knowledge_requests import AddKnowledge, SearchKnowledge
from sessions.store.sealing import KeyRing
from workers.retrieval.embeddings import resolve_embedding_model
from workers.retrieval.index.embedded import EmbeddedIndex
from workers.retrieval.index.server import ServerIndex
from workers.retrieval.index.server.requests import Requests
from workers.retrieval.knowledge.operations import KnowledgeOperations
from workers.retrieval.operation_context import OperationContext
from workers.retrieval.ports import EmbeddingModel, KnowledgeIndex, Scope
from workers.retrieval.words.bm25 import Bm25Model

BASE = "bench"
"""The knowledge base that all chunks are in, so that its searches cover all of them."""
_SCOPE = f"base:{BASE}"
_LOCAL_SEARCHES = 9  # they take long


def collection_of(points: int) -> str:
    """The collection of this size."""
    return f"bench-{points}"


def index_folder(rig: Rig) -> Path:
    """Where the rig's retrieval workers have their index."""
    return rig.home / "knowledge"


def knowledge_alone(rig: Rig, scale: Scale, progress: ProgressCallback) -> list[Row]:
    """The embedding rate, and searches at each size; leaves the collections where the rig's workers find them."""
    return asyncio.run(_measured(rig, scale, progress))


async def timed(work: Callable[[], Awaitable[object]], times: int) -> list[float]:
    """Seconds of each of this many calls, one after the other, sorted."""
    taken = []
    for _ in range(times):
        began = time.perf_counter()
        await work()
        taken.append(time.perf_counter() - began)
    return sorted(taken)


async def _measured(rig: Rig, scale: Scale, progress: ProgressCallback) -> list[Row]:
    model = resolve_embedding_model(None, threads=1)
    await model.prepare()
    progress("embedding")
    rows = await _embedding(model, scale)
    async with _alone(rig, model) as (knowledge, index, store):
        for points in scale.points:
            progress(f"{points:,} chunks: written directly to the index")
            began = time.perf_counter()
            await fill(index, collection_of(points), model.info, Scope("default", _SCOPE), points)
            filled = time.perf_counter() - began
            progress(f"{points:,} chunks: searched in one process")
            rows += await _searching(knowledge, store, model, scale, points, filled)
    return rows


async def _embedding(model: EmbeddingModel, scale: Scale) -> list[Row]:
    found = await rate(model, most=scale.searches // 4 + 4)
    return [Row(f"embedded: {what}", value, means="the default model on one core") for what, value in found.items()]


@contextlib.asynccontextmanager
async def _alone(rig: Rig, model: EmbeddingModel) -> AsyncIterator[tuple[KnowledgeOperations, KnowledgeIndex, Any]]:
    store, index = async_store(rig.settings), EmbeddedIndex.open(index_folder(rig))
    try:
        yield _knowledge(store, index, model), index, store
    finally:
        await index.close()
        await store.aclose()


async def _searching(
    knowledge: KnowledgeOperations, store: Any, model: EmbeddingModel, scale: Scale, points: int, filled: float
) -> list[Row]:
    texts, collection = Texts(), collection_of(points)
    search = _search(knowledge, texts, collection)
    await search()
    alone = await timed(search, scale.searches)
    async with _ingesting(knowledge, store, texts.book(scale.book), collection):
        busy = await timed(search, scale.searches)
    local = await _local(model, points) if points <= scale.local_most else None
    faster = "" if local is None else f"{local / quantile(alone, 0.5):.0f} x faster than local"
    wrote = Row(f"{points:,} chunks written and published, chunks/s", points / filled, means="vectors already computed")
    return [wrote, *compared(f"search of {points:,} chunks, in the worker", alone, busy, local, faster)]


def compared(
    what: str, alone: list[float], busy: list[float], local: float | None = None, faster: str = ""
) -> list[Row]:
    """Searches alone, and while the same process ingests: p50 and p99."""
    p50, p99, slow50, slow99 = (quantile(taken, share) * 1000 for taken in (alone, busy) for share in (0.5, 0.99))
    return [
        Row(f"{what}, p50, ms", p50, local=None if local is None else local * 1000, ratio=faster,
            means="from a query of 6 words to 5 passages"),
        Row("... p99, ms", p99),
        Row("... while it ingests, p50, ms", slow50, ratio=f"{slow50 / p50:.1f} x alone",
            means="a book is embedded into the same collection meanwhile"),
        Row("... while it ingests, p99, ms", slow99, ratio=f"{slow99 / p99:.1f} x alone"),
    ]  # fmt: skip


def _knowledge(store: Any, index: KnowledgeIndex, model: EmbeddingModel) -> KnowledgeOperations:
    settings = Settings()  # type: ignore[call-arg]
    return KnowledgeOperations(settings, store, KeyRing.of(settings), index, model, Bm25Model())


def _search(knowledge: KnowledgeOperations, texts: Texts, collection: str) -> Callable[[], Awaitable[None]]:
    tenant = _operating().keys.tenant

    async def search() -> None:
        request = SearchKnowledge(query=texts.sentence(6), scopes=(_SCOPE,), collection=collection, min_score=0.0)
        found = await knowledge.search.search(tenant, request)
        assert found, request

    return search


@contextlib.asynccontextmanager
async def _ingesting(knowledge: KnowledgeOperations, store: Any, book: bytes, collection: str) -> AsyncIterator[None]:
    """Meanwhile, a document is indexed that never ends."""
    name = uuid.uuid4().hex
    request = AddKnowledge(scope=_SCOPE, collection=collection, source=name, origin="text", text=book.decode())
    op = _operating(store)
    adding = asyncio.create_task(knowledge.changes.add(op, request))
    while not any(key.startswith("batch") for key in op.journal.steps):  # it first reads and cuts
        await asyncio.sleep(0.01)
        assert not adding.done(), adding.result()
    yield
    assert not adding.done(), "the book ended while searches were measured: it must be longer"
    adding.cancel()
    await asyncio.gather(adding, return_exceptions=True)
    await knowledge.changes.undo(op, request)


def _operating(store: Any = None) -> OperationContext:
    lane = lane_of("default", _SCOPE, 256)
    return OperationContext(lane, uuid.uuid4().hex, DictJournal(), NoEvents(), UnleasedFields(store, lane), 0)


async def _local(model: EmbeddingModel, points: int) -> float:
    """Median seconds of the same search on qdrant-client's local mode."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that it has no payload indexes
        index = ServerIndex(AsyncQdrantClient(":memory:"), Requests("in-memory"))
        await fill(index, collection_of(points), model.info, Scope("default", _SCOPE), points)
    search = _search(_knowledge(None, index, model), Texts(), collection_of(points))
    await search()
    taken = await timed(search, _LOCAL_SEARCHES)
    await index.close()
    return quantile(taken, 0.5)
