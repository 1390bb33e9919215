"""The parts of retrieval as protocols, and the values that they exchange.

    bytes --documents--> Document --chunking--> Chunk --embeddings--> vectors --index--> Hit

Each part uses its own libraries only; `knowledge`, `memory` and `transcript` combine them. Nothing here depends on
Celery, leases or turns.
"""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Protocol, Self

Vector = Sequence[float]

_USUAL_WEIGHT: Final = 0.7


@dataclass(frozen=True, slots=True)
class Section:
    """A part of a document as its author divided it: a page, or the text under one heading.

    Attributes:
        text: the text without markup.
        page: 1-based; None for formats without pages.
        heading: the headings above it, outermost first, joined by ' > '; None if there are none.
    """

    text: str
    page: int | None = None
    heading: str | None = None


@dataclass(frozen=True, slots=True)
class Document:
    """A parsed document. Its text is that of its sections, joined by two newlines.

    Attributes:
        pages: None for kinds of documents without pages.
        warnings: sentences on what is not in the text although the document has it.
        unread_pages: the pages (1-based) that could not be read, or in part only.
        recognised_pages: the pages (1-based) whose text was recognised, so it may have errors.
    """

    kind: str
    sections: Sequence[Section]
    pages: int | None = None
    warnings: Sequence[str] = ()
    unread_pages: Sequence[int] = ()
    recognised_pages: Sequence[int] = ()


@dataclass(frozen=True, slots=True)
class Chunk:
    """A passage that searches can find.

    Attributes:
        number: 0-based, in document order.
        start: where it begins in the document's text, in characters.
        end: where it ends (exclusive).
        page, heading: those of the section in which it begins.
    """

    number: int
    text: str
    start: int
    end: int
    page: int | None = None
    heading: str | None = None


@dataclass(frozen=True, slots=True)
class EmbeddingInfo:
    """Identifies the model that made a vector. `id` is stored with each collection, and checked."""

    id: str
    dimension: int


@dataclass(frozen=True, slots=True)
class CosineScale:
    """What the cosines of a query tell.

    Attributes:
        weight: of meaning against words, 0 to 1; less for a text in a language that the model does not know.
        unrelated: the usual cosine of texts that have nothing in common.
        same: the cosine of a question and its answer from which on they could not match better.
        related: the cosine from which a sentence, such as a memory, has to do with the query.
        alike: the cosine of two sentences from which both are about the same.
    """

    weight: float = _USUAL_WEIGHT
    unrelated: float = 0.0
    same: float = 0.7
    related: float = 0.2
    alike: float = 0.75

    @classmethod
    def of(cls, unrelated: float, same: float, *, weight: float = _USUAL_WEIGHT) -> Self:
        """For a model of which only these are known: the other cosines are where they are on the usual scale."""
        usual = cls()
        stretched = (same - unrelated) / (usual.same - usual.unrelated)
        related, alike = (unrelated + stretched * (at - usual.unrelated) for at in (usual.related, usual.alike))
        return cls(weight, unrelated, same, related, alike)

    @property
    def trust(self) -> float:
        """How far the cosines can be relied upon, 0 to 1: less in a language that the model does not know."""
        return min(1.0, self.weight / _USUAL_WEIGHT)

    @property
    def floor(self) -> float:
        """`related`, raised where the cosines tell less. No text is related by its cosine alone if this is above 1."""
        return self.unrelated + (self.related - self.unrelated) / self.trust if self.trust else math.inf

    def meaning(self, cosine: float) -> float:
        """The cosine on the scale from `unrelated`, which is 0, to `same`, which is 1."""
        return min(1.0, max(0.0, (cosine - self.unrelated) / (self.same - self.unrelated)))


@dataclass(frozen=True, slots=True)
class PieceLimit:
    """How much of a text a model reads.

    Attributes:
        most: in word pieces.
        count: how many word pieces a text has.
    """

    most: int
    count: Callable[[str], int]


class EmbeddingModel(Protocol):
    """Computes vectors of texts. Vectors have length 1, so that their dot product is the cosine."""

    @property
    def info(self) -> EmbeddingInfo:
        """Which model this is; known after `prepare` or the first vector."""
        ...

    async def prepare(self) -> EmbeddingInfo:
        """Load the model or query its provider now, not at the first text. Raises the same errors as embedding."""
        ...

    async def embed_documents(self, texts: Sequence[str]) -> list[list[float]]:
        """One vector for each text.

        Raises:
            EmbeddingUnavailable: the provider cannot answer now; a retry may succeed.
            EmbeddingFailed: a retry cannot succeed.
        """
        ...

    async def embed_query(self, text: str) -> list[float]:
        """The vector of a search query."""
        ...

    def scale(self, text: str) -> CosineScale:
        """What the cosines of a query with this text tell; known after `prepare` or the first vector."""
        ...

    def limit(self) -> PieceLimit | None:
        """How much of a text it reads; None if that is more than the longest chunk in any language."""
        ...

    async def close(self) -> None:
        """Release connections and threads."""
        ...


@dataclass(frozen=True, slots=True)
class SparseVector:
    """Weights of terms, by the hashes of the terms, for lexical search."""

    indices: Sequence[int]
    values: Sequence[float]


