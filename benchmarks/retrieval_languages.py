"""How well search works in each language: `python -m benchmarks.retrieval_languages [FOLDER]`.

Each file of the folder is a set of paragraphs with their questions, in the form of SQuAD, named like `xquad.de.json`:

    {"data": [{"paragraphs": [{"context": "...", "qas": [{"question": "..."}]}]}]}

Every paragraph is one passage, and the answer to a question is its own paragraph. Without a folder, the small set in
`language_set`, which we wrote, is asked; it is too small for more than a look. The ranks are computed exactly.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import random
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.retrieval_scores import fused, score_all
from workers.retrieval.embeddings import resolve_embedding_model
from workers.retrieval.knowledge.search import FLOOR
from workers.retrieval.ports import CosineScale, EmbeddingInfo, EmbeddingModel, PieceLimit

OWN = Path(__file__).parent / "language_set"
_SAVED = 20  # vectors are saved after so many texts


@dataclass(frozen=True)
class QuestionSet:
    """Paragraphs, and questions with the number of the paragraph that answers each."""

    name: str
    paragraphs: Sequence[str]
    questions: Sequence[tuple[str, int]]


@dataclass(frozen=True)
class LanguageFigures:
    """Shares of the questions, by the way to search; `kept`: of right passages among the first five, by the floor."""

    name: str
    paragraphs: int
    questions: int
    recall_at_1: dict[str, float]
    recall_at_5: dict[str, float]
    kept: float


class CachedModel:
    """An EmbeddingModel that keeps its vectors in a folder, since a set takes minutes to embed."""

    def __init__(self, model: EmbeddingModel, folder: Path) -> None:
        self._model = model
        self._folder = folder

    @property
    def info(self) -> EmbeddingInfo:
        return self._model.info

    async def prepare(self) -> EmbeddingInfo:
        return await self._model.prepare()

    async def embed_documents(self, texts: Sequence[str]) -> list[list[float]]:
        vectors: list[list[float]] = []
        for start in range(0, len(texts), _SAVED):
            part = list(texts[start : start + _SAVED])
            path = self._path("documents", part)
            if not path.exists():
                np.save(path, np.array(await self._model.embed_documents(part), dtype=np.float32))
            vectors += np.load(path).tolist()
        return vectors

    async def embed_query(self, text: str) -> list[float]:
        path = self._path("query", [text])
        if not path.exists():
            np.save(path, np.array(await self._model.embed_query(text), dtype=np.float32))
        vector: list[float] = np.load(path).tolist()
        return vector

    def scale(self, text: str) -> CosineScale:
        return self._model.scale(text)

    def limit(self) -> PieceLimit | None:
        return self._model.limit()

    async def close(self) -> None:
        await self._model.close()

    def _path(self, kind: str, texts: list[str]) -> Path:
        key = hashlib.sha256(json.dumps([self.info.id, kind, texts]).encode()).hexdigest()[:32]
        return self._folder / f"{key}.npy"


def read_set(path: Path, half: int | None = None, most: int | None = None) -> QuestionSet:
    """Read a set.

    Args:
        path: its file.
        half: 0 for the articles with even numbers, 1 for the others, so that one half can be tuned on; None for all.
        most: how many questions to ask, chosen at random but always alike.
    """
    articles = json.loads(path.read_text(encoding="utf-8"))["data"]
    if half is not None:
        articles = articles[half::2]
    numbers: dict[str, int] = {}
    questions = []
    for paragraph in (paragraph for article in articles for paragraph in article["paragraphs"]):
        number = numbers.setdefault(paragraph["context"], len(numbers))
        questions += [(asked["question"], number) for asked in paragraph["qas"] if asked["question"].strip()]
    if most is not None and len(questions) > most:
        questions = random.Random(3).sample(questions, most)
    return QuestionSet(path.stem, list(numbers), questions)


async def judge(model: EmbeddingModel, asked: QuestionSet) -> LanguageFigures:
    """Ask all questions of a set."""
    scores = await score_all(model, asked.paragraphs, [text for text, _ in asked.questions])
    both = fused(scores)
    right = np.array([number for _, number in asked.questions])
    rows = np.arange(len(right))
    ranks = {
        way: (values > values[rows, right][:, None]).sum(axis=1) + (values[rows, right] <= 0) * len(asked.paragraphs)
        for way, values in {"dense": scores.dense, "words": scores.lexical, "fused": both}.items()
    }
    found = ranks["fused"] < 5
    return LanguageFigures(
        asked.name,
        len(asked.paragraphs),
        len(right),
        {way: float(np.mean(rank < 1)) for way, rank in ranks.items()},
        {way: float(np.mean(rank < 5)) for way, rank in ranks.items()},
        float(np.mean(both[rows, right][found] >= FLOOR)) if found.any() else 0.0,
    )


async def run(options: argparse.Namespace) -> list[LanguageFigures]:
    """The figures of all sets."""
    model: EmbeddingModel = resolve_embedding_model(options.model, threads=1)
    if options.cache is not None:
        options.cache.mkdir(parents=True, exist_ok=True)
        model = CachedModel(model, options.cache)
    await model.prepare()
    figures = []
    for path in sorted((options.folder or OWN).glob("*.json")):
        figures.append(await judge(model, read_set(path, options.half, options.most)))
        Console(stderr=True).print(f"{path.name}: {figures[-1].recall_at_5}")
    await model.close()
    return figures


def _table(figures: Sequence[LanguageFigures]) -> Table:
    table = Table("set", "paragraphs", "questions", "dense @1", "words @1", "fused @1")
    for name in ("dense @5", "words @5", "fused @5", "kept by the floor"):
        table.add_column(name, justify="right")
    for one in figures:
        values = [*one.recall_at_1.values(), *one.recall_at_5.values(), one.kept]
        table.add_row(one.name, str(one.paragraphs), str(one.questions), *(f"{value:.3f}" for value in values))
    return table


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.retrieval_languages", description=__doc__)
    parser.add_argument("folder", type=Path, nargs="?", help="with the sets; by default our own small one")
    parser.add_argument("--model", help="another embedding model, such as multilingual-e5-small")
    parser.add_argument("--half", type=int, choices=(0, 1), help="of each set's articles: even or odd numbers")
    parser.add_argument("--most", type=int, help="questions of each set")
    parser.add_argument("--cache", type=Path, help="a folder for the vectors")
    parser.add_argument("--json", action="store_true", help="figures as JSON on stdout")
    options = parser.parse_args()
    figures = asyncio.run(run(options))
    if options.json:
        json.dump([asdict(one) for one in figures], sys.stdout, indent=2)
        return
    Console(width=None if sys.stdout.isatty() else 150).print(_table(figures))


if __name__ == "__main__":
    main()
