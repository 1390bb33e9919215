"""Chunks that an earlier version wrote: their keywords tell equal values only, neither order nor presence.

They get the others from their payload when a filter first needs them, scope by scope. Both engines do so in pieces,
and a crash between two pieces costs nothing: the next search goes on.
"""

from __future__ import annotations

import json
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Any, Final

from sessions.protocol.filters import needs_order_or_presence, parse_filter
from workers.retrieval.index.conditions import Condition, Conditions, clean
from workers.retrieval.index.metadata_tags import TAGS, incomplete, tags_of
from workers.retrieval.ports import IndexQuery, Scope

PIECE: Final = 256
_MOST_KNOWN: Final = 10_000


class CompleteScopes:
    """Remembers which scopes have no such chunks, so that not every search looks for them."""

    def __init__(self, *, known_for: float) -> None:
        """Begin with nothing known.

        Args:
            known_for: seconds after which a scope is looked at again: workers of an earlier version may write to it.
        """
        self._known_for = known_for
        self._until: dict[tuple[str, Scope], float] = {}

    async def ensure(
        self, collection: str, query: IndexQuery, complete_piece: Callable[[Sequence[Scope]], Awaitable[bool]]
    ) -> None:
        """Have all chunks that a query may find the keywords that its filter needs.

        Args:
            collection: the collection.
            query: the query.
            complete_piece: completes some such chunks of the scopes; False if there were none.
        """
        if unchecked := self._unchecked(collection, query):
            while await complete_piece(unchecked):
                pass
            self._note(collection, unchecked)

    def _unchecked(self, collection: str, query: IndexQuery) -> list[Scope]:
        """The scopes in which such chunks must be looked for before the query can be answered."""
        if not (query.metadata and needs_order_or_presence(parse_filter(query.metadata))):
            return []
        now = time.monotonic()
        return [scope for scope in query.scopes if self._until.get((collection, scope), now) <= now]

    def _note(self, collection: str, scopes: Sequence[Scope]) -> None:
        """None was found in these scopes."""
        if len(self._until) + len(scopes) > _MOST_KNOWN:
            self._until.clear()
        self._until |= dict.fromkeys(((collection, scope) for scope in scopes), time.monotonic() + self._known_for)


def older_conditions(scopes: Sequence[Scope]) -> Conditions:
    """Select such chunks in scopes of one tenant."""
    names = Condition("scope", tuple(clean(scope.name) for scope in scopes))
    return [Condition("tenant", (clean(scopes[0].tenant),)), names, *incomplete()]


def complete_tags(records: Sequence[Any]) -> Iterator[tuple[list[Any], dict[str, list[str]]]]:
    """The ids of such chunks, and the field to set for them: once for all chunks with the same metadata."""
    ids: dict[str, list[Any]] = {}
    for record in records:
        metadata = json.loads((record.payload or {})["payload"]).get("metadata") or {}
        ids.setdefault(json.dumps(metadata), []).append(record.id)
    for metadata, of_these in ids.items():
        yield of_these, {TAGS: tags_of(json.loads(metadata))}
