"""What a KnowledgeIndex promises, on each engine."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from sessions.errors import BadRequest, EmbeddingFailed, IndexMismatch
from tests.support.knowledge import LEXICAL, MODEL, OTHER_MODEL, add, asking, chunk, texts, vector
from workers.retrieval.ports import CosineScale, EmbeddingInfo, IndexPoint, IndexQuery, KnowledgeIndex, Scope

pytestmark = pytest.mark.filterwarnings("ignore:Payload indexes have no effect in the local Qdrant")

ALICE = Scope("acme", "user:alice")
BOB = Scope("acme", "user:bob")
BASE = Scope("acme", "base:handbook")
RIVAL = Scope("rival", "user:alice")


async def test_what_was_published_is_found_with_all_that_was_written(index: KnowledgeIndex, collection: str) -> None:
    """A hit names its source, and has the payload unchanged."""
    point = chunk(ALICE, "tea is best hot", metadata={"lang": "en", "deep": {"a": [1, None, 2.5]}, "big": 2**70})
    await add(index, collection, point)
    [hit] = await index.search(collection, MODEL, asking("tea", ALICE))
    assert (hit.id, hit.scope, hit.source, hit.revision) == (point.id, ALICE, "notes", "r1")
    assert hit.payload == point.payload
    assert hit.score > 0


async def test_a_hit_tells_the_cosine_of_its_vector(index: KnowledgeIndex, collection: str) -> None:
    """A hit that was found by its terms has one, too."""
    await add(index, collection, chunk(ALICE, "tea"), chunk(ALICE, "coffee", number=1))
    hits = {hit.payload["text"]: hit for hit in await index.search(collection, MODEL, asking("tea", ALICE))}
    assert hits["tea"].similarity == pytest.approx(1.0, abs=1e-5)
    assert hits["coffee"].similarity == pytest.approx(
        sum(a * b for a, b in zip(vector("tea"), vector("coffee"), strict=True)), abs=1e-5
    )


async def test_unpublished_chunks_are_not_found(index: KnowledgeIndex, collection: str) -> None:
    """An ingest that died half-way has shown nothing."""
    await index.write(collection, MODEL, [chunk(ALICE, "tea is best hot")])
    assert await texts(index, collection, asking("tea", ALICE)) == []
    assert await index.count(collection, ALICE) == 0
    assert [page async for page in index.scroll(collection, ALICE)] == []


async def test_a_new_revision_replaces_the_old_one_when_it_is_published(index: KnowledgeIndex, collection: str) -> None:
    """Until then the old one is found; other sources and scopes stay as they are."""
    await add(index, collection, chunk(ALICE, "tea is hot", number=0), chunk(ALICE, "tea is old", number=1))
    await add(index, collection, chunk(ALICE, "tea elsewhere", source="letters"))
    await add(index, collection, chunk(BOB, "tea for bob"))
    new = chunk(ALICE, "tea is cold", revision="r2")
    await index.write(collection, MODEL, [new])
    assert sorted(await texts(index, collection, asking("tea", ALICE))) == ["tea elsewhere", "tea is hot", "tea is old"]
    await index.publish(collection, ALICE, "notes", "r2")
    assert sorted(await texts(index, collection, asking("tea", ALICE))) == ["tea elsewhere", "tea is cold"]
    assert await texts(index, collection, asking("tea", BOB)) == ["tea for bob"]
    assert await index.remove(collection, ALICE, revision="r1", source="notes") == 0


async def test_every_call_may_be_repeated(index: KnowledgeIndex, collection: str) -> None:
    """A crash between any two calls is mended by making them again."""
    points = [chunk(ALICE, f"tea {number}", number=number) for number in range(3)]
    await index.write(collection, MODEL, points[:2])
    await index.write(collection, MODEL, points)
    await index.publish(collection, ALICE, "notes", "r1")
    await index.publish(collection, ALICE, "notes", "r1")
    assert await index.count(collection, ALICE) == 3
    assert await index.remove(collection, ALICE, source="notes") == 3
    assert await index.remove(collection, ALICE, source="notes") == 0


async def test_writing_a_published_chunk_again_leaves_it_visible(index: KnowledgeIndex, collection: str) -> None:
    """Re-ingesting may die before it publishes; its new chunks stay invisible."""
    await add(index, collection, chunk(ALICE, "tea"))
    again = [chunk(ALICE, "tea", metadata={"lang": "en"}), chunk(ALICE, "tea too", number=1)]
    await index.write(collection, MODEL, again)
    assert await texts(index, collection, asking("tea", ALICE)) == ["tea"]
    assert await texts(index, collection, asking("tea", ALICE, metadata={"lang": "en"})) == ["tea"]
    await index.publish(collection, ALICE, "notes", "r1")
    assert len(await texts(index, collection, asking("tea", ALICE))) == 2


async def test_publishing_what_was_never_written_removes_nothing(index: KnowledgeIndex, collection: str) -> None:
    """Otherwise a late publish (its chunks were removed) would remove the old revision with it."""
    await index.publish(collection, ALICE, "notes", "r1")
    await add(index, collection, chunk(ALICE, "tea"))
    await index.publish(collection, ALICE, "notes", "r9")
    assert await texts(index, collection, asking("tea", ALICE)) == ["tea"]


async def test_no_search_leaves_its_scopes(index: KnowledgeIndex, collection: str) -> None:
    """This holds even if the only match is in another scope."""
    for scope in (ALICE, BOB, BASE, RIVAL):
        await add(index, collection, chunk(scope, f"tea of {scope.tenant} {scope.name}"))
    assert await texts(index, collection, asking("tea", ALICE)) == ["tea of acme user:alice"]
    assert await texts(index, collection, asking("tea", RIVAL)) == ["tea of rival user:alice"]
    assert len(await texts(index, collection, asking("tea", ALICE, BASE))) == 2
    assert await texts(index, collection, asking("tea", Scope("acme", "user:carol"))) == []


async def test_a_search_in_two_tenants_is_refused(index: KnowledgeIndex, collection: str) -> None:
    """Such a search can only be a mistake."""
    await add(index, collection, chunk(ALICE, "tea"))
    with pytest.raises(ValueError, match="one tenant"):
        await index.search(collection, MODEL, asking("tea", ALICE, RIVAL))
    with pytest.raises(ValueError, match="one tenant"):
        await index.search(collection, MODEL, asking("tea"))


@pytest.mark.parametrize(
    ("filters", "found"),
    [
        ({"lang": "en"}, {"one"}),
        ({"lang": ["en", "de"]}, {"one", "two"}),
        ({"year": 2024}, {"one"}),
        ({"year": 2024.0}, {"one"}),
        ({"year": "2024"}, {"two"}),
        ({"ratio": 0.5}, {"one"}),
        ({"open": True}, {"one"}),
        ({"open": 1}, set()),
        ({"tags": "b"}, {"one", "two"}),
        ({"tags": ["a", "c"]}, {"one", "two"}),
        ({"lang": "en", "open": False}, set()),
        ({"nested.key": "x"}, {"one"}),
        ({"none": None}, {"two"}),
        ({"long": "x" * 5000}, {"one"}),
        ({"long": "x" * 5001}, set()),
        ({"scope": "user:bob"}, {"one"}),
        ({"tenant": "rival"}, set()),
        ({"lang": []}, set()),
        ({"unknown": 1}, set()),
    ],
)
async def test_metadata_filters_match_values(
    index: KnowledgeIndex, collection: str, filters: dict[str, Any], found: set[str]
) -> None:
    """Texts, numbers, booleans and lists; any of a list; keys like our own fields or like paths are just keys."""
    one = {
        "lang": "en", "year": 2024, "ratio": 0.5, "open": True, "tags": ["a", "b"], "nested.key": "x",
        "long": "x" * 5000, "scope": "user:bob",
    }  # fmt: skip
    two = {"lang": "de", "year": "2024", "open": False, "tags": ["b", "c"], "none": None}
    await add(index, collection, chunk(ALICE, "one", metadata=one), chunk(ALICE, "two", number=1, metadata=two))
    assert set(await texts(index, collection, asking("one two", ALICE, metadata=filters))) == found


async def test_a_search_can_be_narrowed_to_sources(index: KnowledgeIndex, collection: str) -> None:
    """Any of the named sources matches; an empty list matches nothing."""
    for source in ("a.pdf", "b.pdf", "ünïcode/ c\ud83d.pdf"):
        await add(index, collection, chunk(ALICE, f"tea {len(source)}", source=source))
    assert await texts(index, collection, asking("tea", ALICE, sources=["a.pdf"])) == ["tea 5"]
    assert await texts(index, collection, asking("tea", ALICE, sources=["ünïcode/ c\ud83d.pdf"])) == ["tea 15"]
    assert len(await texts(index, collection, asking("tea", ALICE, sources=["a.pdf", "b.pdf", "c.pdf"]))) == 2
    assert await texts(index, collection, asking("tea", ALICE, sources=[])) == []


async def test_either_half_of_a_search_does_alone(index: KnowledgeIndex, collection: str) -> None:
    """Dense finds everything, nearest first; terms find what has them."""
    await add(index, collection, chunk(ALICE, "green tea"), chunk(ALICE, "coffee", number=1))
    dense = IndexQuery(vector("tea green"), None, [ALICE])
    terms = IndexQuery(None, LEXICAL.query("coffee"), [ALICE])
    assert (await texts(index, collection, dense))[0] == "green tea"
    assert len(await texts(index, collection, dense)) == 2
    [hit] = await index.search(collection, MODEL, terms)
    assert (hit.payload["text"], hit.similarity) == ("coffee", None)


async def test_stop_words_alone_find_nothing_by_terms_and_do_not_harm_a_hybrid_search(
    index: KnowledgeIndex, collection: str
) -> None:
    """Their vector is empty, which engines refuse; so is that of a text of stop words."""
    await add(index, collection, chunk(ALICE, "the tea"), chunk(ALICE, "and the of", number=1))
    assert await texts(index, collection, IndexQuery(None, LEXICAL.query("the"), [ALICE])) == []
    assert len(await texts(index, collection, asking("the", ALICE))) == 2
    with pytest.raises(ValueError, match="dense vector, terms, or both"):
        await index.search(collection, MODEL, IndexQuery(None, None, [ALICE]))


async def test_of_hits_with_the_best_score_the_nearest_comes_first(index: KnowledgeIndex, collection: str) -> None:
    """A score ends at 1: from a certain cosine on, a text could not match better. The search tells them apart still."""
    texts = ["tea", *(f"tea {'tea ' * n}leaves" for n in range(8))]
    await add(index, collection, *(chunk(ALICE, text, number=n) for n, text in enumerate(texts)))
    query = IndexQuery(vector("tea"), None, [ALICE], limit=9, scale=CosineScale(same=0.1))
    hits = await index.search(collection, MODEL, query)
    assert [hit.score for hit in hits] == [1.0] * 9
    assert [hit.payload["text"] for hit in hits] == [texts[0], *reversed(texts[1:])]


async def test_both_halves_are_fused(index: KnowledgeIndex, collection: str) -> None:
    """What both find comes before what only one of them ranks first."""
    points = [chunk(ALICE, text, number=n) for n, text in enumerate(["tea", "green tea leaves", "coffee", "milk"])]
    await add(index, collection, *points)
    words = LEXICAL.words("coffee")
    query = IndexQuery(vector("coffee"), LEXICAL.query("coffee"), [ALICE], words=words)
    hits = await index.search(collection, MODEL, query)
    assert hits[0].payload["text"] == "coffee"
    assert hits[0].score == pytest.approx(2 / 2)
    assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)


async def test_rare_terms_weigh_more(index: KnowledgeIndex, collection: str) -> None:
    """The index multiplies the weights by the inverse document frequencies."""
    common = [chunk(ALICE, f"tea pot{n}", number=n) for n in range(8)]
    await add(index, collection, *common, chunk(ALICE, "samovar spoon", number=8))
    found = await texts(index, collection, IndexQuery(None, LEXICAL.query("tea samovar"), [ALICE]))
    assert found[0] == "samovar spoon"


async def test_a_search_returns_as_many_as_were_asked_for(index: KnowledgeIndex, collection: str) -> None:
    """It may be more than the number of candidates of one half."""
    await add(index, collection, *(chunk(ALICE, f"tea {number}", number=number) for number in range(150)))
    assert len(await texts(index, collection, asking("tea", ALICE, limit=3))) == 3
    assert len(await texts(index, collection, asking("tea", ALICE, limit=120))) == 120
    with pytest.raises(ValueError, match="at least 1"):
        await index.search(collection, MODEL, asking("tea", ALICE, limit=0))


async def test_removing_takes_what_was_named_and_nothing_else(index: KnowledgeIndex, collection: str) -> None:
    """A revision, a source, a whole scope: published or not; it says how many chunks there were."""
    await add(index, collection, *(chunk(ALICE, f"tea {n}", number=n) for n in range(600)))
    await index.write(collection, MODEL, [chunk(ALICE, "tea new", revision="r2")])
    await add(index, collection, chunk(ALICE, "tea letter", source="letters"))
    for other in (BOB, RIVAL):
        await add(index, collection, chunk(other, "tea"))
    assert await index.remove(collection, ALICE, source="notes", revision="r2") == 1
    assert await index.count(collection, ALICE, source="notes") == 600
    assert await index.remove(collection, ALICE, source="notes") == 600
    assert await index.count(collection, ALICE) == 1
    assert await index.remove(collection, ALICE) == 1
    assert await texts(index, collection, asking("tea", ALICE)) == []
    assert await texts(index, collection, asking("tea", BOB)) == ["tea"]
    assert await texts(index, collection, asking("tea", RIVAL)) == ["tea"]


async def test_chunks_may_be_visible_at_once(index: KnowledgeIndex, collection: str) -> None:
    """Next to other revisions of their source, each of which can be removed. Writing one again changes nothing."""
    for revision in ("r1", "r2", "r1"):
        await index.write(collection, MODEL, [chunk(ALICE, f"tea {revision}", revision=revision)], published=True)
    assert sorted(await texts(index, collection, asking("tea", ALICE))) == ["tea r1", "tea r2"]
    assert await index.remove(collection, ALICE, source="notes", revision="r1") == 1
    assert await texts(index, collection, asking("tea", ALICE)) == ["tea r2"]


async def test_a_search_may_be_limited_to_a_time(index: KnowledgeIndex, collection: str) -> None:
    """`since_ms` is included, `until_ms` is not; chunks without a time are then not found. A scroll has the times."""
    points = [replace(chunk(ALICE, f"tea {at}", number=at), at_ms=1_700_000_000_000 + at) for at in (1, 2, 3)]
    await add(index, collection, *points, chunk(ALICE, "tea 0", number=0))

    async def found(since: int | None, until: int | None) -> list[str]:
        times = {"since_ms": since, "until_ms": until}
        moved = {name: None if at is None else 1_700_000_000_000 + at for name, at in times.items()}
        return sorted(await texts(index, collection, asking("tea", ALICE, **moved)))

    assert await found(None, None) == ["tea 0", "tea 1", "tea 2", "tea 3"]
    assert await found(2, None) == ["tea 2", "tea 3"]
    assert await found(None, 2) == ["tea 1"]
    assert await found(2, 3) == ["tea 2"]
    scrolled = [point async for page in index.scroll(collection) for point in page]
    assert {point.payload["text"]: point.at_ms for point in scrolled if point.at_ms} == {
        point.payload["text"]: point.at_ms for point in points
    }


async def test_a_collection_that_does_not_exist_holds_nothing(index: KnowledgeIndex, collection: str) -> None:
    """Searching it does not create it."""
    assert await index.search(collection, MODEL, asking("tea", ALICE)) == []
    assert await index.count(collection, ALICE) == 0
    assert await index.remove(collection, ALICE) == 0
    assert [page async for page in index.scroll(collection)] == []
    await index.publish(collection, ALICE, "notes", "r1")
    await index.write(collection, MODEL, [])
    assert collection not in await index.collections()


async def test_collections_are_listed_with_their_models(index: KnowledgeIndex, collection: str) -> None:
    """Exports and the deletion of a session use this list."""
    await add(index, collection, chunk(ALICE, "tea"))
    assert (await index.collections())[collection] == MODEL


@pytest.mark.parametrize("model", [OTHER_MODEL, EmbeddingInfo(MODEL.id, 8)])
async def test_another_model_is_refused(index: KnowledgeIndex, collection: str, model: EmbeddingInfo) -> None:
    """Vectors of two models cannot be compared; both are named, and what to do."""
    await add(index, collection, chunk(ALICE, "tea"))
    with pytest.raises(IndexMismatch, match=r"'made-of-words' \(16 numbers\), not of .*another collection"):
        await index.write(collection, model, [chunk(ALICE, "tea", model=model)])
    with pytest.raises(IndexMismatch, match="another collection"):
        await index.search(collection, model, asking("tea", ALICE))
    assert await texts(index, collection, asking("tea", ALICE)) == ["tea"]


async def test_vectors_that_cannot_be_found_again_are_refused(index: KnowledgeIndex, collection: str) -> None:
    """Some engines would accept them."""
    short = chunk(ALICE, "tea", model=EmbeddingInfo(MODEL.id, 8))
    with pytest.raises(IndexMismatch, match="8 numbers"):
        await index.write(collection, MODEL, [short])
    good = chunk(ALICE, "tea")
    bad = IndexPoint(good.id, ALICE, "notes", "r1", [float("nan"), *good.dense[1:]], good.sparse, good.payload)
    with pytest.raises(EmbeddingFailed, match="finite"):
        await index.write(collection, MODEL, [good, bad])


@pytest.mark.parametrize("name", ["", "../up", "a/b", ".hidden", "a b", "x" * 129, "é"])
async def test_a_bad_name_is_refused(index: KnowledgeIndex, name: str) -> None:
    """It would be a path, or break the server's rules for names."""
    with pytest.raises(BadRequest, match="letters, digits"):
        await index.write(name, MODEL, [chunk(ALICE, "tea")])
    with pytest.raises(BadRequest, match="letters, digits"):
        await index.search(name, MODEL, asking("tea", ALICE))


