"""What a metadata filter means, written down as plainly as possible: every engine must find what this finds."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

_ORDERS: Mapping[str, Callable[[Any, Any], bool]] = {
    "$gt": operator.gt,
    "$gte": operator.ge,
    "$lt": operator.lt,
    "$lte": operator.le,
}


def matches(metadata: Mapping[str, Any], filters: Mapping[str, Any]) -> bool:
    """Whether metadata satisfy a valid filter."""
    return all(_entry(metadata, name, wanted) for name, wanted in filters.items())


def _entry(metadata: Mapping[str, Any], name: str, wanted: Any) -> bool:
    if name == "$and":
        return all(matches(metadata, part) for part in wanted)
    if name == "$or":
        return any(matches(metadata, part) for part in wanted)
    if name == "$not":
        return not matches(metadata, wanted)
    if isinstance(wanted, dict):
        return all(_operator(metadata, name, each, operand) for each, operand in wanted.items())
    return _any_equals(metadata, name, wanted if isinstance(wanted, list) else [wanted])


def _operator(metadata: Mapping[str, Any], name: str, sign: str, operand: Any) -> bool:
    match sign:
        case "$eq" | "$ne":
            return _any_equals(metadata, name, [operand]) == (sign == "$eq")
        case "$in" | "$nin":
            return _any_equals(metadata, name, operand) == (sign == "$in")
        case "$exists":
            return (name in metadata) is operand
        case "$not":
            return not _entry(metadata, name, operand)
        case _:
            return any(_in_order(value, sign, operand) for value in _values(metadata, name))


def _values(metadata: Mapping[str, Any], name: str) -> list[Any]:
    if name not in metadata:
        return []
    value = metadata[name]
    return value if isinstance(value, list) else [value]


def _any_equals(metadata: Mapping[str, Any], name: str, wanted: list[Any]) -> bool:
    return any(_equal(value, other) for value in _values(metadata, name) for other in wanted)


def _equal(one: Any, other: Any) -> bool:
    if isinstance(one, bool) or isinstance(other, bool):  # for Python, True == 1
        return one is other
    return bool(one == other)


def _in_order(value: Any, sign: str, operand: Any) -> bool:
    one, other = _comparable(value), _comparable(operand)
    return type(one) is type(other) and one is not None and _ORDERS[sign](one, other)


def _comparable(value: Any) -> float | datetime | None:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    if isinstance(value, str) and re.match(r"\d{4}-\d\d-\d\d", value):
        try:
            read = datetime.fromisoformat(value)
        except ValueError:
            return None
        return read if read.tzinfo else read.replace(tzinfo=UTC)
    return None
