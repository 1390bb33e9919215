"""The transitions of the history's segments, and reading by position."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sessions.store.binding import transition
from sessions.store.transitions.shared import Moved


@dataclass(frozen=True, slots=True)
class EntriesFound:
    """Entries by position, as they are stored: the first of them in segments, after `skip` others.

    Attributes:
        positions: names a state of the history in which positions mean the same.
        version: of the history: it grows with each cut and deletion.
        packed: how many entries are in segments.
        length: how many there are.
        count: how many were asked for and are there.
    """

    positions: str
    version: int
    packed: int
    length: int
    count: int
    segments: list[bytes]
    skip: int
    entries: list[bytes]


@transition
def read_entries(*, start: int, stop: int) -> EntriesFound:
    """Read entries of the history by position, the last one included."""


@dataclass(frozen=True, slots=True)
class Packable:
    """The entries that are to become the next segment; `packed` is the position of the first of them."""

    positions: str
    packed: int
    entries: list[bytes]


@dataclass(frozen=True, slots=True)
class Nothing:
    """Not enough entries are older than the window."""


@transition
def find_packable(*, most: int, most_bytes: int) -> Packable | Nothing:
    """Read the entries that are to become the next segment."""


@dataclass(frozen=True, slots=True)
class WroteSegment:
    """The entries are in a segment now."""


@transition
def pack_history(*, positions: str, packed: int, count: int, segment: bytes) -> WroteSegment | Moved:
    """Put a segment in the place of the oldest entries that are not in segments yet."""


@dataclass(frozen=True, slots=True)
class Unpacked:
    """The entries of the newest segment are in the list of entries again."""


@transition
def unpack_history(*, positions: str, packed: int, entries: Sequence[bytes]) -> Unpacked | Moved:
    """Put the entries of the newest segment back into the list of entries."""
