"""Exports and imports knowledge including its vectors: from the embedded index to a server, or into a backup.

    {"kind": "collection", "format": 1, collection, model, dimension}       before the chunks of a collection
    {"kind": "chunk", collection, id, tenant, scope, source, revision, dense, indices, values, payload, at?}
    {"kind": "end", chunks}                                                 last: without it the export is incomplete

Vectors are little-endian float32 in base64: exact, and a quarter of their size as JSON numbers.
"""

from __future__ import annotations

import base64
import struct
from collections.abc import AsyncIterable, AsyncIterator, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from sessions.errors import BadRequest, IndexMismatch, IndexUnavailable
from workers.retrieval.index.names import has_transcripts
from workers.retrieval.ports import EmbeddingInfo, IndexPoint, KnowledgeIndex, Scope, SparseVector

FORMAT: Final = 1
_BATCH: Final = 256


async def export_knowledge(
    index: KnowledgeIndex, *, collections: Collection[str] | None = None, scope: Scope | None = None
) -> AsyncIterator[dict[str, Any]]:
    """Export an index's published chunks as JSON records. Nothing should be added to the index meanwhile.

    Args:
        index: the index to export.
        collections: the collections to export; None for all.
        scope: the scope to export; None for all tenants and scopes.

    Raises:
        BadRequest: a collection does not exist.
        IndexUnavailable: a source was replaced meanwhile, so that only a part of it may have been exported.
    """
    there = await index.collections()
    wanted = list(there) if collections is None else list(collections)
    if missing := sorted(set(wanted) - set(there)):
        raise BadRequest(f"there is no collection {missing[0]!r}; there are: {', '.join(sorted(there)) or 'none'}")
    chunks = 0
    for name in wanted:
        about = there[name]
        yield {
            "kind": "collection", "format": FORMAT, "collection": name, "model": about.id, "dimension": about.dimension
        }  # fmt: skip
        revisions: dict[tuple[Scope, str], str] = {}
        async for page in index.scroll(name, scope):
            for point in page:
                seen = revisions.setdefault((point.scope, point.source), point.revision)
                if seen != point.revision and not has_transcripts(name):
                    raise IndexUnavailable(f"{point.source!r} was replaced while it was exported; export again")
                yield _record(name, point)
            chunks += len(page)
    yield {"kind": "end", "chunks": chunks}


@dataclass
class Imported:
    """The counts of an import."""

    chunks: int = 0
    sources: int = 0
    collections: dict[str, EmbeddingInfo] = field(default_factory=dict)


async def import_knowledge(index: KnowledgeIndex, records: AsyncIterable[Mapping[str, Any]]) -> Imported:
    """Write the records of an export, and publish them after the last one. An import can be repeated.

    Existing sources of the same names are replaced; everything else in the index stays.

    Raises:
        BadRequest: the records are not an export, or an incomplete one; nothing is published.
        IndexMismatch: a collection exists with another model's vectors.
    """
    reading = _Import(index)
    number = 0
    try:
        async for record in records:
            number += 1
            await reading.take(record)
    except (KeyError, TypeError, ValueError, struct.error) as error:
        if isinstance(error, BadRequest):
            raise
        raise BadRequest(f"record {number} is not a record of an export: {error!r}") from error
    return await reading.finish()


class _Import:
    """A running import."""

    def __init__(self, index: KnowledgeIndex) -> None:
        self._index = index
        self._done = Imported()
        self._batch: list[IndexPoint] = []
        self._batch_of = ""
        self._written: dict[tuple[str, Scope, str], str] = {}
        self._announced: int | None = None

    async def take(self, record: Mapping[str, Any]) -> None:
        """Process one record; chunks are written in batches."""
        match record["kind"]:
            case "collection":
                await self._begin(record)
            case "chunk":
                await self._take_chunk(record)
            case "end":
                self._announced = record["chunks"]
            case kind:
                raise BadRequest(f"an export has no records of the kind {kind!r}")

    async def finish(self) -> Imported:
        """Publish what was written."""
        await self._write()
        if self._announced != self._done.chunks:
            raise BadRequest(
                f"the export is incomplete: it has {self._done.chunks} of {self._announced or 'unknown'} chunks; "
                "nothing was published, export it again"
            )
        for (collection, scope, source), revision in self._written.items():
            await self._index.publish(collection, scope, source, revision)
        self._done.sources = len(self._written)
        return self._done

    async def _begin(self, record: Mapping[str, Any]) -> None:
        if record["format"] != FORMAT:
            raise BadRequest(
                f"the export has the format {record['format']!r}, and this version of Sessionfleet reads {FORMAT}"
            )
        await self._write()
        name, info = record["collection"], EmbeddingInfo(record["model"], record["dimension"])
        has = (await self._index.collections()).get(name)
        if has is not None and has != info:
            raise IndexMismatch(
                f"the collection {name!r} exists and holds vectors of {has.id!r}, the export those of "
                f"{info.id!r}; import it into another index, or remove the collection first"
            )
        self._done.collections[name] = info

    async def _take_chunk(self, record: Mapping[str, Any]) -> None:
        collection = record["collection"]
        if collection not in self._done.collections:
            raise BadRequest(f"a chunk of {collection!r} comes before its collection's record")
        point = _point(record)
        self._batch.append(point)
        self._batch_of = collection
        if not has_transcripts(collection):  # all turns of a session are visible, each as it is written
            self._written[collection, point.scope, point.source] = point.revision
        self._done.chunks += 1
        if len(self._batch) == _BATCH:
            await self._write()

    async def _write(self) -> None:
        if self._batch:
            model, turns = self._done.collections[self._batch_of], has_transcripts(self._batch_of)
            await self._index.write(self._batch_of, model, self._batch, published=turns)
            self._batch = []


def _record(collection: str, point: IndexPoint) -> dict[str, Any]:
    return {
        "kind": "chunk", "collection": collection, "id": point.id,
        "tenant": point.scope.tenant, "scope": point.scope.name, "source": point.source, "revision": point.revision,
        "dense": _packed(point.dense), "indices": list(point.sparse.indices), "values": _packed(point.sparse.values),
        "payload": dict(point.payload), **({} if point.at_ms is None else {"at": point.at_ms}),
    }  # fmt: skip


def _point(record: Mapping[str, Any]) -> IndexPoint:
    return IndexPoint(
        record["id"],
        Scope(record["tenant"], record["scope"]),
        record["source"],
        record["revision"],
        _unpacked(record["dense"]),
        SparseVector(record["indices"], _unpacked(record["values"])),
        record["payload"],
        record.get("at"),
    )


def _packed(numbers: Sequence[float]) -> str:
    return base64.b64encode(struct.pack(f"<{len(numbers)}f", *numbers)).decode()


def _unpacked(text: str) -> list[float]:
    data = base64.b64decode(text, validate=True)
    return list(struct.unpack(f"<{len(data) // 4}f", data))
