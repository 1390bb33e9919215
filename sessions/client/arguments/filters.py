"""Metadata filters as arguments."""

from __future__ import annotations

from typing import Any

from sessions.protocol.filters import parse_filter


def metadata_filter(filters: dict[str, Any]) -> dict[str, Any]:
    """Check a filter, and return it as it was written; the worker parses it again.

    Raises:
        BadRequest: it has an operator that does not exist, or an operand that the operator does not take.
    """
    parse_filter(filters)
    return filters
