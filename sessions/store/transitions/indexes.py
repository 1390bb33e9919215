"""The transitions of the indexes by which sessions are listed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sessions.store.binding import transition


@dataclass(frozen=True, slots=True)
class Entries:
    """Entries (score, name of the session, values of the fields of its record), the highest score first."""

    found: tuple[tuple[int, str, list[bytes | None]], ...]


@transition
def read_index(
    *,
    tenant: str,
    index: str,
    score: str,
    name: str,
    least: str,
    most: int,
    partitions: Sequence[str],
    fields: Sequence[str],
) -> Entries:
    """Read the next entries of an index from several partitions, on one server, as if they were one."""


@dataclass(frozen=True, slots=True)
class Indexed:
    """The session is in the indexes."""


@dataclass(frozen=True, slots=True)
class Gone:
    """There is no such session any more."""


@transition
def index_session(*, title: bytes, hidden: bool) -> Indexed | Gone:
    """Put a session that was created before there were indexes into them."""
