"""Terms: what is said with other endings, in other scripts or with numbers is found by its words."""

from __future__ import annotations

import pytest

from workers.retrieval.ports import LexicalModel, SparseVector
from workers.retrieval.words.bm25 import Bm25Model


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
        ("错误代码0x1F4已发生", "0x1F4"),
        ("版本3.11.7发布", "3.11.7"),
        ("\uff21\uff22\uff0d\uff11\uff12 in full width", "ab-12"),
        ("im Jahr ٢٠٢٤", "2024"),
        ("Ku\u0308ndigungsfrist", "Kündigungsfrist"),
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
    assert model.document("preferences").indices == [1509807134]
    assert 1509807134 in model.query("preferences").indices
    assert set(model.query("tea tea").values) == {1.0}


def test_half_a_surrogate_pair_does_no_harm(model: LexicalModel) -> None:
    """A text that was cut within an emoji is indexed all the same."""
    assert score(model, "tea \ud83d", "tea") > 0


@pytest.mark.parametrize(
    ("text", "query"),
    [
        ("Die Kündigungsfrist ist ein Monat.", "kuendigungsfrist"),
        ("Die Kuendigungsfrist ist ein Monat.", "Kündigungsfrist"),
        ("Die Straße ist gesperrt.", "STRASSE"),
        ("Smørrebrød og øl", "smoerrebroed"),
        ("Ångström", "aangstroem"),
    ],
)
def test_umlauts_are_found_in_each_of_their_spellings(model: LexicalModel, text: str, query: str) -> None:
    """A keyboard without umlauts writes them as two letters, or leaves the dots out."""
    assert score(model, text, query) > 0


@pytest.mark.parametrize(
    ("text", "query"),
    [
        ("der Vertrag und die Kündigungen", "Wann ist die Kündigung?"),
        ("la facture est pour les clients", "Où est la facture du client ?"),
        ("los contratos no se renuevan", "¿Cómo se renueva el contrato?"),
        ("في المدرسة", "مدرسة"),
        ("в старых домах Москвы", "старый дом в Москве"),
        ("Die Kündigungen sind nicht da", "kündigung"),
    ],
)
def test_endings_are_those_of_the_texts_language(model: LexicalModel, text: str, query: str) -> None:
    """A query of one word has no language of its own, and is found all the same."""
    assert score(model, text, query) > 0


def test_function_words_of_other_languages_are_no_terms(model: LexicalModel) -> None:
    """Otherwise 'wie ist das' would find every German text."""
    assert score(model, "Die Katze ist auf der Matte und schläft", "Wie ist das mit der Miete?") == 0


@pytest.mark.parametrize(
    ("code", "asked", "like_it"),
    [
        ("10.0.0.1", "10.0.0.1", "1.0.10.0"),
        ("3.11.7", "3.11", "11.3.7"),
        ("v3.11.7", "3.11.7", "7.11.3"),
        ("AB-1234/x", "ab-1234/X", "X-1234/ab"),
        ("AB-1234/x", "AB1234X", "AB-1234 and y"),
        ("AB1234X", "ab-1234/x", "AB1234Y"),
        ("0x01F4", "0X1f4", "0x1F5"),
        ("0x1F4", "1f4", "2f4"),
        ("1F4h", "0x1F4", "1F5h"),
        ("fe80::1ff:fe23", "FE80::1FF:FE23", "1ff::fe80:fe23"),
    ],
)
def test_a_code_is_found_before_what_has_only_its_parts(
    model: LexicalModel, code: str, asked: str, like_it: str
) -> None:
    """In any case, with other separators, and by the beginning of a version."""
    found = score(model, f"set it to {code} first", asked)
    assert found > 0
    assert found > score(model, f"set it to {like_it} first", asked)


def test_a_word_is_no_hexadecimal_number(model: LexicalModel) -> None:
    """Though 'beach' has only digits from a to f, and an h."""
    assert score(model, "0xBEAC", "beach") == 0


def test_texts_indexed_by_the_first_version_are_still_found(model: LexicalModel) -> None:
    """It had the stems of English only, and no codes."""
    from qdrant_edge import Bm25, Bm25Config, TokenizerType

    first = Bm25(Bm25Config(tokenizer=TokenizerType.Word, language="english", avg_len=128.0, ascii_folding=True))
    for text, query in [
        ("Die Kündigungsfrist ist ein Monat", "Wie lang ist die Kündigungsfrist?"),
        ("Die Kündigungsfrist ist ein Monat", "kuendigungsfrist"),
        ("order AB-1234/x", "ab-1234/X"),
        ("host 10.0.0.1", "10.0.0.1"),
        ("She prefers tea", "What are her preferences?"),
        ("كتاب قديم", "كتاب"),
    ]:
        asked, found = model.query(query), first.embed_document(text)
        assert not set(asked.indices).isdisjoint(SparseVector(found.indices, found.values).indices), text
