"""Chunks to index, and the engines to index them in: embedded, qdrant-client in memory, a server if there is one."""

from __future__ import annotations

import hashlib
import math
import random
import uuid
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.support.real_qdrant import SERVER_KEY, SERVER_URL
from workers.retrieval.index.embedded import EmbeddedIndex
from workers.retrieval.index.server import ServerIndex
from workers.retrieval.index.server.requests import Requests
from workers.retrieval.ports import EmbeddingInfo, IndexPoint, IndexQuery, KnowledgeIndex, Scope
from workers.retrieval.words.bm25 import Bm25Model

MODEL = EmbeddingInfo("made-of-words", 16)
OTHER_MODEL = EmbeddingInfo("made-otherwise", 16)
LEXICAL = Bm25Model()

ENGINES = ["embedded", "in-memory", *(["server"] if SERVER_URL else [])]


def open_engine(engine: str, folder: Path) -> KnowledgeIndex:
    """A KnowledgeIndex on one of ENGINES."""
    if engine == "embedded":
        return EmbeddedIndex.open(folder)
    if engine == "server":
        assert SERVER_URL
        return ServerIndex.connect(SERVER_URL, api_key=SERVER_KEY)
    from qdrant_client import AsyncQdrantClient

    # Once per process it warns that it has no payload indexes: that is as it should be in memory.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return ServerIndex(AsyncQdrantClient(":memory:"), Requests("in-memory"))


def vector(text: str, model: EmbeddingInfo = MODEL) -> list[float]:
    """A vector of length 1: the sum of one direction for each word, so that texts with like words lie close."""
    total = [0.0] * model.dimension
    for word in text.lower().split() or [""]:
        seed = int.from_bytes(hashlib.sha256(f"{model.id} {word}".encode()).digest()[:8], "big")
        rng = random.Random(seed)
        total = [a + rng.gauss(0, 1) for a in total]
    length = math.hypot(*total)
    return [value / length for value in total]


def chunk(
    scope: Scope,
    text: str,
    *,
    source: str = "notes",
    revision: str = "r1",
    number: int = 0,
    metadata: Mapping[str, Any] | None = None,
    model: EmbeddingInfo = MODEL,
) -> IndexPoint:
    """A chunk as the operations make it."""
    name = "\0".join((scope.tenant, scope.name, source, revision, str(number)))
    payload = {
        "text": text, "page": None, "heading": "A > B", "start": 0, "end": len(text), "number": number,
        "metadata": dict(metadata or {}),
    }  # fmt: skip
    id_ = str(uuid.uuid5(uuid.NAMESPACE_OID, name.encode("utf-8", "backslashreplace").decode()))
    return IndexPoint(id_, scope, source, revision, vector(text, model), LEXICAL.document(text), payload)


def asking(text: str, *scopes: Scope, limit: int = 5, **more: Any) -> IndexQuery:
    """A hybrid search for a text."""
    return IndexQuery(vector(text), LEXICAL.query(text), scopes, limit=limit, **more)


async def add(index: KnowledgeIndex, collection: str, *chunks: IndexPoint) -> None:
    """Write chunks of one revision and publish it."""
    await index.write(collection, MODEL, chunks)
    await index.publish(collection, chunks[0].scope, chunks[0].source, chunks[0].revision)


async def texts(index: KnowledgeIndex, collection: str, query: IndexQuery) -> list[str]:
    """What a search finds, best first."""
    return [hit.payload["text"] for hit in await index.search(collection, MODEL, query)]
