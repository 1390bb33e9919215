"""The retrieval worker's search over memories that live in a real store, with made-up models."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest

from broker_config.redis_clients import async_store
from broker_config.settings import Settings
from sessions.errors import EmbeddingUnavailable
from sessions.protocol.memory_requests import SearchMemory
from sessions.store.keys import SessionKeys
from sessions.store.memory import MemoryStore
from sessions.store.memory_places import MemoryScope
from sessions.store.memory_record import Memory, new_memory_id
from sessions.store.scripts import ScriptRunner
from sessions.store.state import session_scope, wide_scope
from sessions.store.turns import TurnStore
from tests.support.retrieval_doubles import WordEmbedding, WordLexical
from tests.support.servers import Server
from workers.retrieval.memory import Found, MemorySearch, scopes_of


class Rig:
    """A store, scopes of the test's own, and as many workers as it asks for."""

    def __init__(self, server: Server) -> None:
        self.settings = Settings(redis_url=server.url)
        self.client = async_store(self.settings)
        scripts = ScriptRunner(self.client)
        self.store = MemoryStore(scripts, self.client)
        self.turns = TurnStore(scripts, self.client, self.settings)
        self.embedding, self.lexical = WordEmbedding(), WordLexical()
        self.keys = SessionKeys.of("default", uuid.uuid4().hex, self.settings.partitions)
        self.session = session_scope(self.keys)
        self.user = wide_scope("default", uuid.uuid4().hex, self.settings.partitions)

    def worker(self, **options: Any) -> MemorySearch:
        return MemorySearch(self.store, self.embedding, self.lexical, **options)

    async def add(self, text: str, scope: MemoryScope | None = None, **fields: Any) -> str:
        memory = Memory(
            **{"id": new_memory_id(), "text": text, "kind": "long", "metadata": {}, "created_ms": 1, **fields}
        )
        await self.store.add(scope or self.user, memory)
        return memory.id

    async def find(self, worker: MemorySearch, query: str, scope: MemoryScope | None = None) -> list[str]:
        return [memory["text"] for memory in (await self.search(worker, query, scope)).memories]

    async def search(self, worker: MemorySearch, query: str, scope: MemoryScope | None = None, **options: Any) -> Found:
        return await worker.search({"user": scope or self.user}, SearchMemory(query=query, **options))


@pytest.fixture
async def rig(server: Server) -> AsyncIterator[Rig]:
    rig = Rig(server)
    yield rig
    await rig.store.clear(rig.user)
    await rig.turns.delete_session(rig.keys)
    await rig.client.aclose()


async def test_a_search_sees_every_change_before_it(rig: Rig) -> None:
    """Additions, replacements and removals by others, without reading the rest again."""
    worker = rig.worker()
    assert await rig.find(worker, "tea") == []
    first = await rig.add("green tea")
    assert await rig.find(worker, "tea") == ["green tea"]
    await rig.add("black tea")
    await rig.add("green tea with milk", id=first)
    assert sorted(await rig.find(worker, "tea")) == ["black tea", "green tea with milk"]
    await rig.store.remove(rig.user, [first])
    assert await rig.find(worker, "tea") == ["black tea"]
    assert sorted(rig.embedding.embedded) == ["black tea", "green tea", "green tea with milk"]


