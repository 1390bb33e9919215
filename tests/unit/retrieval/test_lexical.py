"""Terms: what is said with other endings, in other scripts or with numbers is found by its words."""

from __future__ import annotations

import pytest

from workers.retrieval.lexical import Bm25Model
from workers.retrieval.ports import LexicalModel


@pytest.fixture(scope="module")
def model() -> LexicalModel:
    return Bm25Model()


def score(model: LexicalModel, text: str, query: str) -> float:
    found = model.document(text)
    weights = dict(zip(found.indices, found.values, strict=True))
    asked = model.query(query)
    return sum(weights.get(i, 0.0) * value for i, value in zip(asked.indices, asked.values, strict=True))


@pytest.mark.parametrize(
    ("text", "query"),
    [
        ("She prefers tea", "preferences"),
        ("Improved efficiency", "efficiency IMPROVEMENTS"),
        ("error E-4021 in Python 3.11", "4021"),
        ("error E-4021 in Python 3.11", "3.11"),
        ("ask user@example.com", "example.com"),
        ("Café in München", "cafe munchen"),
        ("人工智能的研究正在迅速发展。", "人工智能研究"),
        ("人工智能 4021", "4021"),
        ("これは日本語のテキストです", "日本語"),
        ("русский язык", "язык"),
    ],
)
def test_a_text_is_found_by_its_words(model: LexicalModel, text: str, query: str) -> None:
    """Endings, case, accents, numbers, and scripts that put no spaces between words."""
    assert score(model, text, query) > 0


@pytest.mark.parametrize("text", ["", "the and of", "?!", " \n"])
def test_a_text_without_terms_has_an_empty_vector(model: LexicalModel, text: str) -> None:
    """The index leaves the lexical half out for it."""
    assert model.document(text).indices == []
    assert model.query(text).indices == []


def test_another_word_is_not_found(model: LexicalModel) -> None:
    """Terms are whole words."""
    assert score(model, "a battle of cats", "bat concatenate") == 0


def test_a_repeated_term_weighs_more_and_a_longer_text_less(model: LexicalModel) -> None:
    """BM25: frequency saturates, length is discounted."""
    once, twice = score(model, "tea milk", "tea"), score(model, "tea tea milk", "tea")
    assert once < twice < 2 * once
    assert score(model, "tea" + " milk" * 500, "tea") < once


def test_the_same_text_has_the_same_vector_in_every_process(model: LexicalModel) -> None:
    """What one worker wrote another one finds: the terms' hashes are not Python's."""
    assert model.query("preferences").indices == [1509807134]
    assert model.query("tea tea").values == [1.0]


def test_half_a_surrogate_pair_does_no_harm(model: LexicalModel) -> None:
    """A text that was cut within an emoji is indexed all the same."""
    assert score(model, "tea \ud83d", "tea") > 0
