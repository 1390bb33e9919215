"""What is asked of the retrieval role about knowledge, as it crosses the wire."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import Field

from sessions.protocol.memory_requests import SearchMemory
from sessions.protocol.operation import OperationRequest


class AddKnowledge(OperationRequest):
    """Take in one document.

    Attributes:
        scope: whose it will be: `session:<id>`, `user:<id>` or `base:<name>`.
        collection: of the index; None for the one of the worker's embedding model.
        source: what the document is called.
        origin: where its content is: sent beside the request, in `text`, or at `url`.
        digest: of what is sent beside the request, where it has an idempotency key: a repeat must have the same.
        metadata: kept with each chunk, for filters.
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
    metadata: dict[str, Any] = Field(default_factory=dict)


class SearchKnowledge(OperationRequest):
    """Find the chunks that answer a query.

    Attributes:
        scopes: where to look; nothing else is seen.
        sources: only these documents; filters: only chunks whose metadata has these values (a list: any of them).
    """

    kind: ClassVar[str] = "search_knowledge"

    query: str
    scopes: tuple[str, ...]
    collection: str | None = None
    limit: int = 5
    sources: tuple[str, ...] | None = None
    filters: dict[str, Any] = Field(default_factory=dict)


class Recall(OperationRequest):
    """What a turn is to be reminded of: memories and passages, found in one go.

    The result is a dict with `memories` and `passages`, as far as they were asked for.
    """

    kind: ClassVar[str] = "recall"

    memory: SearchMemory | None = None
    knowledge: SearchKnowledge | None = None


class RemoveKnowledge(OperationRequest):
    """Remove one document of a scope, or (None) all it has, in every collection.

    Attributes:
        outlived: only if they are those of an earlier session, which expired.
    """

    kind: ClassVar[str] = "remove_knowledge"

    scope: str
    source: str | None = None
    outlived: bool = False


class CopyKnowledge(OperationRequest):
    """Give a scope a copy of another one's documents: what a fork does."""

    kind: ClassVar[str] = "copy_knowledge"

    scope: str
    origin: str
