"""How well search works, by dense vectors, by words, and by both: `python -m benchmarks.retrieval`.

The ranks are computed here, exactly, so that the figures measure the models and the chunking; `--index` asks an index.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
import time
import uuid
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.retrieval_corpus import PYTHON, Passage, Question, cut, questions
from benchmarks.retrieval_scores import Scores, by_rank, fused, score_all
from workers.retrieval.chunking import MAX_CHARS, OVERLAP_CHARS
from workers.retrieval.embeddings import resolve_embedding_model
from workers.retrieval.index.embedded import EmbeddedIndex
from workers.retrieval.ports import EmbeddingModel, IndexPoint, Scope
from workers.retrieval.words.bm25 import Bm25Model

SIZES = (400, 600, 800, 1000, 1200)
# The room in an agent's prompt, in characters: longer passages find more within five, and take more room.
ROOM = 3_000
WEIGHTS = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8)


@dataclass(frozen=True)
class Figures:
    """For one way to search: shares of the questions, and the mean of 1 / rank of the first answer."""

    way: str
    recall_at_5: float
    mrr: float
    recall_in_room: float
    by_kind: dict[str, float]


@dataclass(frozen=True)
class Searched:
    """One chunking of the corpus, with the scores of every passage for every question.

    Attributes:
        size, overlap: of passages, in characters.
        headed: whether the headings above a passage were input to the models.
    """

    size: int
    overlap: int
    headed: bool
    questions: Sequence[Question]
    passages: Sequence[Passage]
    scores: Scores

    @property
    def name(self) -> str:
        return f"{self.size} +{self.overlap}{', headings' if self.headed else ''}"


async def search(
    model: EmbeddingModel,
    size: int = MAX_CHARS,
    *,
    overlap: int = OVERLAP_CHARS,
    headed: bool = True,
    own: bool = False,
) -> Searched:
    """Score every passage of a chunking for every question."""
    passages = cut(size, overlap, own=own)
    texts = [passage.text(headed=headed) for passage in passages]
    asked = [question for question in questions() if not own or question.kind != PYTHON]
    scores = await score_all(model, texts, [question.text for question in asked])
    return Searched(size, overlap, headed, asked, passages, scores)


def judge(way: str, searched: Searched, scores: np.ndarray) -> Figures:
    """Compare the ranks with the answers."""
    hits: list[tuple[Question, int, int]] = []
    for question, row in zip(searched.questions, scores, strict=True):
        ranked = [searched.passages[number] for number in np.argsort(-row, kind="stable") if row[number] > 0]
        rank = next((n for n, passage in enumerate(ranked) if question.answered_by(passage)), sys.maxsize)
        hits.append((question, rank, sum(len(one.chunk.text) for one in ranked[: rank + 1])))
    return Figures(
        way,
        recall_at_5=_share(rank < 5 for _, rank, _ in hits),
        mrr=sum(1 / (rank + 1) for _, rank, _ in hits) / len(hits),
        recall_in_room=_share(rank < sys.maxsize and room <= ROOM for _, rank, room in hits),
        by_kind={
            kind: _share(rank < 5 for question, rank, _ in hits if question.kind == kind)
            for kind in dict.fromkeys(question.kind for question in searched.questions)
        },
    )


def misses(searched: Searched, scores: np.ndarray) -> list[str]:
    """The questions whose answer is not among the first five."""
    best = np.argsort(-scores, axis=1, kind="stable")[:, :5]
    return [
        f"{question.kind}: {question.text}"
        for question, row in zip(searched.questions, best, strict=True)
        if not any(question.answered_by(searched.passages[number]) for number in row)
    ]


def _share(found: Any) -> float:
    values = list(found)
    return sum(values) / len(values)


def ways(searched: Searched) -> list[Figures]:
    """Dense, lexical, and both."""
    return [
        judge(f"{searched.name}: dense", searched, searched.scores.dense),
        judge(f"{searched.name}: lexical", searched, searched.scores.lexical),
        judge(f"{searched.name}: fused", searched, fused(searched.scores)),
    ]


def fusions(searched: Searched) -> list[Figures]:
    """Fused with other weights of meaning, and by rank."""
    return [
        judge("the model's weight", searched, fused(searched.scores)),
        *(judge(f"weight {weight}", searched, fused(searched.scores, weight=weight)) for weight in WEIGHTS),
        *(judge(f"by rank, k={k}", searched, by_rank(searched.scores, k=k)) for k in (2, 60)),
    ]


async def through_the_index(model: EmbeddingModel) -> Figures:
    """The default chunking in the embedded index."""
    scope, lexical = Scope("bench", "base:bench"), Bm25Model()
    searched = await search(model)
    texts = [passage.text(headed=True) for passage in searched.passages]
    points = [
        IndexPoint(str(uuid.UUID(int=n)), scope, "all", "1", vector, lexical.document(text), {"n": n})
        for n, (text, vector) in enumerate(zip(texts, await model.embed_documents(texts), strict=True))
    ]
    scores = np.zeros_like(searched.scores.dense)
    with tempfile.TemporaryDirectory() as folder:
        index = EmbeddedIndex.open(Path(folder))
        await index.write("bench", model.info, points)
        await index.publish("bench", scope, "all", "1")
        for row, query in zip(scores, searched.scores.queries, strict=True):
            for hit in await index.search("bench", model.info, query):
                row[hit.payload["n"]] = hit.score
        await index.close()
    return judge("embedded index", searched, scores)


async def rate(model: EmbeddingModel, most: int = 100) -> dict[str, float]:
    """Texts per second, on one thread: short ones of 60 characters, `most` long ones of 800, and single queries."""
    long = [text for passage in cut(800, 0) if len(text := passage.text(headed=False)) > 600][:most]
    short = [text[:60] for text in long] * 4
    return {
        "short texts (60 characters) a second": await _per_second(lambda: model.embed_documents(short), len(short)),
        "long texts (600 to 800) a second": await _per_second(lambda: model.embed_documents(long), len(long)),
        "one query, ms": 1000 / await _per_second(lambda: model.embed_query(short[0]), 1),
    }


async def _per_second(work: Callable[[], Any], count: int) -> float:
    await work()
    times = []
    for _ in range(3):
        began = time.perf_counter()
        await work()
        times.append(time.perf_counter() - began)
    return count / min(times)


async def run(options: argparse.Namespace) -> dict[str, Any]:
    """All tables, as plain values."""
    model = resolve_embedding_model(options.model, threads=1)
    console = Console(stderr=True)
    results: dict[str, Any] = {"cuts": [], "sizes": {}, "rate": await rate(model)}
    usual = (MAX_CHARS, OVERLAP_CHARS, True)
    cuts = [(size, size // 8, headed) for size, headed in product(SIZES, (False, True))] + [(MAX_CHARS, 0, True)]
    for size, overlap, headed in [usual] if options.quick else cuts:
        searched = await search(model, size, overlap=overlap, headed=headed)
        console.print(f"{searched.name}: {len(searched.passages)} passages")
        results["sizes"][searched.name] = len(searched.passages)
        results["cuts"] += ways(searched)
        if (size, overlap, headed) == usual:
            results["fusions"] = fusions(searched)
            results["misses"] = misses(searched, fused(searched.scores))
    if options.index:
        results["index"] = [await through_the_index(model)]
    await model.close()
    return results


def _table(title: str, rows: Sequence[Figures]) -> Table:
    table = Table(title=title)
    kinds = list(rows[0].by_kind)
    for name in ("", "recall@5", "MRR", f"in {ROOM:,} characters", *kinds):
        table.add_column(name, justify="left" if not name else "right")
    for row in rows:
        figures = (row.recall_at_5, row.mrr, row.recall_in_room, *row.by_kind.values())
        table.add_row(row.way, *(f"{figure:.3f}" if n == 1 else f"{figure:.0%}" for n, figure in enumerate(figures)))
    return table


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.retrieval", description=__doc__)
    parser.add_argument("--model", help="another embedding model, such as openai:text-embedding-3-small")
    parser.add_argument("--quick", action="store_true", help="one chunking only: 800 characters, with headings")
    parser.add_argument("--index", action="store_true", help="ask the embedded index too, not only exact ranks")
    parser.add_argument("--json", action="store_true", help="figures as JSON on stdout")
    options = parser.parse_args()
    results = asyncio.run(run(options))
    if options.json:
        sys.stdout.write(json.dumps(results, default=asdict, indent=2) + "\n")
        return
    console = Console(width=None if sys.stdout.isatty() else 150)
    counted = Counter(question.kind for question in questions())
    console.print(f"{len(questions())} questions: {', '.join(f'{n} {kind}' for kind, n in counted.items())}")
    console.print(_table("Chunking", results["cuts"]))
    console.print(_table(f"Fusion, at {MAX_CHARS} +{OVERLAP_CHARS}, headings", results["fusions"]))
    if options.index:
        console.print(_table("Through the embedded index", results["index"]))
    for what, figure in results["rate"].items():
        console.print(f"{what}: {figure:.3g}")
    console.print("not among the first five, fused:", *results["misses"], sep="\n  ")


if __name__ == "__main__":
    main()
