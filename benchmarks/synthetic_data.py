"""The data to search: texts, vectors and chunks that are cheap to make, and the same in every run."""

from __future__ import annotations

import itertools
import random
import re
import uuid
import zlib
from collections.abc import AsyncIterator, Sequence
from pydoc_data.topics import topics

import numpy as np

from tests.support.documents import make_pdf
from workers.retrieval.ports import CosineScale, EmbeddingInfo, IndexPoint, KnowledgeIndex, Scope
from workers.retrieval.words.bm25 import Bm25Model

CHUNK_WORDS = 130  # about 800 characters, like a chunk
_DOCUMENT_CHUNKS = 500
_PAGE_LINES = 50
_LINE_CHARS = 90
_seeds = itertools.count()


class RandomVectors:
    """Vectors of the default model's dimension, at no cost: what is left is the search itself.

    The same seed gives the same vectors, so queries need another one than what they search.
    """

    info = EmbeddingInfo("made-up", 384)

    def __init__(self, *, seed: int = 1) -> None:
        self._numbers = np.random.default_rng(seed)

    async def embed_query(self, text: str) -> list[float]:
        return (await self.embed_documents([text]))[0]

    async def embed_documents(self, texts: Sequence[str]) -> list[list[float]]:
        vectors = self._numbers.standard_normal((len(texts), self.info.dimension))
        unit: list[list[float]] = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).tolist()
        return unit

    def scale(self, text: str) -> CosineScale:
        return CosineScale()

    def limit(self) -> None:
        return None


class Texts:
    """Sentences of words from Python's reference, with their frequencies, because no model ever saw made-up words.

    No two sentences are the same: a worker caches recent queries.
    """

    def __init__(self) -> None:
        self._dice = random.Random(next(_seeds))
        self._words = re.findall(r"[a-z]{2,}", _reference().lower())

    def sentence(self, words: int = 14) -> str:
        return " ".join(self._dice.choices(self._words, k=words))

    def book(self, chunks: int) -> bytes:
        """A text file that is cut into about this many chunks."""
        return "\n\n".join(self.sentence(CHUNK_WORDS) + "." for _ in range(chunks)).encode()


async def chunks(scope: Scope, count: int) -> AsyncIterator[list[IndexPoint]]:
    """This many chunks with made-up vectors, document by document; in each scope there are others."""
    texts, vectors, lexical = Texts(), RandomVectors(seed=zlib.crc32(str(scope).encode())), Bm25Model()
    for first in range(0, count, _DOCUMENT_CHUNKS):
        numbers = range(first, min(first + _DOCUMENT_CHUNKS, count))
        passages = [texts.sentence(CHUNK_WORDS) for _ in numbers]
        dense = await vectors.embed_documents(passages)
        yield [
            IndexPoint(
                id=str(uuid.uuid5(uuid.NAMESPACE_OID, f"{scope} {number}")), scope=scope, source=f"book-{first}",
                revision="1", dense=vector, sparse=lexical.document(text),
                payload={
                    "text": text, "number": number - first, "start": 0, "end": len(text), "page": None,
                    "heading": None, "metadata": {},
                },
            )
            for number, text, vector in zip(numbers, passages, dense, strict=True)
        ]  # fmt: skip


async def fill(index: KnowledgeIndex, collection: str, model: EmbeddingInfo, scope: Scope, count: int) -> None:
    """Write this many chunks directly to a collection, as if a model had embedded them, and publish them."""
    async for document in chunks(scope, count):
        await index.write(collection, model, document)
        await index.publish(collection, scope, document[0].source, document[0].revision)


def prose(pages: int) -> bytes:
    """A PDF with this many full pages of Python's reference."""
    words = itertools.cycle(_reference().split())
    return make_pdf([_page(words) for _ in range(pages)])


def _reference() -> str:
    """Prose that is part of every Python installation."""
    return "\n".join(topics.values())


def _page(words: itertools.cycle[str]) -> str:
    lines = [""]
    while len(lines) <= _PAGE_LINES:
        word = next(words).encode("cp1252", "ignore").decode("cp1252")
        if len(lines[-1]) + len(word) > _LINE_CHARS:
            lines.append("")
        lines[-1] = f"{lines[-1]} {word}".lstrip()
    return "\n".join(lines[:_PAGE_LINES])
