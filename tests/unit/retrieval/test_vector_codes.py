"""The codes of the embedded index's vectors: what a search finds with them, and how earlier collections get them."""

from __future__ import annotations

import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import qdrant_edge as edge

from tests.support.knowledge import LEXICAL, MODEL, add, asking, chunk, vector
from workers.retrieval.index.embedded import EmbeddedIndex, search, shard, unfiltered
from workers.retrieval.index.embedded.files import has_codes
from workers.retrieval.index.records import DENSE
from workers.retrieval.ports import CosineScale, EmbeddingInfo, IndexPoint, IndexQuery, Scope

BASE = Scope("acme", "base:handbook")
BOB = Scope("acme", "user:bob")
RIVAL = Scope("rival", "base:handbook")
OpenIndex = Callable[[], EmbeddedIndex]
WriteEarlier = Callable[[list[IndexPoint]], Awaitable[EmbeddedIndex]]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "knowledge"


@pytest.fixture
async def open_index(folder: Path) -> AsyncIterator[OpenIndex]:
    """Opens the index again and again; closes what a test that failed has left open."""
    opened: list[EmbeddedIndex] = []

    def open_index() -> EmbeddedIndex:
        opened.append(EmbeddedIndex.open(folder))
        return opened[-1]

    yield open_index
    for index in opened:
        await index.close()


@pytest.fixture
def index(open_index: OpenIndex) -> EmbeddedIndex:
    return open_index()


@pytest.fixture
def shortcuts(monkeypatch: pytest.MonkeyPatch) -> list[int | None]:
    """How many hits each search found without its filter; None for a search with it. Any collection is large."""
    taken: list[int | None] = []

    def nearest(
        engine: edge.EdgeShard, query: IndexQuery, allowed: edge.Filter, limit: int, sizes: unfiltered.ScopeSizes
    ) -> dict[str, float] | None:
        found = unfiltered.nearest(engine, query, allowed, limit, sizes)
        taken.append(None if found is None else len(found))
        return found

    monkeypatch.setattr(unfiltered, "_LARGE", 1)
    monkeypatch.setattr(search, "nearest", nearest)
    return taken


def about(scope: Scope, subject: str, count: int, *, source: str = "notes") -> list[IndexPoint]:
    return [chunk(scope, f"{subject} {n}", source=source, number=n) for n in range(count)]


async def ids(index: EmbeddedIndex, query: IndexQuery) -> list[str]:
    return [hit.id for hit in await index.search("c", MODEL, query)]


def nearest_of(points: Sequence[IndexPoint], text: str, limit: int) -> list[str]:
    """The ids of the nearest; chunks with the same text are as near, and come in the order of their ids."""
    asked = vector(text)

    def order(point: IndexPoint) -> tuple[float, str]:
        return -sum(map(float.__mul__, asked, list(point.dense))), point.id

    return [point.id for point in sorted(points, key=order)[:limit]]


async def test_a_search_of_most_of_a_collection_finds_exactly_the_nearest(
    index: EmbeddedIndex, shortcuts: list[int | None]
) -> None:
    """Chunks that were removed, replaced, not published, or belong to others are never among them."""
    mine = about(BASE, "tea", 300)
    await add(index, "c", *mine)
    for scope in (BOB, RIVAL):
        await add(index, "c", *about(scope, "tea", 40))
    await index.write("c", MODEL, about(BASE, "tea", 40, source="drafts"))
    await add(index, "c", *about(BASE, "tea", 40, source="old"))
    await index.remove("c", BASE, source="old")
    for limit in (5, 60):
        query = IndexQuery(vector("tea 17"), None, [BASE], limit=limit)
        assert await ids(index, query) == nearest_of(mine, "tea 17", limit)
    assert all(shortcuts), shortcuts


async def test_a_search_whose_nearest_chunks_are_others_falls_back_to_its_filter(
    index: EmbeddedIndex, shortcuts: list[int | None]
) -> None:
    """Otherwise it would find too few."""
    mine = about(BASE, "coffee", 200)
    await add(index, "c", *mine)
    await add(index, "c", *about(RIVAL, "tea", 200))
    assert await ids(index, IndexQuery(vector("tea"), None, [BASE], limit=60)) == nearest_of(mine, "tea", 60)
    assert shortcuts == [None]


@pytest.mark.parametrize("narrow", [{"sources": ["notes"]}, {"metadata": {"a": 1}}, {"since_ms": 1}, {"until_ms": 1}])
async def test_only_a_search_of_whole_scopes_does_without_its_filter(
    index: EmbeddedIndex, shortcuts: list[int | None], narrow: dict[str, object]
) -> None:
    """Nobody knows how many chunks another filter lets through."""
    await add(index, "c", *about(BASE, "tea", 100))
    await ids(index, asking("tea", BASE, **narrow))
    assert set(shortcuts) == {None}


