"""Sessions: create, show, read, copy and delete them."""

from __future__ import annotations

import asyncio
from datetime import datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Response, status

from sessions.api.session import Session
from sessions.client.arguments.sessions import SessionOrder
from sessions.errors import BadRequest
from sessions.gateway.caller import Reader, Writer
from sessions.gateway.parameters import TURN_ID, SessionId
from sessions.gateway.problems import responses
from sessions.gateway.segments import segment
from sessions.gateway.session_resources import (
    DeletionReceipt,
    Fork,
    ListedSession,
    MessageResource,
    Messages,
    NewSession,
    Receipt,
    SessionPatch,
    SessionResource,
    Sessions,
    listed_fields,
)
from sessions.gateway.streams import SESSION_STREAM, Cursor, event_stream
from sessions.gateway.strict_json import StrictRoute, parse_json

router = APIRouter(prefix="/v1/sessions", tags=["sessions"], route_class=StrictRoute)
_FAR = 2**53
_SINCE = "2026-11-26T12:00:00Z"


async def found(session: Session) -> SessionResource:
    """The session's details.

    Raises:
        NotFound: it does not exist. SessionExpired: it existed. SessionOwnerError.
    """
    info, context = await asyncio.gather(session.ainfo(), session.aget_context())
    return SessionResource(**listed_fields(info), agents=context["agents"], expires_in=context["expires_in"])


def _json_object(text: str) -> dict[str, Any]:
    try:
        value = parse_json(text.encode())
    except ValueError as error:
        raise BadRequest(f"metadata is not JSON: {error}") from None
    if not isinstance(value, dict):
        raise BadRequest("metadata must be a JSON object")
    return value


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
    session = caller.session(
        body.session_id, ttl=body.ttl, queue=body.queue, searchable=body.searchable, compact=body.compact
    )
    if not await session.acreate(title=body.title, metadata=body.metadata):
        response.status_code = status.HTTP_200_OK
    response.headers["Location"] = session_path(session.session_id)
    return await found(session)


@router.get("", summary="List sessions")
async def list_sessions(
    caller: Reader,
    limit: Annotated[int, Query(ge=1, le=1000)] = 50,
    cursor: Annotated[str | None, Query(description="The cursor of the previous page.", max_length=1024)] = None,
    order: Annotated[SessionOrder, Query(description="The newest first, by last use or by creation.")] = "last_used",
    metadata: Annotated[
        str | None,
        Query(
            description="Only sessions with these values, as a JSON object; a list means any of them.",
            examples=['{"folder": "travel"}'],
            max_length=4096,
        ),
    ] = None,
    active_since: Annotated[
        datetime | None, Query(description="Only sessions that were used at this time or later.", examples=[_SINCE])
    ] = None,
    unused_since: Annotated[
        datetime | None, Query(description="Only sessions that were last used before this time.", examples=[_SINCE])
    ] = None,
    shared: Annotated[bool, Query(description="Those of others that are shared with you, instead of yours.")] = False,
) -> Sessions:
    """Those of the user you act for; without a user, those of the tenant. A filter may leave a page short."""
    page = await Session.alist(
        caller.user,
        limit=limit,
        cursor=cursor,
        order=order,
        metadata=None if metadata is None else _json_object(metadata),
        active_since=active_since,
        unused_since=unused_since,
        shared=shared,
        tenant=caller.principal.tenant,
        settings=caller.gateway.settings,
    )
    return Sessions(sessions=[ListedSession.of(info) for info in page], cursor=page.cursor, complete=page.complete)


@router.delete("", summary="Delete unused sessions", responses=responses(502, 504))
async def prune_sessions(
    caller: Writer,
    unused_since: Annotated[
        datetime, Query(description="Delete the sessions that were last used before this time.", examples=[_SINCE])
    ],
) -> DeletionReceipt:
    """Of the user you act for; without a user, of the tenant.

    Sessions with an open turn or an active schedule are kept.
    """
    tenant, settings = caller.principal.tenant, caller.gateway.settings
    return DeletionReceipt(**await Session.aprune(unused_since, caller.user, tenant=tenant, settings=settings))


@router.patch("/{session_id:segment}", summary="Change a session", responses=responses(404, 409, 410))
async def update_session(session_id: SessionId, body: SessionPatch, caller: Writer) -> SessionResource:
    """Title, metadata, whether it is searchable and compacted. Its place in the list and its expiry stay."""
    session = caller.session(session_id)
    await session.aupdate(title=body.title, metadata=body.metadata, searchable=body.searchable, compact=body.compact)
    return await found(session)


@router.get("/{session_id:segment}", summary="Show a session", responses=responses(404, 410))
async def get_session(session_id: SessionId, caller: Reader) -> SessionResource:
    """Its details; showing a session does not create it."""
    return await found(caller.session(session_id))


@router.delete("/{session_id:segment}", summary="Delete a session", responses=responses(502, 504))
async def delete_session(session_id: SessionId, caller: Writer) -> Receipt:
    """With everything in it: turns (open ones too), state, memories and documents. No error if it does not exist."""
    return Receipt(**await caller.session(session_id).adelete())


@router.get("/{session_id:segment}/messages", summary="Read the transcript", responses=responses(404))
async def list_messages(
    session_id: SessionId,
    caller: Reader,
    limit: Annotated[int, Query(ge=1, le=1000, description="The number of turns whose messages to return.")] = 50,
    order: Annotated[Literal["oldest", "newest"], Query(description="Which turns come first.")] = "oldest",
    cursor: Annotated[int | None, Query(ge=0, le=_FAR, description="The cursor of the previous page.")] = None,
    branch: Annotated[
        str | None,
        Query(
            description="A branch: the transcript as it was before this turn was replaced.",
            max_length=512,
            json_schema_extra=TURN_ID,
        ),
    ] = None,
) -> Messages:
    """One page of it. Within a page, messages are in the order in which they were written."""
    page = await caller.session(session_id).ahistory(limit, order=order, cursor=cursor, branch=branch)
    return Messages(messages=[MessageResource.model_validate(message) for message in page], cursor=page.cursor)


@router.get(
    "/{session_id:segment}/stream",
    summary="Follow the open turn",
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
