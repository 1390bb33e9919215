"""Memories of one user, added and searched through the fleet and in a process like the worker's."""

from __future__ import annotations

import asyncio
import itertools

from benchmarks.memory_search import adding, note_vectors, searching
from benchmarks.producers import latencies, quantile
from benchmarks.report import Row
from benchmarks.rig import Rig
from benchmarks.scale import ProgressCallback, Scale
from benchmarks.synthetic_data import RandomVectors, Texts
from broker_config.redis_clients import async_store
from sessions import Session
from sessions.store.memory import MemoryStore
from sessions.store.scripts import ScriptRunner
from sessions.store.state import wide_scope
from workers.retrieval.embeddings import resolve_embedding_model


def memory_fleet(rig: Rig, scale: Scale, user: str, progress: ProgressCallback) -> list[Row]:
    """`add_memory` and `search_memory` of one user with many memories."""
    session, texts = Session(user_id=user, settings=rig.settings), Texts()
    rows = asyncio.run(_in_the_worker(rig, scale, session, progress))

    def search(_: int) -> None:
        session.search_memory(texts.sentence(6))  # it may find none: six arbitrary words resemble nothing

    progress(f"{scale.memories:,} memories: searched through the fleet")
    cold = latencies(1, search)[0]
    warm = latencies(scale.searches, search)
    return [
        *rows,
        Row(f"search_memory() in {scale.memories:,}, fleet, first, s", cold, means="the worker reads them all"),
        Row("... p50, ms", quantile(warm, 0.5) * 1000, means="from the client's call to the memories"),
        Row("... p99, ms", quantile(warm, 0.99) * 1000),
    ]


async def _in_the_worker(rig: Rig, scale: Scale, session: Session, progress: ProgressCallback) -> list[Row]:
    """Added by the client, then searched in this process; vectors are made up, as 10,000 real ones take minutes."""
    client, texts, topics = async_store(rig.settings), Texts(), itertools.count()
    store, model = MemoryStore(ScriptRunner(client), client), resolve_embedding_model(None, threads=1)
    scope = wide_scope(session.keys.tenant, str(session.user_id), rig.settings.partitions)

    async def add() -> str:
        return await session.aadd_memory(texts.sentence(), topic=f"t{next(topics) % 7}")

    try:
        progress(f"adding {scale.memories:,} memories")
        rows = await adding(add, scale.memories, min(scale.searches, scale.memories // 4))
        progress(f"{scale.memories:,} memories: searched in one process")
        await note_vectors(store, scope, RandomVectors(), model)
        return rows + await searching(store, scope, model, texts, scale.searches, "in the worker")
    finally:
        await model.close()
        await client.aclose()
