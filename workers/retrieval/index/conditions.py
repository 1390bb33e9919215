"""Conditions on stored chunks, which both engines translate: keywords, times, and combinations of conditions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

TIME: Final = "at"


@dataclass(frozen=True, slots=True)
class Condition:
    """A stored keyword (of a list: one of them) must be one of these values. There is at least one."""

    field: str
    values: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Between:
    """The time of a chunk must be in this range, in milliseconds since the epoch; `before` is excluded."""

    since: int | None
    before: int | None
    field: str = TIME


@dataclass(frozen=True, slots=True)
class Together:
    """All of the parts must hold; true without parts."""

    parts: tuple[AnyCondition, ...]


@dataclass(frozen=True, slots=True)
class Either:
    """One of the parts must hold. There is at least one, since an engine takes none for no condition."""

    parts: tuple[AnyCondition, ...]


@dataclass(frozen=True, slots=True)
class Negated:
    """The part must not hold."""

    part: AnyCondition


AnyCondition = Condition | Between | Together | Either | Negated
Conditions = Sequence[AnyCondition]
"""All of them must hold."""

NOTHING: Final = Condition("state", ("",))
"""No chunk has this state."""


def clean(text: str) -> str:
    """Escape lone surrogates (from file names, or half an emoji), which no engine accepts."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")
