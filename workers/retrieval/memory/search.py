"""Searching memories: those of a session, of a user, or both, by meaning and by words.

A process keeps copies of the scopes that it searched last. A search brings them up to date from their logs, makes the
vectors of the newest memories that lack one, and finds the rest by their words.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np

from broker_config.telemetry import get_logger
from sessions.errors import EmbeddingFailed, EmbeddingUnavailable
from sessions.protocol.memory_requests import SearchMemory
from sessions.store.keys import SessionKeys
from sessions.store.memory import MemoryScope, MemoryStore
from sessions.store.memory_record import Memory
from sessions.store.state import session_scope, wide_scope
from workers.retrieval.memory.copies import Copy, ScopeCopies
from workers.retrieval.memory.missing_vectors import MissingVectors
from workers.retrieval.memory.ranking import Ranking, Weighing
from workers.retrieval.memory.vectors import Floats, model_tag
from workers.retrieval.ports import EmbeddingModel, LexicalModel

_EMBEDDED_AT_ONCE: Final = 16
_log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Found:
    """The answer to a search.

    Attributes:
        memories: best first: id, text, score, similarity, metadata, type, scope, created_ms.
        unembedded: scope's name -> how many of its memories have no vector yet, and were found by words alone.
        by_meaning: False when the embedding model could not answer, so that words alone were compared.
    """

    memories: list[dict[str, Any]]
    unembedded: dict[str, int] = field(default_factory=dict)
    by_meaning: bool = True


def scopes_of(request: SearchMemory, keys: SessionKeys, partitions: int) -> dict[str, MemoryScope]:
    """The scopes that a request of a session means, by their names."""
    scopes: dict[str, MemoryScope] = {}
    for name in request.scopes:
        if name == "session":
            scopes[name] = session_scope(keys)
        elif request.user is not None:
            scopes[name] = wide_scope(keys.tenant, request.user, partitions)
    return scopes


class MemorySearch:
    """Searches memories, in one event loop."""

    def __init__(
        self,
        store: MemoryStore,
        embedding: EmbeddingModel,
        lexical: LexicalModel,
        *,
        most: int = 50_000,
        embedded_at_search: int = 64,
        weighing: Weighing | None = None,
    ) -> None:
        """Over a store and two models.

        Args:
            most: memories to keep copies of; 3 to 5 KB each with vectors of 384 numbers.
            embedded_at_search: vectors that a search makes at most before it answers.
        """
        self._embedding = embedding
        self._lexical = lexical
        self._copies = ScopeCopies(store, lexical, most)
        self._missing = MissingVectors(store, embedding)
        self._embedded_at_search = embedded_at_search
        self._weighing = weighing or Weighing()

    @property
    def copied(self) -> int:
        """How many memories this process has copies of."""
        return self._copies.memories

    async def search(self, scopes: Mapping[str, MemoryScope], request: SearchMemory) -> Found:
        """The memories of these scopes that fit the request.

        Raises:
            EmbeddingFailed: the model will never embed the query. BackendError: the store cannot be read.
        """
        vector = await self._query_vector(request.query)
        copies = await self._current(scopes)
        if vector is not None:
            await self._fill(scopes, copies)
        indexes = {name: copy.index for name, copy in copies.items()}
        ranking = Ranking(indexes, vector, self._lexical.query(request.query))
        return Found(
            ranking.best(request, self._weighing),
            {name: index.missing for name, index in indexes.items() if index.missing},
            by_meaning=vector is not None,
        )

    async def embed_missing(self, scope: MemoryScope, limit: int = 256) -> int:
        """Make vectors for so many memories that have none; how many are left without.

        Raises:
            EmbeddingUnavailable: the model cannot answer now. BackendError: nor can the store.
        """
        if not self._tag:
            await self._embedding.embed_query("hello")  # some models are known by their first vector only
        copy = await self._copies.current(scope, self._tag)
        while limit > 0 and copy.index.missing:  # in small steps, so that a search need not wait long for its turn
            limit -= await self._missing.fill(scope, copy, self._tag, min(limit, _EMBEDDED_AT_ONCE))
        return copy.index.missing

    async def similar(self, scope: MemoryScope, text: str, threshold: float) -> list[tuple[Memory, float]]:
        """The memories of a scope that say the same as a text, the most alike first, each with its similarity.

        Args:
            threshold: the least cosine; the same words count 1.
        """
        vector = await self._query_vector(text)
        scopes = {"": scope}
        copies = await self._current(scopes)
        if vector is not None:
            await self._fill(scopes, copies)
        return copies[""].index.alike(text, vector, threshold)

    async def _query_vector(self, text: str) -> Floats | None:
        """None when the model cannot answer now: words find more than nothing does."""
        try:
            return np.asarray(await self._embedding.embed_query(text), dtype=np.float32)
        except EmbeddingUnavailable as error:
            _log.warning("memory_found_by_words_alone", error=str(error))
            return None

    @property
    def _tag(self) -> str:
        """Of the model; empty while it is not known, and then no stored vector is its."""
        try:
            return model_tag(self._embedding.info)
        except EmbeddingFailed:
            return ""

    async def _current(self, scopes: Mapping[str, MemoryScope]) -> dict[str, Copy]:
        found = await asyncio.gather(*(self._copies.current(scope, self._tag) for scope in scopes.values()))
        return dict(zip(scopes, found, strict=True))

    async def _fill(self, scopes: Mapping[str, MemoryScope], copies: Mapping[str, Copy]) -> None:
        left = self._embedded_at_search
        try:
            for name, scope in scopes.items():
                left -= await self._missing.fill(scope, copies[name], self._tag, left) if left > 0 else 0
        except EmbeddingUnavailable as error:
            _log.warning("memory_not_embedded", error=str(error))
