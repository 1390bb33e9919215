"""Numbers that JSON cannot represent: NaN and the infinities."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from typing import Any

from pydantic import BaseModel


def non_finite(value: Any, at: str = "") -> str | None:
    """The first number in a value that JSON cannot represent, as `nan at mean[2]`; None if there is none."""
    if isinstance(value, float):
        return None if math.isfinite(value) else f"{value} at {at}" if at else str(value)
    return next((found for item, place in _inner(value, at) if (found := non_finite(item, place))), None)


def _inner(value: Any, at: str) -> Iterator[tuple[Any, str]]:
    if isinstance(value, BaseModel):
        value = value.__dict__
    elif is_dataclass(value) and not isinstance(value, type):
        value = {field.name: getattr(value, field.name) for field in fields(value)}
    if isinstance(value, Mapping):
        yield from ((item, f"{at}.{key}" if at else str(key)) for key, item in value.items())
    elif isinstance(value, list | tuple | set | frozenset):
        yield from ((item, f"{at}[{index}]") for index, item in enumerate(value))


def non_finite_as_strings(value: Any) -> Any:
    """A JSON value with such numbers as strings (`NaN`, `Infinity`, `-Infinity`), which pydantic reads as numbers."""
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    if isinstance(value, dict):
        return {key: non_finite_as_strings(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [non_finite_as_strings(item) for item in value]
    return value
