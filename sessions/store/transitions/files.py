"""The transitions of a session's files."""

from __future__ import annotations

from dataclasses import dataclass

from sessions.store.binding import transition
from sessions.store.transitions.shared import Missing, OtherOwner


@dataclass(frozen=True, slots=True)
class FileListed:
    """The file is listed. If it is not `complete`, its pieces must be sent."""

    complete: bool


@dataclass(frozen=True, slots=True)
class FilesFull:
    """Nothing was written: the session has so many files, of so many bytes, that this one would exceed the limit."""

    count: int
    bytes: int


@transition
def add_file(
    *,
    file: str,
    user: str | None,
    turn: str | None,
    session_ttl_ms: int | None,
    size: int,
    pieces: int,
    details: bytes,
    unused_ms: int,
    most: int,
    most_bytes: int,
) -> FileListed | FilesFull | OtherOwner | Missing:
    """List a file whose pieces are sent next."""


@dataclass(frozen=True, slots=True)
class PieceAdded:
    """The piece is stored."""


@transition
def add_file_piece(*, file: str, number: int, piece: bytes) -> PieceAdded | Missing:
    """Store one piece of a listed file."""


@dataclass(frozen=True, slots=True)
class FileRemoved:
    """The file is not there any more; `found`: it was there."""

    found: bool


@transition
def remove_file(*, file: str, user: str | None) -> FileRemoved | OtherOwner:
    """Remove a file with its bytes."""
