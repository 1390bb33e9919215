"""The KnowledgeIndex on a Qdrant server, which any number of processes can share."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Sequence
from typing import Any, Final, Self
from urllib.parse import urlsplit

from qdrant_client import AsyncQdrantClient, models

from sessions.errors import BadRequest, IndexUnavailable
from workers.retrieval.index.older_chunks import PIECE, CompleteScopes, complete_tags, older_conditions
from workers.retrieval.index.records import (
    check_model,
    check_points,
    count_conditions,
    point_of,
    query_conditions,
    scope_conditions,
    scroll_conditions,
)
from workers.retrieval.index.server.collections import ServerCollections
from workers.retrieval.index.server.points import server_filter
from workers.retrieval.index.server.requests import NoCollection, Requests
from workers.retrieval.index.server.search import search_server
from workers.retrieval.index.server.writes import ServerWrites
from workers.retrieval.ports import EmbeddingInfo, Hit, IndexPoint, IndexQuery, Scope

_PAGE: Final = 256
_KNOWN_FOR: Final = 60.0  # workers of an earlier version may still write for a while after this one has started


class ServerIndex:
    """A KnowledgeIndex on a server; see `connect`."""

    def __init__(
        self,
        client: AsyncQdrantClient,
        requests: Requests,
        *,
        batch_points: int = 256,
        batch_bytes: int = 8_000_000,
    ) -> None:
        """Use a client; `close` closes it.

        Args:
            client: a client of the server, or qdrant-client's in-memory mode (for tests only: slow, and not
                thread-safe).
            requests: sends the client's requests.
            batch_points: the maximum number of chunks in one request.
            batch_bytes: their approximate maximum size (a server accepts 32 MB by default).
        """
        self._client = client
        self._requests = requests
        self._collections = ServerCollections(client, requests)
        self._changing: dict[str, ServerWrites] = {}
        self._complete = CompleteScopes(known_for=_KNOWN_FOR)
        self._batch_points = batch_points
        self._batch_bytes = batch_bytes

    @classmethod
    def connect(cls, url: str, *, api_key: str | None = None, timeout: float = 10.0, attempts: int = 4) -> Self:
        """Create the index on a server. No request is sent yet. TLS certificates are verified.

        Args:
            url: an http or https URL; the default port is 6333.
            api_key: the server's API key.
            timeout: the timeout of each request in seconds; rounded up, since Qdrant takes whole seconds.
            attempts: the maximum number of attempts of each request.

        Raises:
            BadRequest: `url` is not a URL.
        """
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise BadRequest(f"QDRANT_URL is {url!r}; it looks like 'https://qdrant.example.org:6333'")
        # The compatibility check would send a request immediately, from a thread, and print warnings to stderr.
        client = AsyncQdrantClient(url=url, api_key=api_key, timeout=math.ceil(timeout), check_compatibility=False)
        return cls(client, Requests(f"{parts.scheme}://{parts.hostname}:{parts.port or 6333}", attempts=attempts))

    async def write(
        self, collection: str, model: EmbeddingInfo, points: Sequence[IndexPoint], *, published: bool = False
    ) -> None:
        """Write chunks; they are in the server's log when this returns."""
        if not points:
            return
        check_points(model, points)
        await self._collections.ready(collection, model)
        try:
            await self._writes(collection).write(points, published=published)
        except NoCollection as error:
            self._collections.forget(collection)
            raise IndexUnavailable(f"the collection {collection!r} was removed meanwhile; write it again") from error

    async def publish(self, collection: str, scope: Scope, source: str, revision: str) -> None:
        """Make a revision of a source visible, then remove the others. Does nothing if it was never written."""
        try:
            if await self._collections.find(collection) is not None:
                await self._writes(collection).publish(scope, source, revision)
        except NoCollection:
            self._collections.forget(collection)

    async def search(self, collection: str, model: EmbeddingInfo, query: IndexQuery) -> list[Hit]:
        """The best published chunks; see `KnowledgeIndex.search`."""
        conditions = query_conditions(query)
        info = await self._collections.find(collection)
        if info is None:
            return []
        check_model(collection, info, model)
        if conditions is None:
            return []
        allowed = server_filter(conditions)
        try:
            await self._complete.ensure(collection, query, lambda scopes: self._complete_piece(collection, scopes))
            return await search_server(self._client, self._requests, collection, query, allowed)
        except NoCollection:
            self._collections.forget(collection)
            return []

    async def remove(
        self, collection: str, scope: Scope, *, source: str | None = None, revision: str | None = None
    ) -> int:
        """Remove chunks, published or not. Returns how many there were."""
        doomed = server_filter(scope_conditions(scope, source=source, revision=revision))
        try:
            if await self._collections.find(collection) is None:
                return 0
            there = await self._count(collection, doomed)
            selector = models.FilterSelector(filter=doomed)
            await self._requests.send(lambda: self._client.delete(collection, selector, wait=True))
        except NoCollection:
            self._collections.forget(collection)
            return 0
        return there

    async def count(
        self, collection: str, scope: Scope, *, source: str | None = None, revision: str | None = None
    ) -> int:
        """Count a scope's published chunks. With `revision`, unpublished chunks of that revision are included."""
        try:
            if await self._collections.find(collection) is None:
                return 0
            return await self._count(collection, server_filter(count_conditions(scope, source, revision)))
        except NoCollection:
            self._collections.forget(collection)
            return 0

    async def scroll(
        self, collection: str, scope: Scope | None = None, *, source: str | None = None
    ) -> AsyncIterator[list[IndexPoint]]:
        """All published chunks, page by page. Chunks that are published or removed meanwhile may be missed."""
        conditions = scroll_conditions(scope, source)
        if await self._collections.find(collection) is None:
            return
        after: Any = None
        while True:
            try:
                records, after = await self._page(collection, server_filter(conditions), after)
            except NoCollection:
                self._collections.forget(collection)
                return
            if records:
                yield [point_of(record) for record in records]
            if after is None:
                return

    async def collections(self) -> dict[str, EmbeddingInfo]:
        """The collections that Sessionfleet created on the server, with their models."""
        return await self._collections.all()

    async def tidy(self) -> None:
        """Do nothing: a server reclaims space by itself."""

    async def close(self) -> None:
        """Close the connections. Can be called twice."""
        await self._client.close()

    def _writes(self, collection: str) -> ServerWrites:
        if collection not in self._changing:
            self._changing[collection] = ServerWrites(
                self._client,
                self._requests,
                collection,
                batch_points=self._batch_points,
                batch_bytes=self._batch_bytes,
            )
        return self._changing[collection]

    async def _count(self, collection: str, which: models.Filter) -> int:
        return (await self._requests.send(lambda: self._client.count(collection, which, exact=True))).count

    async def _complete_piece(self, collection: str, scopes: Sequence[Scope]) -> bool:
        """Add what is missing to some of the chunks that an earlier version wrote; False if there were none."""
        older = server_filter(older_conditions(scopes))
        records, _ = await self._requests.send(
            lambda: self._client.scroll(collection, older, limit=PIECE, with_payload=["payload"])
        )
        for ids, field in complete_tags(records):
            await self._set_payload(collection, ids, field)
        return bool(records)

    async def _set_payload(self, collection: str, ids: list[Any], fields: dict[str, Any]) -> None:
        await self._requests.send(lambda: self._client.set_payload(collection, fields, points=ids, wait=True))

    async def _page(self, collection: str, which: models.Filter, after: Any) -> tuple[list[models.Record], Any]:
        return await self._requests.send(
            lambda: self._client.scroll(
                collection, which, limit=_PAGE, offset=after, with_payload=True, with_vectors=True
            )
        )
