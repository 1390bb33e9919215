"""Requests about sessions as a whole: which to list, and what to change in one. Checked here, for both back ends."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Literal, Self

from sessions.client.arguments.memory import results_limit
from sessions.client.arguments.values import LONE_SURROGATE, boolean, compact_named, json_object
from sessions.errors import BadRequest
from sessions.protocol.compaction_requests import Compact
from sessions.protocol.text import LONGEST_TITLE, find_lone_surrogate
from sessions.store.keys import IndexKind
from sessions.store.session_index import Position
from sessions.store.session_info import METADATA_LIMIT, MetadataValue, SessionInfo

SessionOrder = Literal["last_used", "created"]
KINDS: Final[Mapping[SessionOrder, IndexKind]] = {"last_used": "used", "created": "made"}
_LONGEST_NAME: Final = 64


@dataclass(frozen=True, slots=True)
class SessionQuery:
    """A page of the sessions of a user, or of a tenant, the newest first.

    Attributes:
        limit: the largest number; cursor: from the page before, None for the first page.
        metadata: only sessions whose metadata have these values; a list means any of them.
        shared: those of other users that are shared with the user, instead of the user's own.
        active_since: only those that were used at this time or later; unused_since: only those used before this time.
    """

    limit: int
    cursor: str | None
    order: SessionOrder
    metadata: Mapping[str, Any]
    active_since: datetime | None
    unused_since: datetime | None
    shared: bool = False

    @classmethod
    def of(
        cls,
        limit: object,
        cursor: str | None,
        order: object,
        metadata: object,
        active_since: object,
        unused_since: object,
        shared: object = False,
    ) -> Self:
        """The request of `Session.list`.

        Raises:
            BadRequest: an argument cannot be used.
        """
        if order != "last_used" and order != "created":  # noqa: PLR1714 - this form tells the type checker
            raise BadRequest(f'order {order!r}: use "last_used" or "created"')
        if shared and order != "last_used":
            raise BadRequest(f'order {order!r}: shared sessions are listed by "last_used" only')
        query = cls(
            results_limit(limit),
            cursor,
            order,
            json_object("metadata", metadata),
            optional_time("active_since", active_since),
            optional_time("unused_since", unused_since),
            boolean("shared", shared),
        )
        query.after  # noqa: B018 - checks the cursor
        return query

    @property
    def kind(self) -> IndexKind:
        """The index that has the sessions in this order."""
        return "shared" if self.shared else KINDS[self.order]

    @property
    def after(self) -> Position | None:
        """Where to continue.

        Raises:
            BadRequest: the cursor is not one of this order.
        """
        if self.cursor is None:
            if self.order == "last_used" and self.unused_since is not None:
                return Position(math.ceil(self.unused_since.timestamp() * 1000), "")
            return None
        kind, _, rest = self.cursor.partition(":") if isinstance(self.cursor, str) else ("", "", "")
        if kind != self.kind or (position := Position.parse(rest)) is None:
            raise BadRequest(
                f"cursor {self.cursor!r}: use the one of the page before, with the same order", cursor=self.cursor
            )
        return position

    def cursor_at(self, position: Position) -> str:
        """The cursor that continues after a position."""
        return f"{self.kind}:{position.text}"

    @property
    def least(self) -> int | None:
        """The lowest position in the index that may match."""
        if self.order == "last_used" and self.active_since is not None:
            return math.floor(self.active_since.timestamp() * 1000)
        return None

    def matches(self, info: SessionInfo) -> bool:
        """Whether the list shows a session."""
        return (
            (self.active_since is None or info.last_used_at >= self.active_since)
            and (self.unused_since is None or info.last_used_at < self.unused_since)
            and all(_has(info.metadata.get(name), wanted) for name, wanted in self.metadata.items())
        )

    @property
    def filters(self) -> bool:
        """Whether sessions that are read may not match."""
        return bool(self.metadata) or (self.order == "created" and (self.active_since or self.unused_since) is not None)


def _has(value: MetadataValue | None, wanted: Any) -> bool:
    if isinstance(wanted, list):
        return any(_has(value, each) for each in wanted)
    return value is not None and value == wanted and isinstance(value, bool) == isinstance(wanted, bool)


@dataclass(frozen=True, slots=True)
class SessionChange:
    """What to change in a session.

    Attributes:
        title: None leaves it as it is; `auto` has a model write one.
        metadata: merged into those that there are; None as a value removes its name.
        searchable: whether its transcript is searchable; None leaves it as it is.
        compact: whether it is compacted; None leaves it as it is.
    """

    title: str | None
    metadata: Mapping[str, MetadataValue | None]
    searchable: bool | None = None
    compact: Compact | None = None

    @classmethod
    def of(cls, title: object, metadata: object, searchable: object = None, compact: object = None) -> Self:
        """The request of `session.update`.

        Raises:
            BadRequest: an argument cannot be used.
        """
        return cls(
            None if title is None else title_text(title),
            metadata_changes(metadata),
            None if searchable is None else boolean("searchable", searchable),
            None if compact is None else compact_named(compact),
        )


def title_text(value: object) -> str:
    """Check a title: one line of text.

    Raises:
        BadRequest: it is not a string of 1 to 200 characters.
    """
    text = " ".join(value.split()) if isinstance(value, str) else ""
    if not 0 < len(text) <= LONGEST_TITLE:
        raise BadRequest(f"title {repr(value)[:300]}: use a text of 1 to {LONGEST_TITLE} characters")
    if (place := find_lone_surrogate(text)) is not None:
        raise BadRequest(f"title: {LONE_SURROGATE.format(place)}")
    return text


def metadata_changes(value: object) -> dict[str, MetadataValue | None]:
    """Check metadata: names with strings, numbers and booleans, and None for a name to remove.

    Raises:
        BadRequest: they are not that, or too large.
    """
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise BadRequest(f"metadata {repr(value)[:300]}: use a dict of strings, numbers and booleans")
    for name, each in value.items():
        if not isinstance(name, str) or not 0 < len(name) <= _LONGEST_NAME or find_lone_surrogate(name) is not None:
            raise BadRequest(f"metadata: {name!r} is not a name of 1 to {_LONGEST_NAME} characters")
        if each is not None and not isinstance(each, str | int | float | bool):
            raise BadRequest(f"metadata: {name!r} is a {type(each).__name__}; use a string, a number or a boolean")
    plain = json_object("metadata", value)
    if (size := len(repr(plain).encode())) > 2 * METADATA_LIMIT:
        raise BadRequest(f"metadata have about {size} bytes, the limit is {METADATA_LIMIT}")
    return plain


def optional_time(name: str, value: object) -> datetime | None:
    """Check a moment, or None; see `aware_time`."""
    return None if value is None else aware_time(name, value)


def aware_time(name: str, value: object) -> datetime:
    """Check a moment.

    Raises:
        BadRequest: it is not a datetime with a time zone.
    """
    if not isinstance(value, datetime) or value.tzinfo is None:
        raise BadRequest(f"{name} {value!r}: use a datetime with a time zone, such as datetime.now(UTC)")
    return value