async def test_a_copy_reads_what_changed_and_nothing_else(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many memories there are: that is what keeps a search fast."""
    worker = rig.worker()
    for n in range(5):
        await rig.add(f"tea {n}")
    await rig.search(worker, "tea")
    asked: list[str] = []
    read = rig.store.read

    async def noting(scope: MemoryScope, ids: Sequence[str], **options: Any) -> Any:
        asked.extend(ids)
        return await read(scope, ids, **options)

    monkeypatch.setattr(rig.store, "read", noting)
    await rig.search(worker, "tea")
    assert asked == []
    for n in range(2):
        new = await rig.add(f"new tea {n}")
        await rig.search(worker, "tea")
        assert set(asked) == {new}
        asked.clear()


async def test_a_deleted_scope_is_empty_in_every_copy(rig: Rig) -> None:
    """Also if another user takes its name and adds as many memories before the copy is used again."""
    worker = rig.worker()
    await rig.add("ann likes tea", rig.session)
    assert await rig.find(worker, "tea", rig.session) == ["ann likes tea"]
    await rig.turns.delete_session(rig.keys)
    await rig.add("bob likes tea", rig.session)
    assert await rig.find(worker, "tea", rig.session) == ["bob likes tea"]
    await rig.turns.delete_session(rig.keys)
    assert await rig.find(worker, "tea", rig.session) == []


async def test_a_vector_is_made_once_for_all_workers(rig: Rig) -> None:
    """What one worker embedded, the others read; only another model makes its own."""
    one, two = rig.worker(), rig.worker()
    assert await rig.find(two, "automobile") == []
    await rig.add("has a car")
    assert await rig.find(one, "automobile") == ["has a car"]
    assert await rig.find(two, "automobile") == ["has a car"]
    assert await rig.find(rig.worker(), "automobile") == ["has a car"]
    assert rig.embedding.embedded == ["has a car"]
    rig.embedding = WordEmbedding("another")
    assert await rig.find(rig.worker(), "automobile") == ["has a car"]
    assert rig.embedding.embedded == ["has a car"]


async def test_a_search_embeds_the_newest_and_says_what_is_left(rig: Rig) -> None:
    """The rest is found by words until it has been embedded in the background."""
    for n in range(10):
        await rig.add(f"car number{n}")
    worker = rig.worker(embedded_at_search=4)
    found = await rig.search(worker, "automobile", limit=20)
    assert [memory["text"] for memory in found.memories] == [f"car number{n}" for n in (9, 8, 7, 6)]
    assert found.unembedded == {"user": 6}
    assert [m["similarity"] for m in (await rig.search(rig.worker(embedded_at_search=0), "number0")).memories] == [None]
    assert await worker.embed_missing(rig.user, 2) == 4
    assert await rig.worker().embed_missing(rig.user, 100) == 0
    found = await rig.search(worker, "automobile", limit=20)
    assert (len(found.memories), found.unembedded) == (10, {})
    assert sorted(rig.embedding.embedded) == [f"car number{n}" for n in range(10)]


async def test_a_text_that_cannot_be_embedded_keeps_no_other_back(rig: Rig) -> None:
    """It is found by its words, and embedding it is not retried."""
    await rig.add("REFUSE this car")
    await rig.add("has a car")
    worker = rig.worker()
    assert await rig.find(worker, "automobile") == ["has a car"]
    assert sorted(await rig.find(worker, "car")) == ["REFUSE this car", "has a car"]
    assert (await rig.search(rig.worker(), "car")).unembedded == {}
    assert rig.embedding.embedded == ["has a car"]


async def test_without_its_model_a_search_goes_by_words(rig: Rig) -> None:
    """And says so; embedding in the background fails instead, so that it is retried."""
    worker = rig.worker()
    await rig.add("has a car")
    rig.embedding.down = True
    found = await rig.search(worker, "car")
    assert ([m["text"] for m in found.memories], found.by_meaning) == (["has a car"], False)
    with pytest.raises(EmbeddingUnavailable):
        await worker.embed_missing(rig.user, 5)
    rig.embedding.down = False
    assert await rig.find(worker, "automobile") == ["has a car"]


async def test_a_full_store_keeps_no_search_back(rig: Rig, new_server: Server) -> None:
    """Vectors that cannot be noted serve this worker all the same."""
    full = Rig(new_server)
    await full.add("has a car")
    with new_server.client() as client:
        client.config_set("maxmemory", client.info("memory")["used_memory"] // 2)
    assert await full.find(full.worker(), "automobile") == ["has a car"]
    await full.client.aclose()


async def test_copies_are_kept_within_bounds(rig: Rig) -> None:
    """The scopes used last stay; one that was dropped is read again when it is asked for."""
    scopes = [wide_scope("default", uuid.uuid4().hex, rig.settings.partitions) for _ in range(4)]
    for n, scope in enumerate(scopes):
        for number in range(5):
            await rig.add(f"tea of {n}", scope, metadata={"number": number})
    worker = rig.worker(most=10)
    for _ in range(2):
        for n, scope in enumerate(scopes):
            assert await rig.find(worker, "tea", scope) == [f"tea of {n}"] * 5
            assert worker.copied <= 10
    for scope in scopes:
        await rig.store.clear(scope)


async def test_searches_and_changes_at_once_agree_in_the_end(rig: Rig) -> None:
    """Searchers of two workers while others add and remove: nothing fails, and at last all say the same."""
    workers = [rig.worker(embedded_at_search=2), rig.worker()]

    async def change(who: str) -> None:
        for n in range(30):
            memory_id = await rig.add(f"tea {n} of {who}")
            if n % 3 == 0:
                await rig.store.remove(rig.user, [memory_id])

    async def look(worker: MemorySearch) -> None:
        for _ in range(15):
            await rig.search(worker, "tea", limit=100)

    await asyncio.gather(change("one"), change("other"), *(look(worker) for worker in workers for _ in range(2)))
    for worker in workers:
        await worker.embed_missing(rig.user, 1_000)
    one, two = [(await rig.search(worker, "tea", limit=100)).memories for worker in workers]
    assert one == two
    assert len(one) == 40
    assert len(rig.embedding.embedded) <= 2 * 60


async def test_what_is_alike_is_found(rig: Rig) -> None:
    """`similar` lets callers add only what is new."""
    await rig.add("Likes  tea")
    await rig.add("has a car")
    worker = rig.worker()
    assert [(m.text, score) for m, score in await worker.similar(rig.user, "likes tea", 0.9)] == [("Likes  tea", 1.0)]
    assert [m.text for m, _ in await worker.similar(rig.user, "has a automobile", 0.9)] == ["has a car"]
    assert await worker.similar(rig.user, "something else", 0.9) == []


def test_a_request_means_its_session_s_scopes() -> None:
    """The user's only if there is one, and of the session's tenant."""
    keys = SessionKeys.of("acme", "s1", 256)
    assert scopes_of(SearchMemory(query="x"), keys, 256) == {"session": session_scope(keys)}
    both = scopes_of(SearchMemory(query="x", user="ann"), keys, 256)
    assert both == {"user": wide_scope("acme", "ann", 256), "session": session_scope(keys)}
    assert list(scopes_of(SearchMemory(query="x", user="ann", scopes=("user",)), keys, 256)) == ["user"]
