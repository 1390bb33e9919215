"""Sessions: create, show, read, copy and delete them."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Response, status
from pydantic import BaseModel, ConfigDict, Field

from sessions.api.session import Session
from sessions.errors import NotFound, SessionExpired
from sessions.gateway.caller import DEFAULT_QUEUE, Reader, Writer
from sessions.gateway.parameters import ID_RULE, LONGEST_TTL, QUEUE, SESSION_ID, TURN_ID, SessionId
from sessions.gateway.problems import responses
from sessions.gateway.segments import segment
from sessions.gateway.streams import SESSION_STREAM, Cursor, event_stream
from sessions.gateway.strict_json import Body, StrictRoute

router = APIRouter(prefix="/v1/sessions", tags=["sessions"], route_class=StrictRoute)
_FAR = 2**53


class NewSession(Body):
    """A session to create."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"session_id": "chat-1"}, {"ttl": 3600}]})

    session_id: str | None = Field(None, description=f"{ID_RULE}. Generated if absent.", json_schema_extra=SESSION_ID)
    ttl: float | None = Field(
        None, gt=0, le=LONGEST_TTL, description="Seconds after its last use until it expires; by default it does not."
    )
    queue: str = Field(
        DEFAULT_QUEUE,
        description="The queue whose workers serve it; one other than `turns` needs the right `configure`.",
        json_schema_extra=QUEUE,
    )


class Fork(Body):
    """A copy to create."""

    model_config = ConfigDict(json_schema_extra={"examples": [{}, {"session_id": "chat-2"}]})

    session_id: str | None = Field(
        None, description="The id of the new session; generated if absent.", json_schema_extra=SESSION_ID
    )
    at: str | None = Field(
        None,
        description="The id of the last turn to copy; by default all committed turns.",
        json_schema_extra=TURN_ID,
    )


class SessionResource(BaseModel):
    """A session and its counts."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "session_id": "chat-1",
                    "user_id": "alice",
                    "created_at": "2026-11-26T12:00:00.120Z",
                    "message_count": 4,
                    "turns": 2,
                    "open_turns": 0,
                    "agents": ["Assistant"],
                    "requests": 2,
                    "input_tokens": 122,
                    "output_tokens": 18,
                    "cost": 0.0,
                    "queue": "turns",
                    "expires_in": 3600.0,
                }
            ]
        }
    )

    session_id: str
    user_id: str | None
    created_at: datetime
    message_count: int
    turns: int = Field(description="The number of committed turns.")
    open_turns: int
    agents: list[str] = Field(description="The agents that it knows by name.")
    requests: int = Field(description="Requests to models.")
    input_tokens: int
    output_tokens: int
    cost: float = Field(description="US dollars, as far as prices are known.")
    queue: str
    expires_in: float | None = Field(description="Seconds; null: never, or a turn is open.")


class Receipt(BaseModel):
    """What was removed."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"keys": 9, "turns": 2, "open_turns": 0, "memories": 3, "files": 1, "documents": 1, "chunks": 14}
            ]
        }
    )

    keys: int
    turns: int
    open_turns: int = Field(description="The turns among them that had not ended.")
    memories: int
    files: int = Field(0, description="Files of messages and tool results, with their bytes.")
    documents: int
    chunks: int


class MessageResource(BaseModel):
    """One message of the transcript."""

    model_config = ConfigDict(
        from_attributes=True,
        json_schema_extra={
            "examples": [
                {
                    "role": "user",
                    "text": "My name is Alice",
                    "agent": "Assistant",
                    "turn_id": "chat-1~0192f5c4e8d17e3c8e3c5b7f0a9d4e21",
                    "at": "2026-11-26T12:00:00.124Z",
                }
            ]
        },
    )

    role: Literal["user", "assistant", "tool"]
    text: str
    agent: str = Field(description="The agent whose turn it was.")
    turn_id: str
    at: datetime = Field(description="When that turn began.")
    tool: str | None = Field(None, description="The tool that was called (assistant), or that returned (tool).")
    call_id: str | None = None
    args: Any = None
    incomplete: str = Field("", description="How the turn ended, if it did not complete.")


