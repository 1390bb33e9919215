"""Filters of metadata: which values a memory has, and which a filter accepts, as texts that are equal if they are."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any


def values_of(metadata: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """The values of each name; a list has each of its own."""
    for name, value in metadata.items():
        for one in _accepted(value):
            yield name, one


def wanted_by(filters: Mapping[str, Any]) -> Iterator[tuple[str, set[str]]]:
    """For each name of a filter the values that it accepts: any of a list."""
    for name, value in filters.items():
        yield name, _accepted(value)


def _accepted(value: Any) -> set[str]:
    return {json.dumps(_plain(one), sort_keys=True) for one in (value if isinstance(value, list) else [value])}


def _plain(value: Any) -> Any:
    """1.0 is 1, as in JSON; `True` is not."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, list):
        return [_plain(one) for one in value]
    if isinstance(value, dict):
        return {name: _plain(one) for name, one in value.items()}
    return value
