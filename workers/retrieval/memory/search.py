"""Searches the memories of a session, of a user, or both, by meaning and by words.

A process keeps copies of the scopes that it searched recently. A search updates them from their logs, computes the
vectors of the newest memories that lack one, and matches the others by their words only.
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
from sessions.store.memory import MemoryStore
from sessions.store.memory_places import MemoryScope
from sessions.store.memory_record import Memory
from sessions.store.state import session_scope, wide_scope
from workers.retrieval.memory.copies import Copy, ScopeCopies
from workers.retrieval.memory.missing_vectors import MissingVectors
from workers.retrieval.memory.ranking import Ranking, RankingWeights
from workers.retrieval.memory.vectors import Floats, model_tag
from workers.retrieval.ports import CosineScale, EmbeddingModel, LexicalModel

_EMBED_BATCH: Final = 16
_log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Found:
    """The result of a search.

    Attributes:
        memories: dicts, best first: id, text, score, similarity, metadata, type, scope, created_ms.
        unembedded: for each scope, how many of its memories have no vector yet and were matched by words only.
        by_meaning: False if the embedding model could not answer, so that only words were compared.
    """

    memories: list[dict[str, Any]]
    unembedded: dict[str, int] = field(default_factory=dict)
    by_meaning: bool = True


def scopes_of(request: SearchMemory, keys: SessionKeys, partitions: int) -> dict[str, MemoryScope]:
    """The scopes that a session's request names, by their names."""
    scopes: dict[str, MemoryScope] = {}
    for name in request.scopes:
        if name == "session":
            scopes[name] = session_scope(keys)
        elif request.user is not None:
            scopes[name] = wide_scope(keys.tenant, request.user, partitions)
    return scopes


class MemorySearch:
    """Searches memories. Used on one event loop."""

    def __init__(
        self,
        store: MemoryStore,
        embedding: EmbeddingModel,
        lexical: LexicalModel,
        *,
        most: int = 50_000,
        embedded_at_search: int = 64,
        weights: RankingWeights | None = None,
    ) -> None:
        """Create a search over a store with two models.

        Args:
            store: the store.
            embedding: the embedding model.
            lexical: the lexical model.
            most: how many memories to keep copies of; 3 to 5 KB each with vectors of 384 numbers.
            embedded_at_search: how many missing vectors a search computes at most before it answers.
            weights: the parameters of the ranking.
        """
        self._embedding = embedding
        self._lexical = lexical
        self._copies = ScopeCopies(store, lexical, most)
        self._missing = MissingVectors(store, embedding)
        self._embedded_at_search = embedded_at_search
        self._weights = weights or RankingWeights()

    @property
    def copied(self) -> int:
        """How many memories this process has in its copies."""
        return self._copies.memories

    async def search(self, scopes: Mapping[str, MemoryScope], request: SearchMemory) -> Found:
        """The memories of these scopes that match the request.

        Raises:
            EmbeddingFailed: the model cannot embed the query.
            BackendError: the store cannot be read.
        """
        vector, copies = await self._vector_and_copies(scopes, request.query)
        if vector is not None:
            await self._fill(scopes, copies)
        indexes = {name: copy.index for name, copy in copies.items()}
        scale = CosineScale() if vector is None else self._embedding.scale(request.query)
        ranking = Ranking(indexes, vector, self._lexical.query(request.query), scale, self._weights)
        return Found(
            ranking.best(request),
            {name: index.missing for name, index in indexes.items() if index.missing},
            by_meaning=vector is not None,
        )

    async def embed_missing(self, scope: MemoryScope, limit: int = 256) -> int:
        """Compute up to `limit` missing vectors of a scope. Returns how many are still missing.

        Raises:
            EmbeddingUnavailable: the model cannot answer now.
            BackendError: the store cannot answer now.
        """
        if not self._tag:
            await self._embedding.embed_query("hello")  # the dimension of some models is known from the first vector
        copy = await self._copies.current(scope, self._tag)
        while limit > 0 and copy.index.missing:  # in small batches, so that searches do not wait long in between
            limit -= await self._missing.fill(scope, copy, self._tag, min(limit, _EMBED_BATCH))
        return copy.index.missing

    async def similar(self, scope: MemoryScope, text: str, threshold: float) -> list[tuple[Memory, float]]:
        """The memories of a scope that say the same as a text, the most similar first, each with its similarity.

        Args:
            scope: the scope.
            text: the text.
            threshold: the minimum cosine; memories with the same words have similarity 1.
        """
        scopes = {"": scope}
        vector, copies = await self._vector_and_copies(scopes, text)
        if vector is not None:
            await self._fill(scopes, copies)
        return copies[""].index.duplicates_of(text, vector, threshold)

    async def _vector_and_copies(
        self, scopes: Mapping[str, MemoryScope], text: str
    ) -> tuple[Floats | None, dict[str, Copy]]:
        if self._tag:  # the store is read while the model computes
            return await asyncio.gather(self._query_vector(text), self._current(scopes))
        vector = await self._query_vector(text)  # which may tell the model's dimension, and with it the tag
        return vector, await self._current(scopes)

    async def _query_vector(self, text: str) -> Floats | None:
        """The query's vector; None if the model cannot answer now, since a search by words is better than none."""
        try:
            return np.asarray(await self._embedding.embed_query(text), dtype=np.float32)
        except EmbeddingUnavailable as error:
            _log.warning("memory_found_by_words_alone", error=str(error))
            return None

    @property
    def _tag(self) -> str:
        """The model's tag; empty while the model is unknown, so that no stored vector matches it."""
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
