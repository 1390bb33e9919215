"""What memory search finds among distractors, by each half and by both, and whether the newer of two facts comes first.

`python -m benchmarks.memory_found [held-out | tuning] [MODEL]` shows the figures of a set with distractors and of the
plain one; `tuning` is the set that the parameters were chosen with.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import fmean
from typing import Final

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.memory_sets import MemorySet, memory_set
from sessions.protocol.memory_requests import SearchMemory
from sessions.store.memory_record import Memory, StoredMemory
from workers.retrieval.embeddings import resolve_embedding_model
from workers.retrieval.memory.ranking import Ranking
from workers.retrieval.memory.scope_index import ScopeIndex
from workers.retrieval.memory.vectors import pack
from workers.retrieval.ports import EmbeddingModel, SparseVector
from workers.retrieval.words.bm25 import Bm25Model

_NO_WORDS: Final = SparseVector((), ())
_NEVER: Final = 2.0  # a cosine


@dataclass(frozen=True, slots=True)
class Way:
    """A way to search: by meaning, by words or by both; if they are shipped, a newer fact comes first."""

    name: str
    dense: bool = True
    words: bool = True
    newer_first: bool = False


WAYS: Final = (
    Way("by meaning alone", words=False),
    Way("by words alone", dense=False),
    Way("as shipped", newer_first=True),
)


@dataclass(frozen=True, slots=True)
class Figures:
    """What one way of searching finds in a set.

    Attributes:
        recall_at_1, recall_at_5, mrr: of the memories that answer a question.
        newer_first: for how many changed facts the newer one comes before the older.
        unrelated: how many memories, of at most five, are returned for a question that none answers.
    """

    recall_at_1: float
    recall_at_5: float
    mrr: float
    newer_first: int
    unrelated: float


class MemoryBench:
    """The memories of one set in a scope, each a second newer than the one before."""

    def __init__(self, model: EmbeddingModel, chosen: MemorySet) -> None:
        self._model = model
        self._set = chosen
        self._lexical = Bm25Model()
        self._index = ScopeIndex(self._lexical)

    async def figures(self, way: Way) -> Figures:
        """What this way of searching finds."""
        await self._fill()
        chosen, never = self._set, 1_000
        ranks = [(await self._ranks(question, way)).get(answer, never) for question, answer in chosen.asked]
        changed = [(one, await self._ranks(one.question, way)) for one in chosen.changed]
        returned = [min(5, len(await self._ranks(question, way))) for question in chosen.unrelated]
        return Figures(
            recall_at_1=fmean(rank == 1 for rank in ranks),
            recall_at_5=fmean(rank <= 5 for rank in ranks),
            mrr=fmean(0 if rank == never else 1 / rank for rank in ranks),
            newer_first=sum(places.get(one.newer, never) < places.get(one.older, never) for one, places in changed),
            unrelated=fmean(returned) if returned else 0.0,
        )

    async def _fill(self) -> None:
        if len(self._index):
            return
        texts = self._set.texts
        for number, vector in enumerate(await self._model.embed_documents(texts)):
            memory = Memory(f"{number:04}", texts[number], "long", {}, 1_000 * (number + 1))
            self._index.put(StoredMemory(memory, memory.id, pack(vector)))

    async def _ranks(self, question: str, way: Way) -> dict[str, int]:
        """The texts that a search finds, each with its place from 1."""
        vector = np.asarray(await self._model.embed_query(question), np.float32) if way.dense else None
        terms = self._lexical.query(question) if way.words else _NO_WORDS
        scale = self._model.scale(question)
        if not way.newer_first:
            scale = replace(scale, alike=_NEVER)
        best = Ranking({"user": self._index}, vector, terms, scale).best(SearchMemory(query=question, limit=100))
        return {memory["text"]: place for place, memory in enumerate(best, start=1)}


async def main(name: str = "held-out", model_name: str | None = None) -> None:
    """Measure, and show the table."""
    model = resolve_embedding_model(model_name)
    table = Table("set", "search", "recall@1", "recall@5", "MRR", "newer first", "returned without an answer")
    try:
        await model.prepare()
        for title in (name, "plain"):
            bench = MemoryBench(model, chosen := memory_set(title))
            for way in WAYS:
                table.add_row(title, way.name, *_cells(await bench.figures(way), chosen))
    finally:
        await model.close()
    Console(width=120).print(table)


def _cells(found: Figures, chosen: MemorySet) -> Sequence[str]:
    shares = [f"{share:.2f}" for share in (found.recall_at_1, found.recall_at_5, found.mrr)]
    newer = f"{found.newer_first} of {len(chosen.changed)}" if chosen.changed else ""
    return *shares, newer, f"{found.unrelated:.2f}" if chosen.unrelated else ""


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
