"""Export and import: the same hits in another index, exactly; a damaged export publishes nothing."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sessions.errors import BadRequest, IndexMismatch, IndexUnavailable
from tests.support.knowledge import MODEL, add, asking, chunk, open_engine, texts
from workers.retrieval.index.embedded import EmbeddedIndex
from workers.retrieval.index.names import transcript_collection
from workers.retrieval.ports import EmbeddingInfo, KnowledgeIndex, Scope
from workers.retrieval.transfer import export_knowledge, import_knowledge

pytestmark = pytest.mark.filterwarnings("ignore:Payload indexes have no effect in the local Qdrant")

ALICE = Scope("acme", "user:alice")
BOB = Scope("acme", "user:bob")
RIVAL = Scope("rival", "user:alice")


@pytest.fixture
async def old(tmp_path: Path) -> AsyncIterator[EmbeddedIndex]:
    """An embedded index with two collections."""
    index = EmbeddedIndex.open(tmp_path / "old")
    await add(index, "one", *(chunk(ALICE, f"tea {n}", number=n, metadata={"n": n}) for n in range(300)))
    await add(index, "one", chunk(RIVAL, "the", source="ü.pdf"))
    await add(index, "two", chunk(BOB, "coffee"))
    await index.write("two", MODEL, [chunk(BOB, "unpublished", revision="r2")])
    yield index
    await index.close()


async def exported(index: KnowledgeIndex, **which: Any) -> list[dict[str, Any]]:
    """All records, as they are after a way through a file."""
    return [json.loads(json.dumps(record)) async for record in export_knowledge(index, **which)]


async def stream(records: Iterable[dict[str, Any]]) -> AsyncIterator[dict[str, Any]]:
    for record in records:
        yield record


async def everything(index: KnowledgeIndex) -> dict[str, Any]:
    found = {}
    for name in await index.collections():
        async for page in index.scroll(name):
            for point in page:
                terms = sorted(zip(point.sparse.indices, point.sparse.values, strict=True))
                found[name, point.id] = (point.scope, point.source, point.revision, terms, point.payload)
    return found


@pytest.mark.parametrize("engine", ["embedded", "in-memory"])
async def test_what_was_exported_is_found_where_it_was_imported(
    old: EmbeddedIndex, tmp_path: Path, engine: str
) -> None:
    """With vectors, so that no document is embedded again; twice changes nothing."""
    new = open_engine(engine, tmp_path / "new")
    records = await exported(old)
    for _ in range(2):
        done = await import_knowledge(new, stream(records))
        assert (done.chunks, done.sources) == (302, 3)
        assert done.collections == {"one": MODEL, "two": MODEL}
    assert await everything(new) == await everything(old)
    query = asking("tea 7", ALICE, metadata={"n": [7, 8]})
    [before, after] = [await index.search("one", MODEL, query) for index in (old, new)]
    assert [hit.id for hit in after] == [hit.id for hit in before]
    assert after[0].similarity == pytest.approx(before[0].similarity, abs=1e-6)
    await new.close()


async def test_an_export_can_be_of_one_scope_or_collection(old: EmbeddedIndex) -> None:
    """It serves a person who asks for their own data."""
    assert {r["tenant"] for r in await exported(old, scope=RIVAL) if r["kind"] == "chunk"} == {"rival"}
    assert [r["kind"] for r in await exported(old, collections=["two"])] == ["collection", "chunk", "end"]
    with pytest.raises(BadRequest, match=r"'three'.*one, two"):
        await exported(old, collections=["three"])


async def test_an_import_replaces_the_sources_it_has_and_leaves_the_others(old: EmbeddedIndex, tmp_path: Path) -> None:
    """The effect is that of adding the documents again."""
    new = EmbeddedIndex.open(tmp_path / "new")
    await add(new, "two", chunk(BOB, "older coffee", revision="r0"))
    await add(new, "two", chunk(BOB, "coffee letter", source="letter"))
    await import_knowledge(new, stream(await exported(old, collections=["two"])))
    assert sorted(await texts(new, "two", asking("coffee", BOB))) == ["coffee", "coffee letter"]
    await new.close()


async def test_a_collection_of_another_model_is_not_mixed_with(old: EmbeddedIndex, tmp_path: Path) -> None:
    """The import is refused before anything is written."""
    new = EmbeddedIndex.open(tmp_path / "new")
    other = EmbeddingInfo("another", 16)
    await new.write("two", other, [chunk(BOB, "tea", model=other)])
    with pytest.raises(IndexMismatch, match=r"'another'.*'made-of-words'"):
        await import_knowledge(new, stream(await exported(old, collections=["two"])))
    await new.close()


def _without_end(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return records[:-1]


def _without_a_chunk(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [*records[:5], *records[6:]]


def _of_the_future(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{**record, "format": 2} if record["kind"] == "collection" else record for record in records]


def _with_a_torn_vector(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [records[0], {**records[1], "dense": records[1]["dense"][:-3]}, *records[2:]]


def _of_something_else(_: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{"hello": "world"}]


def _without_the_head(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return records[1:]


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (_without_end, "incomplete: it has 302 of unknown"),
        (_without_a_chunk, "incomplete: it has 301 of 302"),
        (_of_the_future, "format 2"),
        (_with_a_torn_vector, "record 2 is not a record"),
        (_of_something_else, "record 1 is not a record"),
        (_without_the_head, "before its collection's record"),
    ],
)
async def test_a_damaged_export_publishes_nothing(
    old: EmbeddedIndex, tmp_path: Path, damage: Any, message: str
) -> None:
    """Search results stay the same."""
    new = EmbeddedIndex.open(tmp_path / "new")
    with pytest.raises(BadRequest, match=message):
        await import_knowledge(new, stream(damage(await exported(old))))
    assert await everything(new) == {}
    await new.close()


async def test_a_source_that_is_replaced_while_it_is_exported_is_noticed(old: EmbeddedIndex) -> None:
    """Otherwise half of each revision would be imported."""
    records = export_knowledge(old, collections=["one"])
    await anext(records)
    await anext(records)
    await add(old, "one", *(chunk(ALICE, f"milk {n}", number=n, revision="r2") for n in range(300)))
    with pytest.raises(IndexUnavailable, match="'notes' was replaced"):
        [record async for record in records]


async def test_transcripts_move_with_all_of_their_turns(tmp_path: Path) -> None:
    """The turns of a session are revisions of one source, all visible, each with its time; twice changes nothing."""
    name, old, new = transcript_collection(MODEL), *(EmbeddedIndex.open(tmp_path / each) for each in ("old", "new"))
    turns = [replace(chunk(ALICE, f"tea {n}", source="chat-1", revision=f"t{n}"), at_ms=1000 + n) for n in range(3)]
    await old.write(name, MODEL, turns, published=True)
    records = await exported(old)
    for _ in range(2):
        assert (await import_knowledge(new, stream(records))).chunks == 3
    assert await everything(new) == await everything(old)
    assert await texts(new, name, asking("tea", ALICE, since_ms=1002)) == ["tea 2"]
    for index in (old, new):
        await index.close()
