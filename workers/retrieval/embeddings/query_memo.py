"""Caches the vectors of recent queries, and shares a computation between concurrent callers."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Sequence
from typing import Final

from workers.retrieval.ports import CosineScale, EmbeddingInfo, EmbeddingModel, PieceLimit

_KEPT: Final = 64


class QueryMemo:
    """An EmbeddingModel that caches its last queries.

    A turn searches memory and knowledge for the same message, and a model often repeats a query. Each time costs 4 to
    100 ms of CPU with MiniLM, and a paid request with a provider.
    """

    def __init__(self, model: EmbeddingModel) -> None:
        self._model = model
        self._tasks: OrderedDict[str, asyncio.Task[list[float]]] = OrderedDict()

    @property
    def info(self) -> EmbeddingInfo:
        """The model's info."""
        return self._model.info

    async def prepare(self) -> EmbeddingInfo:
        """Prepare the model."""
        return await self._model.prepare()

    async def embed_documents(self, texts: Sequence[str]) -> list[list[float]]:
        """The model's vectors, which are not cached."""
        return await self._model.embed_documents(texts)

    async def embed_query(self, text: str) -> list[float]:
        """The query's vector. Failures are not cached, and a cancelled caller does not affect the others."""
        task = self._tasks.get(text)
        if task is None:
            task = self._tasks[text] = asyncio.create_task(self._model.embed_query(text))
            task.add_done_callback(lambda done: self._drop_failure(text, done))
            if len(self._tasks) > _KEPT:
                self._tasks.popitem(last=False)
        self._tasks.move_to_end(text)
        return await asyncio.shield(task)

    def scale(self, text: str) -> CosineScale:
        """What the cosines of the query tell, as the model says."""
        return self._model.scale(text)

    def limit(self) -> PieceLimit | None:
        """How much the model reads."""
        return self._model.limit()

    async def close(self) -> None:
        """Close the model."""
        await self._model.close()

    def _drop_failure(self, text: str, done: asyncio.Task[list[float]]) -> None:
        # Reading the exception marks it as retrieved, since all waiting callers may have been cancelled.
        if (done.cancelled() or done.exception() is not None) and self._tasks.get(text) is done:
            del self._tasks[text]
