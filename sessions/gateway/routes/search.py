"""Search in the transcripts of sessions."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Final, Literal

from fastapi import APIRouter
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from sessions.api.session import Session
from sessions.client.arguments.history_search import MOST_MATCHES
from sessions.client.transcript import FoundMessage
from sessions.gateway.caller import Reader
from sessions.gateway.parameters import TEXT, SessionId
from sessions.gateway.problems import responses
from sessions.gateway.strict_json import Body, StrictRoute, Whole

router = APIRouter(tags=["sessions"], route_class=StrictRoute)

Time = Annotated[AwareDatetime | None, Field(strict=False)]
_SINCE: Final = "2026-11-26T12:00:00Z"


class MessageSearch(Body):
    """A search."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"query": "window seat"}, {"query": "invoice", "role": "user", "since": _SINCE, "limit": 20}]
        },
    )

    query: str = Field(min_length=1, json_schema_extra=TEXT)
    limit: Whole = Field(10, ge=1, le=MOST_MATCHES)
    since: Time = Field(None, description="Only messages of turns that began at this time or later.")
    until: Time = Field(None, description="Only messages of turns that began before this time.")
    role: Literal["user", "assistant"] | None = Field(None, description="By default both.")

    def arguments(self) -> dict[str, Any]:
        """The arguments of the methods that search."""
        return {"limit": self.limit, "since": self.since, "until": self.until, "role": self.role}


class FoundMessageResource(BaseModel):
    """A message that a search found."""

    model_config = ConfigDict(
        from_attributes=True,
        json_schema_extra={
            "examples": [
                {
                    "session_id": "chat-1",
                    "title": "A trip to Lisbon",
                    "turn_id": "chat-1~0192f5c4e8d17e3c8e3c5b7f0a9d4e21",
                    "role": "user",
                    "text": "I would like a window seat",
                    "agent": "Assistant",
                    "at": "2026-11-26T12:00:00.124Z",
                    "score": 1.0,
                    "similarity": 0.71,
                    "user_id": None,
                }
            ]
        },
    )

    session_id: str
    title: str = Field(description="Of the session.")
    turn_id: str
    role: Literal["user", "assistant"]
    text: str = Field(description="The passage of the message that matches best: at most 800 characters.")
    agent: str = Field(description="The agent whose turn it was.")
    at: datetime = Field(description="When that turn began.")
    score: float = Field(description="0 to 1; 1 is the first by meaning and by words.")
    similarity: float | None = Field(description="Cosine similarity; null if only words were compared.")
    user_id: str | None = Field(description="Who sent that turn's message, if that was not the session's owner.")


class FoundMessages(BaseModel):
    """What a search found, the best first; of equally good ones, the newest."""

    messages: list[FoundMessageResource]

    @classmethod
    def of(cls, found: list[FoundMessage]) -> FoundMessages:
        """The messages as they are shown."""
        return cls(messages=[FoundMessageResource.model_validate(message) for message in found])


@router.post(
    "/v1/sessions/{session_id:segment}/messages/search",
    summary="Search the transcript",
    responses=responses(409, 502, 504),
)
async def search_messages(session_id: SessionId, body: MessageSearch, caller: Reader) -> FoundMessages:
    """By meaning and by words. The session must be searchable; a message is found a moment after its turn's end."""
    return FoundMessages.of(await caller.session(session_id).asearch_history(body.query, **body.arguments()))


@router.post("/v1/messages/search", summary="Search all transcripts", responses=responses(502, 504))
async def search_all_messages(body: MessageSearch, caller: Reader) -> FoundMessages:
    """Those of all searchable sessions that the user you act for owns. A request without a user is refused."""
    found = await Session.asearch(
        body.query,
        caller.user,
        **body.arguments(),
        tenant=caller.principal.tenant,
        settings=caller.gateway.settings,
    )
    return FoundMessages.of(found)