async def test_a_scroll_gives_every_chunk_as_it_was_written(index: KnowledgeIndex, collection: str) -> None:
    """Page by page, with vectors: writing it elsewhere gives the same collection."""
    points = [chunk(ALICE, f"tea {n}" if n else "the", number=n, metadata={"n": n}) for n in range(600)]
    await add(index, collection, *points)
    await add(index, collection, chunk(RIVAL, "tea"))
    pages = [page async for page in index.scroll(collection, ALICE)]
    assert len(pages) > 1
    found = {point.id: point for page in pages for point in page}
    assert sum(map(len, pages)) == len(found) == 600
    for point in points:
        again = found[point.id]
        assert (again.scope, again.source, again.revision) == (ALICE, "notes", "r1")
        assert again.payload == point.payload
        assert again.dense == pytest.approx(point.dense, abs=1e-6)
        terms = dict(zip(again.sparse.indices, again.sparse.values, strict=True))
        assert terms == pytest.approx(dict(zip(point.sparse.indices, point.sparse.values, strict=True)))
    assert sum([len(page) async for page in index.scroll(collection)]) == 601


async def test_a_search_sees_one_revision_while_sources_are_replaced(index: KnowledgeIndex, collection: str) -> None:
    """Searches run next to writes and publishes; none finds a source missing."""
    await add(index, collection, chunk(ALICE, "tea 0", revision="r0"))
    found: list[list[str]] = []
    done = asyncio.Event()

    async def look() -> None:
        while not done.is_set():
            found.append(await texts(index, collection, asking("tea", ALICE)))
            await asyncio.sleep(0)

    looking = asyncio.create_task(look())
    for number in range(1, 15):
        await add(index, collection, chunk(ALICE, f"tea {number}", revision=f"r{number}"))
        await asyncio.sleep(0)  # the in-memory engine never gives way
    done.set()
    await looking
    assert found
    # A server may show both for as long as the second request takes.
    assert all(1 <= len(each) <= 2 for each in found)
    assert await texts(index, collection, asking("tea", ALICE)) == ["tea 14"]


async def test_tidying_changes_nothing_that_is_found(index: KnowledgeIndex, collection: str) -> None:
    """It only frees space."""
    await add(index, collection, chunk(ALICE, "tea"))
    await index.tidy()
    assert await texts(index, collection, asking("tea", ALICE)) == ["tea"]


async def test_closing_twice_does_no_harm(index: KnowledgeIndex, collection: str) -> None:
    """A worker that stops for two reasons at once closes twice."""
    await add(index, collection, chunk(ALICE, "tea"))
    await index.close()
    await index.close()
