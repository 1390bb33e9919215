"""The collections of a Qdrant server: made as they are needed, and known to be ours, of one model, before use.

What a collection is for stands in its metadata (Qdrant 1.16 and newer): `{"sessionfleet": {format, model, dimension}}`.
"""

from __future__ import annotations

import contextlib
from typing import Any, Final

from qdrant_client import AsyncQdrantClient, models

from sessions.errors import IndexMismatch, IndexUnavailable
from workers.retrieval.index.names import valid_collection
from workers.retrieval.index.records import DENSE, FORMAT, KEYWORDS, LEXICAL, check_model
from workers.retrieval.index.requests import CollectionExists, NoCollection, Requests
from workers.retrieval.ports import EmbeddingInfo

_OURS: Final = "sessionfleet"
_OLDEST: Final = (1, 16)


class ServerCollections:
    """Makes and checks collections; remembers those that it has checked."""

    def __init__(self, client: AsyncQdrantClient, requests: Requests) -> None:
        self._client = client
        self._requests = requests
        self._known: dict[str, EmbeddingInfo] = {}

    async def ready(self, name: str, model: EmbeddingInfo) -> None:
        """Have the collection, for this model; made if need be, by whoever of many comes first.

        Raises:
            IndexMismatch: it is another model's, or somebody else's.
        """
        info = await self.find(name)
        if info is None:
            info = await self._make(name, model)
        check_model(name, info, model)

    async def find(self, name: str) -> EmbeddingInfo | None:
        """Whose vectors the collection holds; None where there is none.

        Raises:
            IndexMismatch: Sessionfleet did not make it.
        """
        if name in self._known:
            return self._known[name]
        try:
            found = await self._describe(valid_collection(name))
            info = _info(found)
            if info is None:
                raise IndexMismatch(
                    f"the Qdrant server has a collection {name!r} that Sessionfleet did not make; choose another name"
                )
            await self._index_keywords(name, found)
        except NoCollection:
            return None
        self._known[name] = info
        return info

    def forget(self, name: str) -> None:
        """Somebody removed it behind our back."""
        self._known.pop(name, None)

    async def all(self) -> dict[str, EmbeddingInfo]:
        """Those of Sessionfleet, with their models."""
        found = {}
        for entry in (await self._requests.send(self._client.get_collections)).collections:
            with contextlib.suppress(NoCollection):  # it was removed since
                if info := _info(await self._describe(entry.name)):
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
            raise IndexUnavailable(f"the collection {name!r} was removed while it was made; try again")
        return info

    async def _check_version(self) -> None:
        version = (await self._requests.send(self._client.info)).version
        if tuple(int(part) for part in version.split(".")[:2] if part.isdigit()) < _OLDEST:
            raise IndexUnavailable(
                f"the Qdrant server is version {version}; Sessionfleet needs {'.'.join(map(str, _OLDEST))} or newer"
            )

    async def _index_keywords(self, name: str, found: models.CollectionInfo) -> None:
        """Have an index on each keyword; a crash right after the collection was made may have left some out."""
        for field in KEYWORDS:
            if field not in found.payload_schema:
                await self._index_keyword(name, field)

    async def _index_keyword(self, name: str, field: str) -> None:
        schema = models.KeywordIndexParams(type=models.KeywordIndexType.KEYWORD, is_tenant=field == "tenant" or None)
        await self._requests.send(lambda: self._client.create_payload_index(name, field, schema, wait=True))


def _info(found: models.CollectionInfo) -> EmbeddingInfo | None:
    about = (found.config.metadata or {}).get(_OURS)
    return EmbeddingInfo(about["model"], about["dimension"]) if about and about["format"] == FORMAT else None
