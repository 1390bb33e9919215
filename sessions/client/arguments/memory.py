"""Requests about memory. Their arguments are checked here, once, for both back ends."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Self

from sessions.client.arguments.filters import metadata_filter
from sessions.client.arguments.values import LONE_SURROGATE, minimum_score
from sessions.errors import BadRequest
from sessions.protocol.memory_requests import ScopeName
from sessions.protocol.text import find_lone_surrogate, is_encodable
from sessions.store.memory_record import KINDS, MemoryKind

_QUERY_LIMIT: Final = 32 * 1024
METADATA_LIMIT: Final = 8 * 1024
_MOST_RESULTS: Final = 1000
_PRAISONAI: Final = {"short_term": "short", "long_term": "long"}


@dataclass(frozen=True, slots=True)
class NewMemory:
    """A text to remember.

    Attributes:
        scope: whose memory it is; None for the user's if the session has one, otherwise the session's.
    """

    text: str
    kind: MemoryKind
    metadata: dict[str, Any]
    scope: ScopeName | None

    @classmethod
    def of(
        cls, text: object, memory_type: object, metadata: object, more: Mapping[str, Any], scope: ScopeName | None
    ) -> Self:
        """The request of `add_memory`. The back end checks the length of the text, because its settings limit it.

        Raises:
            BadRequest: an argument cannot be used.
        """
        merged = {**json_dict("metadata", metadata), **more}
        return cls(_text("text", text), memory_kind(memory_type), json_dict("metadata", merged), scope_name(scope))


@dataclass(frozen=True, slots=True)
class MemoryUpdate:
    """A change of one memory. What is None stays as it is.

    Attributes:
        metadata: replaces the metadata as a whole.
        version: the version that the caller has seen; None for any.
    """

    memory_id: str
    text: str | None
    kind: MemoryKind | None
    metadata: dict[str, Any] | None
    version: int | None

    @classmethod
    def of(cls, memory_id: object, text: object, memory_type: object, metadata: object, version: object) -> Self:
        """The request of `update_memory`. The back end checks the length of the text.

        Raises:
            BadRequest: an argument cannot be used, or nothing is to be changed.
        """
        if text is None and memory_type is None and metadata is None:
            raise BadRequest("nothing to update: pass text=, metadata= or memory_type=")
        if version is not None and (isinstance(version, bool) or not isinstance(version, int) or version < 1):
            raise BadRequest(f"version {version!r}: use the `version` of a memory that you read, or None")
        return cls(
            memory_id=memory_id_text(memory_id),
            text=None if text is None else _text("text", text),
            kind=None if memory_type is None else memory_kind(memory_type),
            metadata=None if metadata is None else json_dict("metadata", metadata),
            version=version,
        )


@dataclass(frozen=True, slots=True)
class MemoryListing:
    """A page of one scope's memories, newest first.

    Attributes:
        limit: the largest number; kinds: only these; cursor: from the page before, None for the first page.
    """

    limit: int
    kinds: tuple[MemoryKind, ...]
    scope: ScopeName | None
    cursor: str | None

    @classmethod
    def of(cls, limit: object, memory_type: object, scope: ScopeName | None, cursor: str | None) -> Self:
        """The request of `list_memory`.

        Raises:
            BadRequest: an argument cannot be used.
        """
        return cls(results_limit(limit), memory_kinds(memory_type), scope_name(scope), cursor)


@dataclass(frozen=True, slots=True)
class MemoryQuery:
    """A search among memories.

    Attributes:
        filters: only memories whose metadata satisfy this filter; scope: None for all scopes of the session.
        min_score: only memories with this score or a better one (0 to 1); timeout: seconds to wait for a worker.
    """

    query: str
    kinds: tuple[MemoryKind, ...]
    limit: int
    filters: dict[str, Any]
    scope: ScopeName | None
    min_score: float | None
    timeout: float | None

    @classmethod
    def of(
        cls,
        query: object,
        memory_type: object,
        limit: object,
        filters: object,
        scope: ScopeName | None,
        min_score: object,
        timeout: float | None,
    ) -> Self:
        """The request of `search_memory`.

        Raises:
            BadRequest: an argument cannot be used.
        """
        return cls(
            query=memory_query(query),
            kinds=memory_kinds(memory_type),
            limit=results_limit(limit),
            filters=metadata_filter(json_dict("filters", filters)),
            scope=scope_name(scope),
            min_score=minimum_score(min_score),
            timeout=timeout,
        )


def scope_name(value: object) -> ScopeName | None:
    """Check a scope: `user`, `session`, or None for the default.

    Raises:
        BadRequest: it is none of these.
    """
    match value:
        case None | "session" | "user":
            return value
        case _:
            raise BadRequest(f"scope {value!r}: use 'user', 'session', or None for the user's if there is one")


def memory_text(value: object, limit: int) -> str:
    """Check the text of a memory.

    Args:
        limit: in bytes (SESSIONFLEET_MEMORY_TEXT_LIMIT_BYTES).

    Raises:
        BadRequest: it is not a non-empty string of at most this size.
    """
    text = _text("text", value)
    if (size := len(text.encode())) > limit:
        raise BadRequest(
            f"text has {size} bytes, the limit is {limit}: shorten it, add it as a document (add_knowledge), or raise "
            "SESSIONFLEET_MEMORY_TEXT_LIMIT_BYTES"
        )
    return text


def memory_query(value: object) -> str:
    """Check the query of a search.

    Raises:
        BadRequest: it is not a non-empty string of at most 32 KiB.
    """
    text = _text("query", value)
    if (size := len(text.encode())) > _QUERY_LIMIT:
        raise BadRequest(f"query has {size} bytes, the limit is {_QUERY_LIMIT}: shorten it")
    return text


def _text(name: str, value: object) -> str:
    if not isinstance(value, str) or not value.strip():
        raise BadRequest(f"{name} {repr(value)[:100]}: use a non-empty string")
    if (place := find_lone_surrogate(value)) is not None:
        raise BadRequest(f"{name}: {LONE_SURROGATE.format(place)}")
    return value


def memory_id_text(value: object) -> str:
    """Check the id of a memory.

    Raises:
        BadRequest: it cannot be one.
    """
    if not isinstance(value, str) or not value or not is_encodable(value):
        raise BadRequest(f"memory id {value!r}: use the id that add_memory() returned")
    return value


def memory_kind(value: object) -> MemoryKind:
    """`short` or `long`, also under PraisonAI's names `short_term` and `long_term`.

    Raises:
        BadRequest: it is neither.
    """
    known = _PRAISONAI.get(value, value) if isinstance(value, str) else value
    for kind in KINDS:
        if known == kind:
            return kind
    raise BadRequest(f"memory_type {value!r}: use 'short' or 'long'")


def memory_kinds(value: object) -> tuple[MemoryKind, ...]:
    """The kinds that `memory_type` selects: one, or all for None and `all`.

    Raises:
        BadRequest: there is no such kind.
    """
    if value is None or value == "all":
        return KINDS
    try:
        return (memory_kind(value),)
    except BadRequest:
        raise BadRequest(f"memory_type {value!r}: use 'short', 'long', or None for both") from None


def json_dict(name: str, value: object) -> dict[str, Any]:
    """Check a dict with string keys and JSON values; empty for None.

    Raises:
        BadRequest: it is not one, or it is larger than METADATA_LIMIT bytes.
    """
    if value is None:
        return {}
    if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
        raise BadRequest(f"{name} {value!r}: use a dict with string keys")
    try:
        raw = json.dumps(dict(value), allow_nan=False, ensure_ascii=False).encode()
    except (TypeError, ValueError) as error:
        raise BadRequest(f"{name} {value!r} is not JSON ({error}); use numbers, strings, lists, dicts") from None
    if len(raw) > METADATA_LIMIT:
        raise BadRequest(f"{name} has {len(raw)} bytes as JSON, the limit is {METADATA_LIMIT}")
    loaded: dict[str, Any] = json.loads(raw)
    return loaded


def results_limit(value: object) -> int:
    """Check the number of results.

    Raises:
        BadRequest: it is not an integer from 1 to 1,000.
    """
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= _MOST_RESULTS:
        raise BadRequest(f"limit {value!r}: use an integer from 1 to {_MOST_RESULTS}")
    return value
