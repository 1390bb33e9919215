"""Requests about knowledge. Their arguments are checked here, once, for both back ends."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Self

from sessions.client.arguments.filters import metadata_filter
from sessions.client.arguments.values import (
    charset_label,
    json_object,
    minimum_score,
    seconds,
    short_string,
    webhook_url,
)
from sessions.errors import BadRequest
from sessions.protocol.text import is_encodable

_MOST_FOUND: Final = 100


@dataclass(frozen=True, slots=True)
class NewDocument:
    """A document to add.

    Attributes:
        source: a path, text, bytes or a URL, as the caller passed it; the back end reads it.
        name: of the document; None for the file's name.
        scope: "session", "user" or the name of a base; None for the session's default.
        charset: of a text file; None for the one that it declares, or that is detected.
        timeout: seconds to the operation's deadline; None for the settings' limit.
        idempotency_key: a repeat with the same key is the same operation.
        webhook: the URL to notify when it has ended; '' for none.
    """

    source: object
    name: str | None
    metadata: dict[str, Any]
    scope: str | None
    content_type: str | None
    charset: str | None
    timeout: float | None
    idempotency_key: str | None
    webhook: str

    @classmethod
    def of(
        cls,
        source: object,
        *,
        name: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        scope: str | None = None,
        content_type: str | None = None,
        charset: str | None = None,
        timeout: float | None = None,
        idempotency_key: str | None = None,
        webhook: str | None = None,
    ) -> Self:
        """The request of `submit_knowledge`.

        Raises:
            BadRequest: an argument cannot be used.
        """
        return cls(
            source=source,
            name=name,
            metadata=json_object("metadata", metadata),
            scope=scope,
            content_type=content_type,
            charset=None if charset is None else charset_label(charset),
            timeout=None if timeout is None else seconds("timeout", timeout),
            idempotency_key=None if idempotency_key is None else short_string("idempotency_key", idempotency_key),
            webhook="" if webhook is None else webhook_url(webhook),
        )


@dataclass(frozen=True, slots=True)
class KnowledgeQuery:
    """A search among passages.

    Attributes:
        filters: only passages whose metadata satisfy this filter; sources: only these documents, None for all.
        scope: "session", "user" or one base; None for all scopes of the session.
        min_score: only passages with this score or a better one (0 to 1); None for the usual floor.
        timeout: seconds to wait for a worker.
    """

    query: str
    limit: int
    filters: dict[str, Any]
    sources: tuple[str, ...] | None
    scope: str | None
    min_score: float | None
    timeout: float | None

    @classmethod
    def of(
        cls,
        query: object,
        limit: object,
        filters: object,
        sources: Sequence[str] | None,
        scope: str | None,
        min_score: object,
        timeout: float | None,
    ) -> Self:
        """The request of `search_knowledge`.

        Raises:
            BadRequest: an argument cannot be used.
        """
        if not isinstance(query, str) or not query.strip():
            raise BadRequest(f"query {query!r}: use a non-empty string")
        if not isinstance(limit, int) or not 1 <= limit <= _MOST_FOUND:
            raise BadRequest(f"limit {limit!r}: use a number from 1 to {_MOST_FOUND}")
        names = None if sources is None else _names(sources)
        wanted = metadata_filter(json_object("filters", filters))
        return cls(query, limit, wanted, names, scope, minimum_score(min_score), timeout)


def _names(sources: Sequence[str]) -> tuple[str, ...]:
    if isinstance(sources, str) or not all(isinstance(name, str) and is_encodable(name) for name in sources):
        raise BadRequest(f"sources {sources!r}: use a list of names of documents")
    return tuple(sources)
