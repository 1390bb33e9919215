"""Writes and publishes chunks on a Qdrant server. Concurrent operations on a collection share their requests.

The server confirms a change after it has written it to its log, which takes longer than to send it. So the chunks of
all documents that are indexed at the same time are written together, and the documents published together.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from qdrant_client import AsyncQdrantClient, models

from workers.retrieval.index.records import PUBLISHED, scope_conditions, superseded_conditions
from workers.retrieval.index.server.group_commit import GroupCommit
from workers.retrieval.index.server.points import server_filter, server_point
from workers.retrieval.index.server.requests import Requests, is_refusal
from workers.retrieval.ports import IndexPoint, Scope

_BYTES_A_NUMBER: Final = 22  # of a double as JSON


@dataclass(frozen=True, slots=True)
class _Write:
    point: IndexPoint
    published: bool


@dataclass(frozen=True, slots=True)
class _Publication:
    scope: Scope
    source: str
    revision: str


class ServerWrites:
    """The changes of one collection. All requests wait until the server has applied them."""

    def __init__(
        self,
        client: AsyncQdrantClient,
        requests: Requests,
        collection: str,
        *,
        batch_points: int,
        batch_bytes: int,
    ) -> None:
        """Use a client; see `ServerIndex` for the other arguments."""
        self._client = client
        self._requests = requests
        self._collection = collection
        self._batch_points = batch_points
        self._batch_bytes = batch_bytes
        self._writes: GroupCommit[_Write] = GroupCommit(self._write, one_may_spoil=is_refusal)
        self._publications: GroupCommit[_Publication] = GroupCommit(self._publish, one_may_spoil=is_refusal)

    async def write(self, points: Sequence[IndexPoint], *, published: bool) -> None:
        """Write chunks, visible at once or not before they are published."""
        await self._writes.add([_Write(point, published) for point in points])

    async def publish(self, scope: Scope, source: str, revision: str) -> None:
        """Make a revision visible, then remove the others. Does nothing if the revision does not exist."""
        await self._publications.add([_Publication(scope, source, revision)])

    async def _write(self, writes: list[_Write]) -> None:
        for batch in self._batches(writes):
            visible = {write.point.id for write in batch if write.published}
            visible |= await self._published([write.point.id for write in batch if not write.published])
            points = [server_point(write.point, visible) for write in batch]
            await self._upsert(points)

    async def _upsert(self, points: list[models.PointStruct]) -> None:
        await self._requests.send(lambda: self._client.upsert(self._collection, points, wait=True))

    async def _published(self, ids: list[Any]) -> set[str]:
        """Those of the chunks that exist and are published."""
        if not ids:
            return set()
        there = await self._requests.send(lambda: self._client.retrieve(self._collection, ids, with_payload=["state"]))
        return {str(record.id) for record in there if (record.payload or {}).get("state") == PUBLISHED}

    def _batches(self, writes: Sequence[_Write]) -> Iterator[list[_Write]]:
        batch: list[_Write] = []
        size = 0
        for write in writes:
            weight = _weight(write.point)
            if batch and (len(batch) == self._batch_points or size + weight > self._batch_bytes):
                yield batch
                batch, size = [], 0
            batch.append(write)
            size += weight
        yield batch

    async def _publish(self, publications: list[_Publication]) -> None:
        there = await asyncio.gather(*map(self._is_written, publications))
        changes = [
            change for one, exists in zip(publications, there, strict=True) if exists for change in _changes(one)
        ]
        if changes:
            await self._requests.send(lambda: self._client.batch_update_points(self._collection, changes, wait=True))

    async def _is_written(self, one: _Publication) -> bool:
        mine = server_filter(scope_conditions(one.scope, source=one.source, revision=one.revision))
        found = await self._requests.send(lambda: self._client.count(self._collection, mine, exact=True))
        return found.count > 0


def _changes(one: _Publication) -> list[models.UpdateOperation]:
    """Both changes of a publication; the server applies the changes of a request one after the other."""
    mine = server_filter(scope_conditions(one.scope, source=one.source, revision=one.revision))
    others = server_filter(superseded_conditions(one.scope, one.source, one.revision))
    return [
        models.SetPayloadOperation(set_payload=models.SetPayload(payload={"state": PUBLISHED}, filter=mine)),
        models.DeleteOperation(delete=models.FilterSelector(filter=others)),
    ]


def _weight(point: IndexPoint) -> int:
    """About how many bytes the chunk has in a request."""
    return len(str(point.payload)) + _BYTES_A_NUMBER * (len(point.dense) + 2 * len(point.sparse.indices))
