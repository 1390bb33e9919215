"""A query's vector is computed once for all callers that need it at about the same time."""

from __future__ import annotations

import asyncio

import pytest

from sessions.errors import EmbeddingUnavailable
from tests.support.retrieval_doubles import WordEmbedding
from workers.retrieval.embeddings.query_memo import QueryMemo


class Slow(WordEmbedding):
    """Answers when it is told to, and counts its calls."""

    def __init__(self) -> None:
        super().__init__()
        self.go = asyncio.Event()
        self.asked: list[str] = []

    async def embed_query(self, text: str) -> list[float]:
        self.asked.append(text)
        await self.go.wait()
        return await super().embed_query(text)


async def test_those_who_ask_together_share_one_vector() -> None:
    """And later callers have it at once; another text is another vector."""
    model = Slow()
    memo = QueryMemo(model)
    asking = [asyncio.create_task(memo.embed_query("tea")) for _ in range(3)]
    await asyncio.sleep(0)
    model.go.set()
    vectors = [*await asyncio.gather(*asking), await memo.embed_query("tea")]
    assert model.asked == ["tea"]
    assert all(vector == vectors[0] for vector in vectors)
    assert await memo.embed_query("car") != vectors[0]


async def test_one_who_gives_up_stops_nobody_else() -> None:
    """The first one is cancelled; the second one still gets the vector, of the same making."""
    model = Slow()
    memo = QueryMemo(model)
    first, second = (asyncio.create_task(memo.embed_query("tea")) for _ in range(2))
    await asyncio.sleep(0)
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    model.go.set()
    assert await second
    assert model.asked == ["tea"]


async def test_a_failure_is_not_remembered() -> None:
    """All that asked together get it, and the next one asks again."""
    model = Slow()
    model.go.set()
    model.down = True
    memo = QueryMemo(model)
    found = await asyncio.gather(*(memo.embed_query("tea") for _ in range(2)), return_exceptions=True)
    assert [type(each) for each in found] == [EmbeddingUnavailable] * 2
    model.down = False
    assert await memo.embed_query("tea")
    assert model.asked == ["tea", "tea"]


async def test_only_the_last_queries_are_remembered() -> None:
    """A process that runs for months holds no more of them than one that began today."""
    model = Slow()
    model.go.set()
    memo = QueryMemo(model)
    for number in range(65):
        await memo.embed_query(f"tea {number}")
    await memo.embed_query("tea 64")
    assert len(model.asked) == 65
    await memo.embed_query("tea 0")
    assert len(model.asked) == 66
