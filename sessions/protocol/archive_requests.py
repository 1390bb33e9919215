"""Requests about the archive, as they go over the wire."""

from __future__ import annotations

from typing import ClassVar

from sessions.protocol.operation import OperationRequest


class ArchiveTurn(OperationRequest):
    """Write a committed turn to the archive.

    Attributes:
        session_id: whose turn it is.
        packed: the turn (`sessions.archive.records.ArchivedTurn`), compressed. The session's own records may have
            expired when the archive can be reached again.
    """

    kind: ClassVar[str] = "archive_turn"

    session_id: str
    packed: str


class EraseArchived(OperationRequest):
    """Erase a session's turns, or one of them, from the archive."""

    kind: ClassVar[str] = "erase_archived"

    session_id: str
    turn: str | None = None
