"""What the archive contains: turns, and for each session what it was like when its last turn was archived."""

from __future__ import annotations

import base64
import hashlib
import json
import zlib
from collections.abc import Iterator
from typing import Any, Protocol, Self

from pydantic import BaseModel, ConfigDict, Field


class ArchivedTurn(BaseModel):
    """A committed turn.

    Attributes:
        turn: the part of its id.
        user_id: the session's owner; sender: who sent the message, if somebody else.
        at_ms: when it began, by the store's clock, in milliseconds since the epoch.
        count: its messages, as a person would count them.
        status: how it ended.
        replaces_at: the position in the history from which on it replaced the turns; None for a turn that was added.
        messages: in pydantic-ai's format.
    """

    model_config = ConfigDict(frozen=True, hide_input_in_errors=True)

    tenant: str
    session_id: str
    turn: str
    user_id: str | None = None
    sender: str | None = None
    agent: str
    at_ms: int
    count: int
    status: str = "succeeded"
    replaces_at: int | None = None
    usage: dict[str, Any] = Field(default_factory=dict)
    messages: list[Any]

    def packed(self) -> str:
        """The turn as text, compressed: in an outage of the archive, many of them wait in the store."""
        return base64.b64encode(zlib.compress(json.dumps(self.model_dump()).encode())).decode()

    @classmethod
    def unpacked(cls, packed: str) -> Self:
        """The turn from `packed`."""
        return cls.model_validate(json.loads(zlib.decompress(base64.b64decode(packed))))


class SessionSnapshot(BaseModel):
    """A session when its last turn was archived, without its turns."""

    model_config = ConfigDict(frozen=True, hide_input_in_errors=True)

    tenant: str
    session_id: str
    user_id: str | None = None
    title: str = ""
    metadata: dict[str, Any] = Field(default_factory=dict)
    queue: str = "turns"
    ttl: float | None = None
    created_ms: int = 0
    updated_ms: int = 0
    state: dict[str, Any] = Field(default_factory=dict)
    agents: dict[str, Any] = Field(default_factory=dict)


class Archive(Protocol):
    """A place for archived turns. Methods block; one thread at a time calls them.

    Raises (all methods):
        ArchiveUnavailable: it cannot be reached or used now. Nothing was changed.
    """

    def write(self, turn: ArchivedTurn, session: SessionSnapshot | None) -> None:
        """Write a turn, unless it is there or was erased, and the newest that is known of its session."""
        ...

    def erase(self, tenant: str, session_id: str, turn: str | None, before_ms: int) -> None:
        """Erase one turn, or all turns of a session that began before a time, so that they cannot come back."""
        ...

    def sessions(self) -> Iterator[SessionSnapshot]:
        """All sessions."""
        ...

    def turns(self, tenant: str, session_id: str) -> Iterator[ArchivedTurn]:
        """The turns of a session, in their order."""
        ...

    def close(self) -> None:
        """Close it."""
        ...


def digest_of(tenant: str, session_id: str) -> str:
    """What is kept of an erased session: nobody can tell from it which one it was."""
    return hashlib.sha256(f"{tenant}\0{session_id}".encode()).hexdigest()
