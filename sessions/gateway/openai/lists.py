"""Lists of this protocol, in pages."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from sessions.errors import BadRequest


def paged(
    items: Sequence[dict[str, Any]], limit: int, order: Literal["asc", "desc"], after: str | None
) -> dict[str, Any]:
    """One page of items, which come oldest first.

    Raises:
        BadRequest: no item has the id `after`.
    """
    ordered = list(items) if order == "asc" else list(reversed(items))
    if after is not None:
        place = next((place for place, item in enumerate(ordered) if item["id"] == after), None)
        if place is None:
            raise BadRequest(f"there is no item {after[:80]!r} here", param="after")
        ordered = ordered[place + 1 :]
    return page(ordered[:limit], has_more=len(ordered) > limit)


def page(items: Sequence[dict[str, Any]], *, has_more: bool) -> dict[str, Any]:
    """A page that has these items."""
    return {
        "object": "list",
        "data": list(items),
        "first_id": items[0]["id"] if items else None,
        "last_id": items[-1]["id"] if items else None,
        "has_more": has_more,
    }
