"""Makes the vector of a query once for all who ask for it at about the same time."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Sequence
from typing import Final

from workers.retrieval.ports import EmbeddingInfo, EmbeddingModel

_KEPT: Final = 64


class QueryMemo:
    """An EmbeddingModel that remembers its last queries.

    A turn looks for its message in memory and in knowledge, and a model often asks for the same again: with MiniLM
    that is 4 to 100 ms of a processor each time, with a provider a request and its price.
    """

    def __init__(self, model: EmbeddingModel) -> None:
        self._model = model
        self._asked: OrderedDict[str, asyncio.Task[list[float]]] = OrderedDict()

    @property
    def info(self) -> EmbeddingInfo:
        """The model's."""
        return self._model.info

    async def prepare(self) -> EmbeddingInfo:
        """As the model."""
        return await self._model.prepare()

    async def embed_documents(self, texts: Sequence[str]) -> list[list[float]]:
        """As the model; nothing of them is remembered."""
        return await self._model.embed_documents(texts)

    async def embed_query(self, text: str) -> list[float]:
        """As the model; a failure is not remembered, and one who gives up waiting stops nobody else."""
        making = self._asked.get(text)
        if making is None:
            making = self._asked[text] = asyncio.create_task(self._model.embed_query(text))
            making.add_done_callback(lambda made: self._forget_failure(text, made))
            if len(self._asked) > _KEPT:
                self._asked.popitem(last=False)
        self._asked.move_to_end(text)
        return await asyncio.shield(making)

    async def close(self) -> None:
        """As the model."""
        await self._model.close()

    def _forget_failure(self, text: str, made: asyncio.Task[list[float]]) -> None:
        # To ask for the exception marks it as seen: all who waited may have gone.
        if (made.cancelled() or made.exception() is not None) and self._asked.get(text) is made:
            del self._asked[text]
