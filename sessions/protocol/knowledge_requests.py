"""Requests to the retrieval role about knowledge, as they go over the wire."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import Field

from sessions.protocol.memory_requests import SearchMemory
from sessions.protocol.operation import OperationRequest


class AddKnowledge(OperationRequest):
    """Index one document.

    Attributes:
        scope: whose it is: `session:<id>`, `user:<id>` or `base:<name>`.
        collection: of the index; None for that of the worker's embedding model.
        source: the document's name.
        origin: where its content is: uploaded with the request, in `text`, or at `url`.
        digest: of the uploaded bytes, if there is an idempotency key: a repeat must upload the same.
        charset: of a text, if the caller named one.
        metadata: stored with each chunk, for filters.
    """

    kind: ClassVar[str] = "add_knowledge"

    scope: str
    collection: str | None = None
    source: str
    origin: Literal["upload", "text", "url"]
    text: str = ""
    url: str = ""
    digest: str = ""
    content_type: str | None = None
    # Left out if it is not given: a repeat must have the digest that it had before the upgrade that added it.
    charset: str | None = Field(None, exclude_if=lambda given: given is None)
    metadata: dict[str, Any] = Field(default_factory=dict)


class SearchKnowledge(OperationRequest):
    """Find the chunks that answer a query.

    Attributes:
        scopes: where to search; nothing outside of them is found.
        sources: only these documents; filters: only chunks whose metadata satisfy this filter; see `filters`.
        min_score: only chunks with this score or a better one (0 to 1); None for the worker's floor.
    """

    kind: ClassVar[str] = "search_knowledge"
    direct: ClassVar[bool] = True

    query: str
    scopes: tuple[str, ...]
    collection: str | None = None
    limit: int = 5
    sources: tuple[str, ...] | None = None
    filters: dict[str, Any] = Field(default_factory=dict)
    min_score: float | None = None


class Recall(OperationRequest):
    """Find the memories and passages that a turn recalls, in one operation.

    The result is a dict with `memories` and `passages`, as far as they were asked for.
    """

    kind: ClassVar[str] = "recall"
    direct: ClassVar[bool] = True

    memory: SearchMemory | None = None
    knowledge: SearchKnowledge | None = None


class RemoveKnowledge(OperationRequest):
    """Remove one document of a scope (None: all of them) from every collection.

    Attributes:
        outlived: only if they belong to an expired session of the same id.
    """

    kind: ClassVar[str] = "remove_knowledge"

    scope: str
    source: str | None = None
    outlived: bool = False


class CopyKnowledge(OperationRequest):
    """Copy the documents of one scope to another, for a fork."""

    kind: ClassVar[str] = "copy_knowledge"

    scope: str
    origin: str


class ReadKnowledge(OperationRequest):
    """Read the passages of one document in their order, for an export.

    The result is a dict with `passages`, and with `next`: the number at which to continue, None at the end.
    """

    kind: ClassVar[str] = "read_knowledge"

    scope: str
    collection: str
    source: str
    first: int = 0
