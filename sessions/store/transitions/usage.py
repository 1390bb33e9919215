"""The transitions of counted usage."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sessions.store.binding import transition


@dataclass(frozen=True, slots=True)
class Sums:
    """Counters and their amounts."""

    found: tuple[tuple[str, int], ...]


@transition
def read_usage(*, counters: str, user: str, by_model: bool, by_user: bool, partitions: Sequence[str]) -> Sums:
    """Add up the counters of a day's usage from several partitions, on one server."""
