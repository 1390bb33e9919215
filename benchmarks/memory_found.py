"""What memory search finds among distractors, by each half and by both, and whether the newer of two facts comes first.

`python -m benchmarks.memory_found` shows the figures of the held-out set; with `tuning`, those of the set that the
parameters were chosen with.
"""

from __future__ import annotations

import asyncio
import sys
from typing import Final

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.memory_distractors import HELD_OUT, TUNING, MemorySet
from benchmarks.memory_set import MEMORIES, QUESTIONS
from sessions.protocol.memory_requests import SearchMemory
from sessions.store.memory_record import Memory, StoredMemory
from workers.retrieval.embeddings import resolve_embedding_model
from workers.retrieval.lexical import Bm25Model
from workers.retrieval.memory.ranking import Ranking, RankingWeights
from workers.retrieval.memory.scope_index import ScopeIndex
from workers.retrieval.memory.vectors import pack
from workers.retrieval.ports import EmbeddingModel, SparseVector

_NO_WORDS: Final = SparseVector((), ())
_NO_ORDER: Final = RankingWeights(about_same=2.0)
_WAYS: Final = (
    ("by meaning alone", True, False, _NO_ORDER),
    ("by words alone", False, True, _NO_ORDER),
    ("as shipped", True, True, RankingWeights()),
)


class Found:
    """The texts of one set in a scope, in the order in which they were said."""

    def __init__(self, model: EmbeddingModel) -> None:
        self._model = model
        self._lexical = Bm25Model(average_length=16.0)
        self._index = ScopeIndex(self._lexical)
        self._texts: tuple[str, ...] = ()

    async def add(self, texts: tuple[str, ...]) -> None:
        """Add the memories, each a second later than the one before."""
        self._texts = texts
        for number, vector in enumerate(await self._model.embed_documents(texts)):
            memory = Memory(f"{number:04}", texts[number], "long", {}, 1_000 * (number + 1))
            self._index.put(StoredMemory(memory, memory.id, pack(vector)))

    async def ranks(self, question: str, *, dense: bool, words: bool, weights: RankingWeights) -> dict[str, int]:
        """The texts that a search finds, each with its place from 1."""
        vector = np.asarray(await self._model.embed_query(question), np.float32) if dense else None
        terms = self._lexical.query(question) if words else _NO_WORDS
        best = Ranking({"user": self._index}, vector, terms).best(SearchMemory(query=question, limit=100), weights)
        return {memory["text"]: place for place, memory in enumerate(best, start=1)}


async def figures(model: EmbeddingModel, chosen: MemorySet) -> list[tuple[str, float, float, float, str]]:
    """For each way of searching: recall@1, recall@5, MRR, and how often the newer of two facts comes first."""
    found = Found(model)
    await found.add(chosen.texts)
    rows = []
    for name, dense, words, weights in _WAYS:
        ranks = [
            (await found.ranks(one.question, dense=dense, words=words, weights=weights)).get(one.answer)
            for one in chosen.asked
        ]
        changed = [
            (one, await found.ranks(one.question, dense=dense, words=words, weights=weights)) for one in chosen.changed
        ]
        newer = sum(places.get(one.newer, 1_000) < places.get(one.older, 1_000) for one, places in changed)
        rows.append((name, *_shares(ranks), f"{newer} of {len(changed)}" if changed else "-"))
    return rows


def _shares(ranks: list[int | None]) -> tuple[float, float, float]:
    found = [rank for rank in ranks if rank is not None]
    first, five = sum(rank == 1 for rank in found), sum(rank <= 5 for rank in found)
    return first / len(ranks), five / len(ranks), sum(1 / rank for rank in found) / len(ranks)


async def _plain(model: EmbeddingModel) -> list[tuple[str, float, float, float, str]]:
    found = Found(model)
    await found.add(MEMORIES)
    rows = []
    for name, dense, words, weights in _WAYS:
        ranks = [
            (await found.ranks(question, dense=dense, words=words, weights=weights)).get(MEMORIES[answer])
            for question, answer in QUESTIONS
        ]
        rows.append((name, *_shares(ranks), "-"))
    return rows


async def main(chosen: str) -> None:
    """Measure, and show the table."""
    model = resolve_embedding_model(None)
    try:
        measured = {
            f"{chosen}, with distractors": await figures(model, TUNING if chosen == "tuning" else HELD_OUT),
            "without distractors": await _plain(model),
        }
    finally:
        await model.close()
    table = Table("set", "search", "recall@1", "recall@5", "MRR", "newer first")
    for title, rows in measured.items():
        for name, *shares, newer in rows:
            table.add_row(title, name, *(f"{share:.2f}" for share in shares), newer)
    Console(width=120).print(table)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else "held-out"))
