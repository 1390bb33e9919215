"""What the retrieval workers are asked for: each request is a model of its own, which crosses the wire as JSON."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from sessions.protocol.operation import OperationRequest

ScopeName = Literal["session", "user"]


class SearchMemory(OperationRequest):
    """Find memories by meaning and by words; the answer is a list of dicts, the best first.

    Attributes:
        query: what is looked for.
        limit: how many at most.
        types: `short`, `long`, or both.
        filters: only memories whose metadata has these values; a list means any of them, and a list in the metadata
            has each of its values.
        scopes: where to look: in the session, the user's memories, or both.
        user: whose memories those are; it is written down here, so that a repetition looks where the first one did.
        min_score: only memories with this score or a better one (0 to 1).
    """

    kind: ClassVar[str] = "search_memory"

    query: str
    limit: Annotated[int, Field(ge=1)] = 5
    types: tuple[Literal["short", "long"], ...] = ("short", "long")
    filters: dict[str, Any] = Field(default_factory=dict)
    scopes: tuple[ScopeName, ...] = ("user", "session")
    user: str | None = None
    min_score: float | None = None


class EmbedMemory(OperationRequest):
    """Make the vectors that the memories of the lane's session or user lack."""

    kind: ClassVar[str] = "embed_memory"


class KeepFacts(OperationRequest):
    """Remember facts, as far as they are not known yet.

    Attributes:
        turn: what they were taken from; user: whose memory they go to, None for the session's.
    """

    kind: ClassVar[str] = "keep_facts"

    facts: tuple[str, ...]
    turn: str
    user: str | None = None