class LexicalModel(Protocol):
    """Computes BM25 vectors; the index multiplies them by the inverse document frequencies."""

    def document(self, text: str) -> SparseVector:
        """The vector of a text that searches can find."""
        ...

    def query(self, text: str) -> SparseVector:
        """The vector of a search query."""
        ...

    def words(self, text: str) -> Sequence[frozenset[int]]:
        """The words of a search query, each as the terms that stand for it in `query`; without stop words."""
        ...


@dataclass(frozen=True, slots=True)
class Scope:
    """To whom knowledge belongs. A search never returns results from outside its scopes.

    Attributes:
        tenant: the tenant.
        name: `session:<id>`, `user:<id>` or `base:<name>`.
    """

    tenant: str
    name: str


@dataclass(frozen=True, slots=True)
class IndexPoint:
    """A chunk as it is written to or read from the index.

    Attributes:
        id: a UUID derived from scope, source, revision and chunk number, so that writing the chunk again is idempotent.
        source: the user's name for the document.
        revision: a digest of the document's content and of how it was divided into chunks.
        payload: what a hit returns: text, page, heading, start, end, number, metadata.
        at_ms: a time by which searches may filter, in milliseconds since the epoch; None for a chunk without one.
    """

    id: str
    scope: Scope
    source: str
    revision: str
    dense: Vector
    sparse: SparseVector
    payload: Mapping[str, Any]
    at_ms: int | None = None


@dataclass(frozen=True, slots=True)
class Hit:
    """A chunk that a search found.

    Attributes:
        score: 0 to 1, comparable between searches; `workers.retrieval.index.fusion` says what it means.
        similarity: the cosine of the dense vectors, if known.
    """

    id: str
    scope: Scope
    source: str
    revision: str
    score: float
    payload: Mapping[str, Any]
    similarity: float | None = None


@dataclass(frozen=True, slots=True)
class IndexQuery:
    """A search.

    Attributes:
        dense: the query's vector; None for a lexical search.
        sparse: the query's terms; None for a search by meaning only.
        scopes: the scopes to search: at least one, all of one tenant.
        limit: the maximum number of hits.
        sources: restricts the search to these documents; None for all.
        metadata: restricts the search to chunks whose metadata satisfy this filter (`sessions.protocol.filters`).
        since_ms, until_ms: restricts the search to chunks whose time is in between (`until_ms` excluded).
        words: the query's words, each as its terms; by default, each term is a word.
        scale: what the cosines tell.
        min_score: the score that a hit must have.
    """

    dense: Vector | None
    sparse: SparseVector | None
    scopes: Sequence[Scope]
    limit: int = 5
    sources: Sequence[str] | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)
    since_ms: int | None = None
    until_ms: int | None = None
    words: Sequence[frozenset[int]] = ()
    scale: CosineScale = CosineScale()
    min_score: float = 0.0


class KnowledgeIndex(Protocol):
    """Stores chunks and searches them: Qdrant, embedded or on a server.

    A collection is created by the first write, with the model's id and dimension, and rejects other models. The chunks
    of a revision are invisible until it is published. All methods are idempotent and can be repeated after a crash.

    Raises (all methods):
        IndexUnavailable: the index cannot answer now.
        IndexMismatch: the collection holds another model's vectors.
    """

    async def write(
        self, collection: str, model: EmbeddingInfo, points: Sequence[IndexPoint], *, published: bool = False
    ) -> None:
        """Write chunks; they are durable when this returns.

        Args:
            published: whether they are visible at once, next to other revisions of their source.
        """
        ...

    async def publish(self, collection: str, scope: Scope, source: str, revision: str) -> None:
        """Make a revision of a source visible, and remove the other published revisions."""
        ...

    async def search(self, collection: str, model: EmbeddingInfo, query: IndexQuery) -> list[Hit]:
        """The best published chunks within the query's scopes; what both halves find is fused (see `index.fusion`).

        A search in a collection that does not exist finds nothing.
        """
        ...

    async def remove(
        self, collection: str, scope: Scope, *, source: str | None = None, revision: str | None = None
    ) -> int:
        """Remove a scope's chunks, optionally of one source or revision only. Returns how many there were."""
        ...

    async def count(
        self, collection: str, scope: Scope, *, source: str | None = None, revision: str | None = None
    ) -> int:
        """Count a scope's published chunks. With `revision`, unpublished chunks of that revision are included."""
        ...

    def scroll(
        self, collection: str, scope: Scope | None = None, *, source: str | None = None
    ) -> AsyncIterator[list[IndexPoint]]:
        """All published chunks with their vectors, page by page, for exports and copies.

        Args:
            source: restricts them to one document of `scope`.
        """
        ...

    async def collections(self) -> dict[str, EmbeddingInfo]:
        """The collections that Sessionfleet created in this index, with their models."""
        ...

    async def tidy(self) -> None:
        """Reclaim the space of removed chunks if it is worth it, which can take seconds. Call it now and then."""
        ...

    async def close(self) -> None:
        """Flush to disk and release all resources."""
        ...
