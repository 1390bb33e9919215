"""The parts of retrieval, as protocols, and what passes between them.

    bytes --documents--> Document --chunking--> Chunk --embeddings--> vectors --index--> Hit

Each part knows its own libraries and none of the others'; `operations` puts them together. Nothing here knows
Celery, leases or turns.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

Vector = Sequence[float]


@dataclass(frozen=True, slots=True)
class Section:
    """A piece of a document as its author divided it: a page, or what stands under one heading.

    Attributes:
        text: as it is to be read, without markup.
        page: 1-based; None where the format has no pages.
        heading: the headings above it, outermost first, joined by ' > '; None where there is none.
    """

    text: str
    page: int | None = None
    heading: str | None = None


@dataclass(frozen=True, slots=True)
class Document:
    """What was read from one source. The document's text is its sections' texts, joined by two newlines."""

    kind: str
    sections: Sequence[Section]
    pages: int | None = None


@dataclass(frozen=True, slots=True)
class Chunk:
    """A passage to be found.

    Attributes:
        number: 0-based, in the order of the document.
        start: where it begins in the document's text, in characters; end: where it ends (exclusive).
        page, heading: of the section it begins in.
    """

    number: int
    text: str
    start: int
    end: int
    page: int | None = None
    heading: str | None = None


@dataclass(frozen=True, slots=True)
class EmbeddingInfo:
    """What tells the vectors of one model from another's. `id` is stored with each collection and checked."""

    id: str
    dimension: int


class EmbeddingModel(Protocol):
    """Makes vectors of texts. Vectors have length 1, so that their dot product is the cosine."""

    @property
    def info(self) -> EmbeddingInfo:
        """Which model this is; known once it made a vector or was prepared."""
        ...

    async def prepare(self) -> EmbeddingInfo:
        """Load it, or ask its provider, now rather than at the first text. Raises what making vectors raises."""
        ...

    async def embed_documents(self, texts: Sequence[str]) -> list[list[float]]:
        """One vector for each text.

        Raises:
            EmbeddingUnavailable: the provider cannot answer now (it may later). EmbeddingFailed: it never will.
        """
        ...

    async def embed_query(self, text: str) -> list[float]:
        """The vector of what is looked for."""
        ...

    async def close(self) -> None:
        """Give back what it holds."""
        ...


@dataclass(frozen=True, slots=True)
class SparseVector:
    """Weights of terms by the terms' hashes, for the lexical half of a search."""

    indices: Sequence[int]
    values: Sequence[float]


class LexicalModel(Protocol):
    """Makes BM25 vectors; the index adds the inverse document frequencies."""

    def document(self, text: str) -> SparseVector:
        """Of a text to be found."""
        ...

    def query(self, text: str) -> SparseVector:
        """Of what is looked for."""
        ...


@dataclass(frozen=True, slots=True)
class Scope:
    """Whose knowledge: no search ever leaves its scopes.

    Attributes:
        name: `session:<id>`, `user:<id>` or `base:<name>`.
    """

    tenant: str
    name: str


@dataclass(frozen=True, slots=True)
class IndexPoint:
    """A chunk on its way into the index, or out of it.

    Attributes:
        id: a UUID made of scope, source, revision and chunk number, so that writing it again changes nothing.
        source: what the user calls the document; revision: digest of its content and of how it was cut.
        payload: text, page, heading, start, end, number, metadata: what a hit tells.
    """

    id: str
    scope: Scope
    source: str
    revision: str
    dense: Vector
    sparse: SparseVector
    payload: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Hit:
    """A chunk that was found.

    Attributes:
        score: fused, larger is better; comparable within one search only.
        similarity: cosine of the dense vectors where it is known.
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
    """What is looked for, and where.

    Attributes:
        scopes: of one tenant, at least one.
        sources: only these documents; None for all.
        metadata: only chunks whose metadata has these values (a list means any of them).
    """

    dense: Vector | None
    sparse: SparseVector | None
    scopes: Sequence[Scope]
    limit: int = 5
    sources: Sequence[str] | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)


class KnowledgeIndex(Protocol):
    """Where chunks are kept and found: Qdrant, embedded or on a server.

    A collection is made when it is first written to, with the model's id and dimension, and refuses another model.
    Chunks of a revision are invisible until it is published. All methods may be called again after a crash.

    Raises (all methods):
        IndexUnavailable: it cannot answer now. IndexMismatch: the collection holds another model's vectors.
    """

    async def write(self, collection: str, model: EmbeddingInfo, points: Sequence[IndexPoint]) -> None:
        """Write chunks, unpublished; durable when it returns."""
        ...

    async def publish(self, collection: str, scope: Scope, source: str, revision: str) -> None:
        """Make a revision of a source visible, and remove its other revisions."""
        ...

    async def search(self, collection: str, model: EmbeddingInfo, query: IndexQuery) -> list[Hit]:
        """The best published chunks within the query's scopes: dense and lexical, fused by reciprocal rank.

        A collection that does not exist holds nothing.
        """
        ...

    async def remove(
        self, collection: str, scope: Scope, *, source: str | None = None, revision: str | None = None
    ) -> int:
        """Remove a scope's chunks, of one source or revision where that is given; how many there were."""
        ...

    async def count(
        self, collection: str, scope: Scope, *, source: str | None = None, revision: str | None = None
    ) -> int:
        """How many published chunks a scope has; of one revision, those that are not published, too."""
        ...

    def scroll(self, collection: str, scope: Scope | None = None) -> AsyncIterator[list[IndexPoint]]:
        """All published chunks, page by page, with their vectors, for export and copies."""
        ...

    async def collections(self) -> dict[str, EmbeddingInfo]:
        """The collections of this index that are Sessionfleet's, with their models."""
        ...

    async def tidy(self) -> None:
        """Do what makes searches fast again after many writes; may take seconds. Called when nothing else is due."""
        ...

    async def close(self) -> None:
        """Write everything down and give everything back."""
        ...
