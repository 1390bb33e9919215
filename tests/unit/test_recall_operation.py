"""The operation with which a turn searches memories and documents."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any, cast

import pytest

from sessions.errors import IndexUnavailable
from sessions.protocol.knowledge_requests import Recall, SearchKnowledge
from sessions.protocol.memory_requests import SearchMemory
from sessions.store.keys import SessionKeys
from workers.retrieval.parts import RetrievalParts
from workers.retrieval_role.runner import RetrievalRunner

BOTH = Recall(
    memory=SearchMemory(query="tea", limit=5, scopes=("session",)),
    knowledge=SearchKnowledge(query="tea", scopes=("x",)),
)


def runner(memory: Any, knowledge: Any) -> RetrievalRunner:
    async def part(search: Any) -> SimpleNamespace:
        return SimpleNamespace(search=search)

    parts = SimpleNamespace(memory=lambda: part(memory), knowledge=lambda: part(SimpleNamespace(search=knowledge)))
    return RetrievalRunner(cast(Any, None), cast(Any, None), cast(Any, None), cast(RetrievalParts, parts))


async def recall(of: RetrievalRunner, request: Recall) -> dict[str, Any]:
    return await of.search(SessionKeys.of("default", "s", 256), request.spec())


async def test_memories_and_documents_are_searched_at_the_same_time() -> None:
    """A turn waits for the longer of both searches, not for their sum."""
    both = asyncio.Barrier(2)

    async def memory(*_: object) -> list[str]:
        await asyncio.wait_for(both.wait(), 10)
        return ["likes tea"]

    async def knowledge(*_: object) -> list[str]:
        await asyncio.wait_for(both.wait(), 10)
        return ["tea is hot"]

    found = await recall(runner(memory, knowledge), BOTH)
    assert found == {"memories": ["likes tea"], "passages": ["tea is hot"]}
    alone = Recall(memory=None, knowledge=BOTH.knowledge)
    assert await recall(runner(None, lambda *_: asyncio.sleep(0, ["tea"])), alone) == {"passages": ["tea"]}


async def test_a_search_that_fails_ends_the_other() -> None:
    """No search goes on for an operation that has failed."""
    ended: list[str] = []

    async def memory(*_: object) -> list[str]:
        try:
            await asyncio.sleep(30)
        except asyncio.CancelledError:
            ended.append("memory")
            raise
        return []

    async def knowledge(*_: object) -> list[str]:
        await asyncio.sleep(0)
        raise IndexUnavailable("no index")

    with pytest.raises(IndexUnavailable, match="no index"):
        await recall(runner(memory, knowledge), BOTH)
    await asyncio.sleep(0)
    assert ended == ["memory"]