class Messages(BaseModel):
    """A page of the transcript."""

    messages: list[MessageResource]
    cursor: int | None = Field(description="Where to continue; null at the end.")


async def found(session: Session) -> SessionResource:
    """The session's details.

    Raises:
        NotFound: it does not exist. SessionExpired: it existed. SessionOwnerError.
    """
    context = await session.aget_context()
    if context["created_at"] is not None:
        return SessionResource(**context)
    if await session.ais_expired():
        raise SessionExpired(f"session {session.session_id!r} expired; using it again starts a new one")
    raise NotFound(f"there is no session {session.session_id!r}; its first turn creates it, or POST /v1/sessions")


def session_path(session_id: str) -> str:
    """The location of a session."""
    return f"/v1/sessions/{segment(session_id)}"


@router.post(
    "",
    status_code=status.HTTP_201_CREATED,
    summary="Create a session",
    responses={200: {"model": SessionResource, "description": "It exists already; this is its current state."}},
)
async def create_session(body: NewSession, caller: Writer, response: Response) -> SessionResource:
    """Optional: a session's first turn also creates it."""
    caller.may_use(body.queue)
    session = caller.session(body.session_id, ttl=body.ttl, queue=body.queue)
    if not await session.acreate():
        response.status_code = status.HTTP_200_OK
    response.headers["Location"] = session_path(session.session_id)
    return await found(session)


@router.get("/{session_id:segment}", summary="Show a session", responses=responses(404, 410))
async def get_session(session_id: SessionId, caller: Reader) -> SessionResource:
    """Its details; showing a session does not create it."""
    return await found(caller.session(session_id))


@router.delete("/{session_id:segment}", summary="Delete a session", responses=responses(502, 504))
async def delete_session(session_id: SessionId, caller: Writer) -> Receipt:
    """With everything in it: turns (open ones too), state, memories and documents. No error if it does not exist."""
    return Receipt(**await caller.session(session_id).adelete())


@router.get("/{session_id:segment}/messages", summary="Read the transcript")
async def list_messages(
    session_id: SessionId,
    caller: Reader,
    limit: Annotated[int, Query(ge=1, le=1000, description="The number of turns whose messages to return.")] = 50,
    order: Annotated[Literal["oldest", "newest"], Query(description="Which turns come first.")] = "oldest",
    cursor: Annotated[int | None, Query(ge=0, le=_FAR, description="The cursor of the previous page.")] = None,
) -> Messages:
    """One page of it. Within a page, messages are in the order in which they were written."""
    page = await caller.session(session_id).ahistory(limit, order=order, cursor=cursor)
    return Messages(messages=[MessageResource.model_validate(message) for message in page], cursor=page.cursor)


@router.get(
    "/{session_id:segment}/stream",
    summary="Follow the open turn",
    tags=["turns"],
    response_class=Response,
    responses={**SESSION_STREAM, **responses(409)},
)
async def follow_session(session_id: SessionId, caller: Reader, after: Cursor) -> Response:
    """The turn that runs or is next, from its start; then the turns after it. For a page that was loaded again.

    `id:` names the turn as well, so that after a `Last-Event-ID` everything comes that follows it, nothing twice: the
    rest of that turn, the turns that have ended since, then the open one. If the record of its turn is gone, the
    stream begins with the open turn.
    """
    return await event_stream(caller.session(session_id).aevents(after), session_id)


@router.post(
    "/{session_id:segment}/fork",
    status_code=status.HTTP_201_CREATED,
    summary="Copy a session",
    responses=responses(404, 409, 410, 502, 504),
)
async def fork_session(
    session_id: SessionId, caller: Writer, response: Response, body: Fork | None = None
) -> SessionResource:
    """A new session with this one's history up to a turn, its state, memories, documents and agents."""
    wanted = body or Fork()
    queue = (await found(caller.session(session_id))).queue
    forked = await caller.session(session_id, queue=queue).afork(wanted.session_id, at=wanted.at)
    response.headers["Location"] = session_path(forked.session_id)
    return await found(forked)
