"""Which passages of a transcript have to do with a query."""

from __future__ import annotations

import pytest

from tests.support.retrieval_doubles import WordEmbedding, WordLexical
from workers.retrieval.transcript.search import Relevance


@pytest.mark.parametrize("base", [0.0, 0.7])
async def test_a_passage_is_close_to_the_query_or_has_a_word_of_it(base: float) -> None:
    """Also with a model whose cosines are all 0.7 or more."""
    embedding = WordEmbedding(base=base)
    relevance = Relevance("an old car", embedding, WordLexical())
    asked = await embedding.embed_query("an old car")

    async def is_relevant(text: str) -> bool:
        [vector] = await embedding.embed_documents([text])
        return relevance.of(text, sum(a * b for a, b in zip(asked, vector, strict=True)))

    assert await is_relevant("an automobile")
    assert await is_relevant("he said that the garage might well be too small for any other car of that kind")
    assert not await is_relevant("they sing in a choir")


def test_without_a_vector_nothing_is_left_out() -> None:
    """Such a passage was found by its words."""
    assert Relevance("an old car", WordEmbedding(), WordLexical()).of("vehicles", None)
