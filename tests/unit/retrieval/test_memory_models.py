"""Memory with the models that come with the install: no key, no network."""

from __future__ import annotations

import numpy as np
import pytest

from sessions.protocol.memory_requests import SearchMemory
from sessions.store.memory_record import Memory, StoredMemory
from workers.retrieval.embeddings import resolve_embedding_model
from workers.retrieval.memory.ranking import Ranking
from workers.retrieval.memory.scope_index import ScopeIndex
from workers.retrieval.memory.vectors import pack
from workers.retrieval.ports import CosineScale, EmbeddingModel
from workers.retrieval.words.bm25 import Bm25Model

MEMORIES = [
    "User prefers dark mode in every application",
    "Her daughter Emma turns nine on the third of May",
    "The customer account number is 88213-B",
    "They moved from Hamburg to Lisbon in 2021",
]


@pytest.fixture(scope="module")
def lexical() -> Bm25Model:
    return Bm25Model()


@pytest.fixture
def embedding() -> EmbeddingModel:
    return resolve_embedding_model(None)


async def found(query: str, lexical: Bm25Model, embedding: EmbeddingModel | None) -> list[str]:
    index, vectors = ScopeIndex(lexical), [None] * len(MEMORIES)
    if embedding is not None:
        vectors = [pack(vector) for vector in await embedding.embed_documents(MEMORIES)]
    for number, text in enumerate(MEMORIES):
        memory = Memory(str(number), text, "long", {}, 1)
        index.put(StoredMemory(memory, str(number), vectors[number]))
    vector = None if embedding is None else np.asarray(await embedding.embed_query(query), np.float32)
    scale = CosineScale() if embedding is None else embedding.scale(query)
    best = Ranking({"user": index}, vector, lexical.query(query), scale).best(SearchMemory(query=query))
    return [one["text"] for one in best]


async def test_preferences_finds_prefers(lexical: Bm25Model, embedding: EmbeddingModel) -> None:
    """The word's stem is enough, before any vector was computed."""
    assert await found("preferences", lexical, None) == [MEMORIES[0]]
    assert (await found("preferences", lexical, embedding))[0] == MEMORIES[0]


async def test_meaning_is_found_without_a_common_word(lexical: Bm25Model, embedding: EmbeddingModel) -> None:
    """A search by words alone would not find it."""
    assert await found("When did they settle in Portugal?", lexical, None) == []
    assert (await found("When did they settle in Portugal?", lexical, embedding))[0] == MEMORIES[3]


async def test_identifiers_are_found_by_their_letters(lexical: Bm25Model, embedding: EmbeddingModel) -> None:
    """A search by meaning alone would not tell two numbers apart."""
    assert (await found("88213-B", lexical, embedding))[0] == MEMORIES[2]


async def test_what_was_never_told_is_not_found(lexical: Bm25Model, embedding: EmbeddingModel) -> None:
    """The result is empty instead of the least distant memory."""
    assert await found("How do volcanoes form?", lexical, embedding) == []