async def test_a_scope_that_grows_is_searched_without_its_filter_before_long(
    index: EmbeddedIndex, shortcuts: list[int | None]
) -> None:
    """The sizes of scopes are counted again after a twentieth of the collection has changed."""
    await add(index, "c", *about(RIVAL, "tea", 100))
    await add(index, "c", *about(BASE, "tea", 20))
    await ids(index, IndexQuery(vector("tea"), None, [BASE]))
    await add(index, "c", *about(BASE, "green tea", 200, source="more"))
    found = await ids(index, IndexQuery(vector("green tea"), None, [BASE]))
    assert len(found) == 5
    assert [bool(taken) for taken in shortcuts] == [False, True]


async def test_a_hit_by_words_is_found_next_to_the_nearest(index: EmbeddedIndex, shortcuts: list[int | None]) -> None:
    """The lexical half has its filter as before. Words weigh more here: the model knows little of the language."""
    await add(index, "c", *about(BASE, "tea", 200), replace(chunk(BASE, "zebra", number=200), dense=vector("mud")))
    await add(index, "c", *about(RIVAL, "zebra", 5))
    query = IndexQuery(vector("tea 1"), LEXICAL.query("zebra"), [BASE], scale=CosineScale(weight=0.3))
    hits = await index.search("c", MODEL, query)
    assert "zebra" in [hit.payload["text"] for hit in hits]
    assert {hit.scope for hit in hits} == {BASE}
    assert all(shortcuts)


# --- collections of earlier versions -----------------------------------------------------------------------


def _without_codes(info: EmbeddingInfo) -> edge.EdgeConfig:
    """The configuration before there were codes."""
    return edge.EdgeConfig(
        vectors={DENSE: edge.EdgeVectorParams(info.dimension, edge.Distance.Cosine)},
        sparse_vectors={"bm25": edge.EdgeSparseVectorParams(modifier=edge.Modifier.Idf)},
        optimizers=edge.EdgeOptimizersConfig(indexing_threshold=1_000_000_000),
    )


@pytest.fixture
def write_earlier(folder: Path, open_index: OpenIndex, monkeypatch: pytest.MonkeyPatch) -> WriteEarlier:
    """Opens an index whose chunks an earlier version has written."""

    async def write_earlier(points: list[IndexPoint]) -> EmbeddedIndex:
        with monkeypatch.context() as earlier:
            earlier.setattr(shard, "engine_config", _without_codes)
            index = open_index()
            await add(index, "c", *points)
            await index.close()
        assert not has_codes(folder / "c" / "data", DENSE)
        return open_index()

    return write_earlier


async def test_a_collection_of_an_earlier_version_is_searched_and_gets_codes(
    folder: Path,
    open_index: OpenIndex,
    write_earlier: WriteEarlier,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It is found before, after, and after the next start; what is written meanwhile is found too."""
    points = about(BASE, "tea", 1200)
    index = await write_earlier(points)
    query = IndexQuery(vector("tea 7"), None, [BASE])
    assert await ids(index, query) == nearest_of(points, "tea 7", 5)
    more = chunk(BASE, "tea 7", source="more")
    await add(index, "c", more)
    await index.tidy()
    assert has_codes(folder / "c" / "data", DENSE)
    assert more.id in await ids(index, query)
    await index.close()
    index = open_index()
    assert await ids(index, replace(query, limit=60)) == nearest_of([*points, more], "tea 7", 60)
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: pytest.fail("nothing to do"))
    await index.tidy()


async def test_a_collection_that_cannot_be_given_codes_is_served_and_tried_once(
    write_earlier: WriteEarlier, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every five minutes would be too often for something that blocks searches."""
    points = about(BASE, "tea", 1000)
    index = await write_earlier(points)
    tried: list[object] = []

    def refused(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        tried.append(command)
        return subprocess.CompletedProcess(command, 1, "", "no memory")

    monkeypatch.setattr(subprocess, "run", refused)
    for _ in range(2):
        assert await index.count("c", BASE) == 1000
        await index.tidy()
    assert len(tried) == 1
    assert await ids(index, IndexQuery(vector("tea 7"), None, [BASE])) == nearest_of(points, "tea 7", 5)


async def test_a_small_collection_of_an_earlier_version_stays_as_it_is(
    write_earlier: WriteEarlier, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is searched fast enough."""
    index = await write_earlier(about(BASE, "tea", 30))
    assert len(await ids(index, asking("tea", BASE))) == 5
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: pytest.fail("nothing to do"))
    await index.tidy()
