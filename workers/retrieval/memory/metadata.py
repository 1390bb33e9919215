"""Metadata filters. Values are converted to JSON text, so that equal values have equal texts."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any


def values_of(metadata: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """The values of each metadata name; each element of a list is one value."""
    for name, value in metadata.items():
        for one in _accepted(value):
            yield name, one


def wanted_by(filters: Mapping[str, Any]) -> Iterator[tuple[str, set[str]]]:
    """The accepted values for each name of a filter; of a list, any element is accepted."""
    for name, value in filters.items():
        yield name, _accepted(value)


def _accepted(value: Any) -> set[str]:
    return {json.dumps(_plain(one), sort_keys=True) for one in (value if isinstance(value, list) else [value])}


def _plain(value: Any) -> Any:
    """Make 1.0 equal to 1, since both are the same JSON number; `True` stays different."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, list):
        return [_plain(one) for one in value]
    if isinstance(value, dict):
        return {name: _plain(one) for name, one in value.items()}
    return value
