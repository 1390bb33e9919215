"""The collections of a Qdrant server: creates them on demand, and checks their owner and model before use.

The purpose of a collection is in its metadata (Qdrant 1.16 and newer): `{"sessionfleet": {format, model, dimension}}`.
"""

from __future__ import annotations

import contextlib
import time
from typing import Any, Final

from qdrant_client import AsyncQdrantClient, models

from sessions.errors import IndexMismatch, IndexUnavailable
from workers.retrieval.index.conditions import TIME
from workers.retrieval.index.names import valid_collection
from workers.retrieval.index.records import DENSE, FORMAT, KEYWORDS, LEXICAL, check_model
from workers.retrieval.index.server.requests import CollectionExists, NoCollection, Requests
from workers.retrieval.ports import EmbeddingInfo

_OURS: Final = "sessionfleet"
_OLDEST: Final = (1, 16)
_KNOWN_FOR: Final = 30.0  # seconds; somebody may remove a collection and create another one under its name


class ServerCollections:
    """Creates and checks collections, and caches the results for a while."""

    def __init__(self, client: AsyncQdrantClient, requests: Requests) -> None:
        self._client = client
        self._requests = requests
        self._known: dict[str, tuple[EmbeddingInfo, float]] = {}

    async def ready(self, name: str, model: EmbeddingInfo) -> None:
        """Make sure that the collection exists and is for this model. Several processes may do so concurrently.

        Raises:
            IndexMismatch: it holds another model's vectors, or Sessionfleet did not create it.
        """
        info = await self.find(name)
        if info is None:
            info = await self._make(name, model)
        check_model(name, info, model)

    async def find(self, name: str) -> EmbeddingInfo | None:
        """The model of a collection's vectors, or None if the collection does not exist.

        Raises:
            IndexMismatch: Sessionfleet did not create it.
            IndexUnavailable: a newer version of Sessionfleet created it, or it was changed since.
        """
        known = self._known.get(name)
        if known is not None and time.monotonic() - known[1] < _KNOWN_FOR:
            return known[0]
        try:
            found = await self._describe(valid_collection(name))
            info = _info(name, found)
            if info is None:
                raise IndexMismatch(
                    f"the Qdrant server has a collection {name!r} that Sessionfleet did not create; choose another name"
                )
            await self._index_fields(name, found)
        except NoCollection:
            return None
        self._known[name] = info, time.monotonic()
        return info

    def forget(self, name: str) -> None:
        """Drop a collection from the cache: something else has removed it."""
        self._known.pop(name, None)

    async def all(self) -> dict[str, EmbeddingInfo]:
        """The collections that Sessionfleet created, with their models."""
        found = {}
        for entry in (await self._requests.send(self._client.get_collections)).collections:
            with contextlib.suppress(NoCollection):  # it was removed since
                if info := _info(entry.name, await self._describe(entry.name)):
                    found[entry.name] = info
        return found

    async def _describe(self, name: str) -> models.CollectionInfo:
        if not await self._requests.send(lambda: self._client.collection_exists(name)):
            raise NoCollection(name)
        return await self._requests.send(lambda: self._client.get_collection(name))

    async def _make(self, name: str, model: EmbeddingInfo) -> EmbeddingInfo:
        await self._check_version()
        about: dict[str, Any] = {"format": FORMAT, "model": model.id, "dimension": model.dimension}
        with contextlib.suppress(CollectionExists):
            await self._requests.send(
                lambda: self._client.create_collection(
                    name,
                    vectors_config={DENSE: models.VectorParams(size=model.dimension, distance=models.Distance.COSINE)},
                    sparse_vectors_config={LEXICAL: models.SparseVectorParams(modifier=models.Modifier.IDF)},
                    metadata={_OURS: about},
                )
            )
        info = await self.find(name)
        if info is None:
            raise IndexUnavailable(f"the collection {name!r} was removed while it was created; try again")
        return info

    async def _check_version(self) -> None:
        version = (await self._requests.send(self._client.info)).version
        if tuple(int(part) for part in version.split(".")[:2] if part.isdigit()) < _OLDEST:
            raise IndexUnavailable(
                f"the Qdrant server is version {version}; Sessionfleet needs {'.'.join(map(str, _OLDEST))} or newer"
            )

    async def _index_fields(self, name: str, found: models.CollectionInfo) -> None:
        """Create missing indexes of fields: a crash after the collection was created may have left some out."""
        keyword, times = models.KeywordIndexType.KEYWORD, models.IntegerIndexType.INTEGER
        schemas: dict[str, models.KeywordIndexParams | models.IntegerIndexParams] = {
            field: models.KeywordIndexParams(type=keyword, is_tenant=field == "tenant" or None) for field in KEYWORDS
        }
        schemas[TIME] = models.IntegerIndexParams(type=times, lookup=False, range=True)
        for field, schema in schemas.items():
            if field not in found.payload_schema:
                await self._index_field(name, field, schema)

    async def _index_field(
        self, name: str, field: str, schema: models.KeywordIndexParams | models.IntegerIndexParams
    ) -> None:
        await self._requests.send(lambda: self._client.create_payload_index(name, field, schema, wait=True))


def _info(name: str, found: models.CollectionInfo) -> EmbeddingInfo | None:
    """The model of a collection's vectors; None if Sessionfleet did not create it.

    Raises:
        IndexUnavailable: a newer version of Sessionfleet created it, or its metadata or layout were changed since.
    """
    about = (found.config.metadata or {}).get(_OURS)
    if about is None:
        return None
    try:
        version, info = about["format"], EmbeddingInfo(about["model"], about["dimension"])
    except (KeyError, TypeError) as error:
        raise IndexUnavailable(
            f"the metadata of the collection {name!r} on the Qdrant server cannot be read ({about!r}); restore a "
            "snapshot of the collection, or remove it and add the documents again"
        ) from error
    if version != FORMAT:
        raise IndexUnavailable(
            f"the collection {name!r} on the Qdrant server has the format {version!r}, and this version of "
            f"Sessionfleet reads {FORMAT}; use the version that wrote it, or another collection"
        )
    if not _has_vectors(found.config.params, info):
        raise IndexUnavailable(
            f"the collection {name!r} on the Qdrant server has not the vectors that Sessionfleet created it with; "
            "restore a snapshot of the collection, or remove it and add the documents again"
        )
    return info


def _has_vectors(params: models.CollectionParams, info: EmbeddingInfo) -> bool:
    vectors = params.vectors
    dense = vectors.get(DENSE) if isinstance(vectors, dict) else None
    return dense is not None and dense.size == info.dimension and LEXICAL in (params.sparse_vectors or {})
