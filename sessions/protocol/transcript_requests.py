"""Requests to the retrieval role about the transcripts of sessions, as they go over the wire."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from sessions.protocol.operation import OperationRequest

SpokenRole = Literal["user", "assistant"]


class IndexTranscript(OperationRequest):
    """Bring the index of the lane's session up to date with its history, or empty it if it is not to be searched."""

    kind: ClassVar[str] = "index_transcript"


class ForgetTranscript(OperationRequest):
    """Remove the lane's session from the index.

    Attributes:
        outlived: only if what the index has is of an expired session of the same id.
    """

    kind: ClassVar[str] = "forget_transcript"

    outlived: bool = False


class SearchTranscript(OperationRequest):
    """Find messages; the result is a list of dicts, the best first.

    Attributes:
        user: search all sessions of this user; None for the session whose lane this is.
        since_ms, until_ms: only messages of turns that began in this time (`until_ms` excluded); ms since the epoch.
        role: only messages of this role.
    """

    kind: ClassVar[str] = "search_transcript"
    direct: ClassVar[bool] = True

    query: str
    user: str | None = None
    limit: Annotated[int, Field(ge=1)] = 10
    since_ms: int | None = None
    until_ms: int | None = None
    role: SpokenRole | None = None
