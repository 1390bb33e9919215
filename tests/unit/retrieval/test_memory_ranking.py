"""How memories are ordered for a query, on copies that are made here."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest

from sessions.protocol.memory_requests import SearchMemory
from sessions.store.memory_record import Memory, StoredMemory
from tests.support.retrieval_doubles import WordEmbedding, WordLexical
from workers.retrieval.memory.ranking import Ranking
from workers.retrieval.memory.scope_index import ScopeIndex
from workers.retrieval.memory.vectors import NO_VECTOR, pack
from workers.retrieval.ports import CosineScale


class Bench:
    """Scopes that share two models."""

    def __init__(self, *, base: float = 0.0) -> None:
        self.embedding, self.lexical = WordEmbedding(base=base), WordLexical()
        self.scopes: dict[str, ScopeIndex] = {}

    async def put(
        self, text: str, memory_id: str, scope: str = "session", *, vector: bool = True, **fields: Any
    ) -> None:
        memory = Memory(**{"id": memory_id, "text": text, "kind": "long", "metadata": {}, "created_ms": 1, **fields})
        packed = pack((await self.embedding.embed_documents([text]))[0]) if vector else None
        index = self.scopes.setdefault(scope, ScopeIndex(self.lexical))
        index.put(StoredMemory(memory, digest=f"{text}{fields}", vector=packed))

    async def search(self, query: str, *, dense: bool = True, **options: Any) -> list[dict[str, Any]]:
        vector = np.asarray(await self.embedding.embed_query(query), np.float32) if dense else None
        ranking = Ranking(self.scopes, vector, self.lexical.query(query), self.embedding.scale(query))
        return ranking.best(SearchMemory(query=query, **options))

    async def ids(self, query: str, **options: Any) -> list[str]:
        return [found["id"] for found in await self.search(query, **options)]


@pytest.fixture
def bench() -> Bench:
    return Bench()


async def test_meaning_and_words_are_fused(bench: Bench) -> None:
    """First what is first by both (1.0), then what one of them finds; unrelated memories are not returned."""
    await bench.put("drives an automobile", "meaning")
    await bench.put("washes the car", "both")
    await bench.put("the car", "words", vector=False)
    await bench.put("likes otters", "unrelated")
    found = await bench.search("car")
    assert found[0]["id"] == "both"
    assert {one["id"] for one in found} == {"meaning", "both", "words"}
    similarity = {one["id"]: one["similarity"] for one in found}
    assert similarity["words"] is None
    assert 0 < similarity["meaning"] < 1
    assert all(0 < one["score"] <= 1 for one in found)
    assert (await bench.search("otters"))[0]["score"] == 1.0


async def test_what_is_hardly_alike_is_unrelated(bench: Bench) -> None:
    """Where no word is shared, a low cosine is noise: better nothing than anything."""
    await bench.put("is " + " ".join("abcdefghijklmnopqrstuvw"), "noise")
    assert await bench.ids("is tea") == []
    await bench.put("is ok", "alike")
    assert await bench.ids("is tea") == ["alike"]


async def test_a_model_whose_cosines_are_all_large_is_read_on_its_own_scale() -> None:
    """The cosine of everything is 0.7 or more: the same is unrelated, and the same is about the same, as without it."""
    bench = Bench(base=0.7)
    await bench.put("is " + " ".join("abcdefghijklmnopqrstuvw"), "noise")
    await bench.put("is ok", "alike")
    assert await bench.ids("is tea") == ["alike"]
    await bench.put("the train to oslo leaves at 9", "answer", created_ms=1)
    await bench.put("the train to oslo leaves at 10", "newer", created_ms=2)
    await bench.put("the oslo train leaves a lot of my old wishes open", "other", created_ms=3)
    assert await bench.ids("the train to oslo leaves at 9") == ["newer", "answer", "other"]


async def test_words_decide_in_a_language_that_the_model_does_not_know(bench: Bench) -> None:
    """Its cosines tell little there: what has the word comes first, and nothing is found by its cosine alone."""
    await bench.put("an automobile", "near")
    await bench.put("his old red car is in the yard of my aunt", "word")
    vector = np.asarray(await bench.embedding.embed_query("car"), np.float32)
    for weight, found in ((0.7, ["near", "word"]), (0.1, ["word"])):
        ranking = Ranking(bench.scopes, vector, bench.lexical.query("car"), CosineScale(weight))
        assert [one["id"] for one in ranking.best(SearchMemory(query="car"))] == found


async def test_what_is_equal_is_ordered_by_id_whatever_the_order_of_loading(bench: Bench) -> None:
    """Newest first; two workers that read the same memories in another order say the same."""
    for name in ("b", "a", "d", "c"):
        await bench.put("likes tea", name, metadata={"of": name})
    other = Bench()
    for name in ("d", "c", "b", "a"):
        await other.put("likes tea", name, metadata={"of": name})
    assert await bench.ids("tea") == await other.ids("tea") == ["d", "c", "b", "a"]
    assert await bench.ids("tea", limit=2) == ["d", "c"]
    for n in range(200):
        await bench.put("likes tea", f"e{n:03}", metadata={"of": n})
    assert await bench.ids("tea", limit=2) == ["e199", "e198"]


async def test_filters_apply_before_ranking(bench: Bench) -> None:
    """The limit counts what fits, even where hundreds of better ones do not."""
    for n in range(300):
        await bench.put("tea tea", f"{n:03}", metadata={"topic": "other"})
    await bench.put("tea and much else besides", "x1", metadata={"topic": "drinks", "tags": ["hot", "green"]})
    await bench.put("tea or something like it, perhaps", "x2", kind="short", metadata={"topic": "drinks"})
    assert sorted(await bench.ids("tea", filters={"topic": "drinks"}, limit=2)) == ["x1", "x2"]
    assert await bench.ids("tea", filters={"topic": ["drinks", "food"]}, types=("short",)) == ["x2"]
    assert await bench.ids("tea", filters={"tags": "green"}) == ["x1"]
    assert await bench.ids("tea", filters={"topic": "drinks", "tags": ["cold"]}) == []


@pytest.mark.parametrize(
    ("have", "wanted", "fits"),
    [
        (1, 1.0, True),
        (1, True, False),
        ("1", [1, 2], False),
        (None, None, True),
        ({"a": 1, "b": [2.0]}, {"$eq": {"b": [2], "a": 1}}, True),
        (["a", "b"], "b", True),
        (["a", "b"], ["c", "a"], True),
        (["a", "b"], ["c"], False),
        ("a", [], False),
    ],
)
async def test_a_filter_compares_as_json_does(bench: Bench, have: Any, wanted: Any, fits: bool) -> None:
    """`True` is not 1, but 1.0 is; a list stands for any of its values on both sides; what is missing fits nothing."""
    await bench.put("tea", "1", metadata={"n": have})
    await bench.put("tea", "2", metadata={"m": have})
    assert await bench.ids("tea", filters={"n": wanted}) == (["1"] if fits else [])


async def test_several_scopes_are_one_list(bench: Bench) -> None:
    """They are ranked together, and each result names its scope."""
    await bench.put("black tea", "1", "user")
    await bench.put("green tea", "2", "session")
    found = await bench.search("green tea")
    assert [(one["id"], one["scope"]) for one in found] == [("2", "session"), ("1", "user")]


async def test_words_alone_are_enough(bench: Bench) -> None:
    """Without vectors, scores are those of the one half; rare words count more than common ones."""
    for n in range(9):
        await bench.put("likes tea", f"{n}")
    await bench.put("likes Lapsang", "rare")
    found = await bench.search("likes lapsang", dense=False)
    assert (found[0]["id"], found[0]["score"]) == ("rare", 1.0)


async def test_a_score_can_be_asked_for(bench: Bench) -> None:
    """Results below `min_score` are left out."""
    await bench.put("green tea", "1")
    await bench.put("tea, or something else", "2")
    assert await bench.ids("green tea") == ["1", "2"]
    assert await bench.ids("green tea", min_score=0.9) == ["1"]


async def test_changes_leave_what_a_new_copy_would_have(bench: Bench) -> None:
    """Adding, replacing and removing in any order, over many closings-up: as if only the rest had ever been there."""
    dice, texts, present = random.Random(7), ["green tea", "black coffee", "a red car", "tea and coffee"], {}
    for n in range(4_000):
        name = f"{dice.randrange(120):03}"
        if dice.random() < 0.4:
            bench.scopes.setdefault("session", ScopeIndex(bench.lexical)).remove(name)
            present.pop(name, None)
        else:
            present[name] = (dice.choice(texts), dice.random() < 0.5, {"n": n % 3})
            await bench.put(present[name][0], name, vector=present[name][1], metadata=present[name][2])
    fresh = Bench()
    fresh.embedding, fresh.lexical = bench.embedding, bench.lexical
    for name, (text, vector, metadata) in present.items():
        await fresh.put(text, name, vector=vector, metadata=metadata)
    for query in ("tea", "coffee", "car", "automobile", "green"):
        for filters in ({}, {"n": 1}):
            found = await bench.search(query, limit=50, filters=filters)
            assert found == await fresh.search(query, limit=50, filters=filters)
    one, other = bench.scopes["session"], fresh.scopes["session"]
    assert (len(one), one.missing) == (len(other), other.missing) == (len(present), other.missing)


async def test_what_cannot_be_embedded_is_not_asked_for_again(bench: Bench) -> None:
    """It is found by its words; a vector for a text that was replaced meanwhile is not used."""
    await bench.put("odd words", "1", vector=False)
    index = bench.scopes["session"]
    [stored] = index.newest_missing(5)
    index.set_vector(stored, NO_VECTOR)
    assert index.newest_missing(5) == []
    assert await bench.ids("odd") == ["1"]
    await bench.put("new words", "1", vector=False)
    index.set_vector(stored, pack([1.0] * 64))
    assert [one.memory.text for one in index.newest_missing(5)] == ["new words"]


async def test_the_same_is_recognised(bench: Bench) -> None:
    """The same words, whatever their spacing and case, count 1; else the cosine decides; the most alike first."""
    await bench.put("Likes   TEA", "1", vector=False)
    await bench.put("likes tea very much", "2")
    await bench.put("has a car", "3")
    vector = np.asarray(await bench.embedding.embed_query("likes tea"), np.float32)
    alike = bench.scopes["session"].duplicates_of("likes tea", vector, 0.6)
    assert [(memory.id, round(score, 2)) for memory, score in alike] == [("1", 1.0), ("2", 0.71)]


async def test_what_is_newer_comes_before_what_it_changes(bench: Bench) -> None:
    """Even if the older one is more similar to the question; its score is that of the one that it changes."""
    await bench.put("his favourite drink at work is cola", "older", created_ms=1)
    await bench.put("his favourite drink at work now is coffee", "newer", created_ms=2)
    found = await bench.search("his favourite drink at work is")
    assert [one["id"] for one in found] == ["newer", "older"]
    assert found[0]["score"] == found[1]["score"]
    await bench.put("his favourite drink at work is cola", "older", created_ms=3)
    assert await bench.ids("his favourite drink at work is") == ["older", "newer"]


async def test_of_several_changes_the_last_comes_first(bench: Bench) -> None:
    """Each of them changes the one before it, and they are listed from the newest to the oldest."""
    for at, drink in enumerate(("is cola", "now is coffee", "now is tea"), start=1):
        await bench.put(f"his favourite drink at work {drink}", str(at), created_ms=at)
    found = await bench.search("his favourite drink at work is")
    assert [one["id"] for one in found] == ["3", "2", "1"]
    assert len({one["score"] for one in found}) == 1


async def test_of_two_memories_of_one_millisecond_the_id_tells_the_newer(bench: Bench) -> None:
    """A process adds several in a millisecond, and its ids are in order."""
    await bench.put("his favourite drink at work is cola", "1", created_ms=1)
    await bench.put("his favourite drink at work now is coffee", "2", created_ms=1)
    assert await bench.ids("his favourite drink at work is") == ["2", "1"]


async def test_a_newer_memory_about_something_else_stays_behind(bench: Bench) -> None:
    """A change has the words of the question that the older memory has, and is similar to it."""
    await bench.put("the train to oslo leaves at nine", "answer", created_ms=1)
    await bench.put("the train to riga leaves at ten", "other", created_ms=2)
    assert (await bench.ids("when does the train to oslo leave"))[0] == "answer"
    await bench.put("tea", "tea", created_ms=3)
    assert (await bench.ids("when does the train to oslo leave"))[0] == "answer"


async def test_the_same_content_is_found_once(bench: Bench) -> None:
    """Earlier versions kept every copy: the newest is found. Other metadata is another memory, as is another scope."""
    await bench.put("likes tea", "1", created_ms=1)
    await bench.put("Likes  TEA", "2", created_ms=2)
    await bench.put("likes tea", "3", created_ms=1, metadata={"of": "ann"})
    await bench.put("likes tea", "4", "user", created_ms=1)
    assert sorted(await bench.ids("tea")) == ["2", "3", "4"]
