"""With what comes with the install, questions find their answers; the floors lie a little below what was measured."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest

from benchmarks.retrieval import Figures, Searched, judge, search
from benchmarks.retrieval_corpus import questions
from benchmarks.retrieval_scores import fused
from workers.retrieval.embeddings import resolve_embedding_model
from workers.retrieval.index.fusion import Candidates
from workers.retrieval.knowledge.search import FLOOR
from workers.retrieval.ports import CosineScale, IndexQuery, Scope, SparseVector

Judged = dict[str, Figures]


@pytest.fixture(scope="module")
def searched() -> Searched:
    """Our own pages alone: Python's reference would take a minute."""
    return asyncio.run(_search())


@pytest.fixture(scope="module")
def judged(searched: Searched) -> Judged:
    scores = searched.scores
    sides = {"dense": scores.dense, "lexical": scores.lexical, "fused": fused(scores)}
    return {way: judge(way, searched, scores) for way, scores in sides.items()}


async def _search() -> Searched:
    model = resolve_embedding_model()
    try:
        return await search(model, own=True)
    finally:
        await model.close()


def test_the_answer_is_among_the_first_five(judged: Judged) -> None:
    """In most cases it is the first or the second."""
    assert judged["fused"].recall_at_5 >= 0.92
    assert judged["fused"].mrr >= 0.81


def test_both_together_find_more_than_either(judged: Judged) -> None:
    """Meaning finds paraphrases, words find codes; fused, neither is lost."""
    both, dense, lexical = judged["fused"], judged["dense"], judged["lexical"]
    assert both.recall_at_5 > max(dense.recall_at_5, lexical.recall_at_5)
    assert dense.by_kind["paraphrase"] > 0.75 > 0.35 > lexical.by_kind["paraphrase"]
    assert lexical.by_kind["exact"] == both.by_kind["exact"] == 1.0
    assert both.by_kind["paraphrase"] > 0.75
    assert both.by_kind["morphology"] == 1.0


def test_the_set_is_large_enough_to_judge_by() -> None:
    """It has at least sixty questions, of every kind."""
    kinds = [question.kind for question in questions()]
    assert len(kinds) >= 100
    assert {kind: kinds.count(kind) >= 10 for kind in kinds} == dict.fromkeys(kinds, True)


def test_scores_mean_the_same_in_every_search(searched: Searched) -> None:
    """Whatever answers a question is above the floor, and nothing is above 1."""
    found = fused(searched.scores)
    assert found.max() <= 1
    best = np.argsort(-found, axis=1, kind="stable")[:, :5]
    right = [
        score
        for question, row, scores in zip(searched.questions, best, found, strict=True)
        for number, score in ((number, scores[number]) for number in row)
        if question.answered_by(searched.passages[number])
    ]
    assert np.mean(np.array(right) >= FLOOR) >= 0.99


def test_a_poor_passage_of_both_sides_does_not_pass_the_best_of_one() -> None:
    """It would by rank, with the usual constant of 60."""
    words = [frozenset([n]) for n in range(4)]
    query = IndexQuery([1.0], SparseVector(range(4), [1.0] * 4), [Scope("t", "s")], words=words, scale=CosineScale(0.7))
    cosines = {"best of one": 0.6, "poor in both": 0.2}
    found = Candidates(query, cosines, {"by words": 8.0, "poor in both": 2.0}, [0])
    assert found.best == ["best of one", "by words", "poor in both"]


def test_without_one_half_the_other_is_the_whole_score() -> None:
    """A model that does not answer makes no score smaller."""
    only_words = IndexQuery(None, SparseVector([1], [1.0]), [Scope("t", "s")])
    assert Candidates(only_words, {}, {"a": 3.0}, [1]).score("a", None) == 1.0
    only_meaning = IndexQuery([1.0], None, [Scope("t", "s")], scale=CosineScale(0.7, 0.0, 0.8))
    assert Candidates(only_meaning, {"a": 0.4}, {}, ()).score("a", 0.4) == pytest.approx(0.5)
