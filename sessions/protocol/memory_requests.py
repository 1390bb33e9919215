"""Requests to the retrieval workers about memory: each is its own model, which goes over the wire as JSON."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from sessions.protocol.operation import OperationRequest

ScopeName = Literal["session", "user"]


class SearchMemory(OperationRequest):
    """Find memories by meaning and by words; the result is a list of dicts, the best first.

    Attributes:
        query: the text to search for.
        limit: the largest number of results.
        types: `short`, `long`, or both.
        filters: only memories whose metadata satisfy this filter; see `filters`.
        scopes: where to search: in the session, the user's memories, or both.
        user: whose memories those are; recorded here, so that a repeat searches where the first one did.
        min_score: only memories with this score or a better one (0 to 1).
    """

    kind: ClassVar[str] = "search_memory"
    direct: ClassVar[bool] = True

    query: str
    limit: Annotated[int, Field(ge=1)] = 5
    types: tuple[Literal["short", "long"], ...] = ("short", "long")
    filters: dict[str, Any] = Field(default_factory=dict)
    scopes: tuple[ScopeName, ...] = ("user", "session")
    user: str | None = None
    min_score: float | None = None


class EmbedMemory(OperationRequest):
    """Compute the vectors that the memories of the lane's session or user lack."""

    kind: ClassVar[str] = "embed_memory"


class KeepFacts(OperationRequest):
    """Remember facts that are not known yet.

    Attributes:
        turn: the turn they were extracted from; user: whose memory they are for, None for the session's.
    """

    kind: ClassVar[str] = "keep_facts"

    facts: tuple[str, ...]
    turn: str
    user: str | None = None
