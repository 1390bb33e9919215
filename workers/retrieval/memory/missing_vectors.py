"""Vectors for memories that have none yet: those that another worker noted, and new ones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from broker_config.telemetry import get_logger
from sessions.errors import EmbeddingFailed, StoreFull
from sessions.store.memory import MemoryScope, MemoryStore
from sessions.store.memory_record import StoredMemory
from workers.retrieval.memory.copies import Copy
from workers.retrieval.memory.vectors import NO_VECTOR, pack
from workers.retrieval.ports import EmbeddingModel

_LOOKED_FOR: Final = 256
_log = get_logger(__name__)


class MissingVectors:
    """Makes vectors, and notes them in the store, so that no other worker pays for them again."""

    def __init__(self, store: MemoryStore, embedding: EmbeddingModel) -> None:
        self._store = store
        self._embedding = embedding

    async def fill(self, scope: MemoryScope, copy: Copy, tag: str, most: int) -> int:
        """Make vectors for so many memories, the newest first; how many were made.

        Raises:
            EmbeddingUnavailable: the model cannot answer now. BackendError: nor can the store.
        """
        if not copy.index.missing:
            return 0
        async with copy.embedding:
            await self._take_noted(scope, copy, tag, most)
            wanted = copy.index.newest_missing(most)
            if not wanted:
                return 0
            made = list(zip(wanted, await self._vectors([one.memory.text for one in wanted]), strict=True))
            for stored, vector in made:
                copy.index.take_vector(stored, vector)
            await self._note(scope, tag, made)
            return len(made)

    async def _take_noted(self, scope: MemoryScope, copy: Copy, tag: str, most: int) -> None:
        ids = [stored.memory.id for stored in copy.index.newest_missing(max(most, _LOOKED_FOR))]
        for stored in (await self._store.read(scope, ids, tag=tag)).values():
            if stored.vector is not None:
                copy.index.take_vector(stored, stored.vector)

    async def _vectors(self, texts: Sequence[str]) -> list[bytes]:
        try:
            return [pack(vector) for vector in await self._embedding.embed_documents(texts)]
        except EmbeddingFailed:
            if len(texts) == 1:
                return [NO_VECTOR]
        return [vector for text in texts for vector in await self._vectors([text])]

    async def _note(self, scope: MemoryScope, tag: str, made: Sequence[tuple[StoredMemory, bytes]]) -> None:
        try:
            await self._store.note_vectors(scope, tag, made)
        except StoreFull as error:  # this worker has them; the others make their own, or read them when there is room
            _log.warning("vectors_not_noted", vectors=len(made), error=str(error))
