"""Creates the heavy parts of retrieval on first use, so that a process that serves no retrieval loads none of them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from broker_config.settings import Settings
from broker_config.telemetry import get_logger
from sessions.client.operations import Operations
from sessions.errors import IndexUnavailable
from sessions.store.memory import MemoryStore
from sessions.store.sealing import KeyRing
from sessions.store.shelter import sheltered
from workers.retrieval.index.ownership import IndexLock

if TYPE_CHECKING:
    from workers.retrieval.knowledge.operations import KnowledgeOperations
    from workers.retrieval.memory.operations import MemoryOperations
    from workers.retrieval.ports import EmbeddingModel, KnowledgeIndex, LexicalModel
    from workers.retrieval.transcript.operations import TranscriptOperations

_TIDY_PAUSE: Final = 300.0
_log = get_logger(__name__)


class RetrievalParts:
    """One of each part per process, used on the process's event loop.

    Loading a model may take longer than the first search waits: it continues for the next one.

    Args:
        lock: returns the lock of the embedded index's folder. Without QDRANT_URL, the process must hold it.
    """

    def __init__(
        self,
        settings: Settings,
        store: Any,
        keyring: KeyRing,
        memories: MemoryStore,
        operations: Operations,
        lock: Callable[[], IndexLock | None],
    ) -> None:
        self._settings = settings
        self._store = store
        self._keyring = keyring
        self._memories = memories
        self._operations = operations
        self._lock = lock
        self._making = asyncio.Lock()
        self._models: tuple[EmbeddingModel, LexicalModel] | None = None
        self._index: KnowledgeIndex | None = None
        self._knowledge: KnowledgeOperations | None = None
        self._memory: MemoryOperations | None = None
        self._transcript: TranscriptOperations | None = None

    async def knowledge(self) -> KnowledgeOperations:
        """The operations on documents.

        Raises:
            IndexUnavailable, EmbeddingUnavailable: index or model is not available now.
        """
        return await sheltered(self._make_knowledge()) if self._knowledge is None else self._knowledge

    async def _make_knowledge(self) -> KnowledgeOperations:
        async with self._making:
            if self._knowledge is None:
                from workers.retrieval.knowledge.operations import KnowledgeOperations  # noqa: PLC0415 - heavy

                models, index = await self._made_models(), self._opened_index()
                self._knowledge = KnowledgeOperations(self._settings, self._store, self._keyring, index, *models)
            return self._knowledge

    async def memory(self) -> MemoryOperations:
        """The operations on memories.

        Raises:
            EmbeddingUnavailable: the model is not available now.
        """
        return await sheltered(self._make_memory()) if self._memory is None else self._memory

    async def _make_memory(self) -> MemoryOperations:
        async with self._making:
            if self._memory is None:
                from workers.retrieval.memory import MemorySearch  # noqa: PLC0415 - heavy
                from workers.retrieval.memory.operations import MemoryOperations  # noqa: PLC0415 - heavy

                search = MemorySearch(self._memories, *await self._made_models())
                self._memory = MemoryOperations(self._settings, self._memories, search, self._operations)
            return self._memory

    async def transcript(self) -> TranscriptOperations:
        """The operations on the transcripts of sessions.

        Raises:
            IndexUnavailable, EmbeddingUnavailable: index or model is not available now.
        """
        return await sheltered(self._make_transcript()) if self._transcript is None else self._transcript

    async def _make_transcript(self) -> TranscriptOperations:
        async with self._making:
            if self._transcript is None:
                from workers.retrieval.transcript.operations import TranscriptOperations  # noqa: PLC0415 - heavy

                models, index = await self._made_models(), self._opened_index()
                self._transcript = TranscriptOperations(
                    self._settings, self._store, self._keyring, index, *models, self._operations
                )
            return self._transcript

    async def keep_tidy(self) -> None:
        """Reclaim the space of removed chunks now and then, for ever. Searches wait for it, but leases do not."""
        while True:
            await asyncio.sleep(_TIDY_PAUSE)
            if self._index is not None:
                try:
                    await self._index.tidy()
                except IndexUnavailable as error:
                    _log.warning("knowledge_not_tidied", error=str(error))

    async def close(self) -> None:
        """Flush the index to disk, and release index and models."""
        if self._index is not None:
            await self._index.close()
        if self._models is not None:
            await self._models[0].close()

    async def _made_models(self) -> tuple[EmbeddingModel, LexicalModel]:
        if self._models is None:
            from workers.retrieval.embeddings import QueryMemo, resolve_embedding_model  # noqa: PLC0415 - heavy
            from workers.retrieval.words.bm25 import Bm25Model  # noqa: PLC0415 - heavy

            settings = self._settings
            model = resolve_embedding_model(settings.embedding_model, threads=settings.embedding_threads)
            embedding = QueryMemo(model)
            await embedding.prepare()
            self._models = embedding, Bm25Model()
        return self._models

    def _opened_index(self) -> KnowledgeIndex:
        if self._index is None:
            self._index = self._open_index()
        return self._index

    def _open_index(self) -> KnowledgeIndex:
        settings = self._settings
        if settings.qdrant_url is not None:
            from workers.retrieval.index.server import ServerIndex  # noqa: PLC0415 - heavy

            return ServerIndex.connect(settings.qdrant_url, api_key=settings.qdrant_api_key, timeout=10.0)
        from workers.retrieval.index.embedded import EmbeddedIndex  # noqa: PLC0415 - heavy

        if (lock := self._lock()) is None:
            raise IndexUnavailable("this process no longer owns the embedded index; another one serves it")
        return EmbeddedIndex(lock)
