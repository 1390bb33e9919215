"""Vectors for memories that have none in this process: read from the store, or computed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from broker_config.telemetry import get_logger
from sessions.errors import EmbeddingFailed, StoreFull
from sessions.store.memory import MemoryStore
from sessions.store.memory_places import MemoryScope
from sessions.store.memory_record import StoredMemory
from workers.retrieval.memory.copies import Copy
from workers.retrieval.memory.vectors import NO_VECTOR, pack
from workers.retrieval.ports import EmbeddingModel

_READ_AHEAD: Final = 256
_log = get_logger(__name__)


class MissingVectors:
    """Computes vectors and stores them, so that no other worker has to compute them again."""

    def __init__(self, store: MemoryStore, embedding: EmbeddingModel) -> None:
        self._store = store
        self._embedding = embedding

    async def fill(self, scope: MemoryScope, copy: Copy, tag: str, most: int) -> int:
        """Compute vectors for up to `most` memories, the newest first. Returns how many were computed.

        Raises:
            EmbeddingUnavailable: the model cannot answer now.
            BackendError: the store cannot answer now.
        """
        if not copy.index.missing:
            return 0
        async with copy.embedding:
            await self._read_stored(scope, copy, tag, most)
            wanted = copy.index.newest_missing(most)
            if not wanted:
                return 0
            made = list(zip(wanted, await self._vectors([one.memory.text for one in wanted]), strict=True))
            for stored, vector in made:
                copy.index.set_vector(stored, vector)
            await self._store_vectors(scope, tag, made)
            return len(made)

    async def _read_stored(self, scope: MemoryScope, copy: Copy, tag: str, most: int) -> None:
        ids = [stored.memory.id for stored in copy.index.newest_missing(max(most, _READ_AHEAD))]
        for stored in (await self._store.read(scope, ids, tag=tag)).values():
            if stored.vector is not None:
                copy.index.set_vector(stored, stored.vector)

    async def _vectors(self, texts: Sequence[str]) -> list[bytes]:
        try:
            return [pack(vector) for vector in await self._embedding.embed_documents(texts)]
        except EmbeddingFailed:
            if len(texts) == 1:
                return [NO_VECTOR]
        return [vector for text in texts for vector in await self._vectors([text])]

    async def _store_vectors(self, scope: MemoryScope, tag: str, made: Sequence[tuple[StoredMemory, bytes]]) -> None:
        try:
            await self._store.note_vectors(scope, tag, made)
        except StoreFull as error:  # this worker has the vectors; other workers will have to compute them again
            _log.warning("vectors_not_noted", vectors=len(made), error=str(error))
