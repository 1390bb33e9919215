"""Shares: whom a session is shared with, and what each of these users may do."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Path, status
from pydantic import BaseModel, ConfigDict, Field

from sessions.errors import NotFound
from sessions.gateway.caller import Reader, Writer
from sessions.gateway.parameters import SessionId
from sessions.gateway.problems import responses
from sessions.gateway.strict_json import Body, StrictRoute

router = APIRouter(
    prefix="/v1/sessions/{session_id:segment}/shares",
    tags=["sessions"],
    route_class=StrictRoute,
    responses=responses(404),
)

UserId = Annotated[str, Path(description="The user that the session is shared with.", max_length=256)]


class NewShare(Body):
    """What a user may do in a session of another one."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"rights": "read"}, {"rights": "write"}]})

    rights: Literal["read", "write"] = Field(
        "read", description="`write` includes reading: send messages, answer and cancel turns, change state and memory."
    )


class Share(BaseModel):
    """A user that a session is shared with."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"user_id": "bob", "rights": "read"}]})

    user_id: str
    rights: Literal["read", "write"]


class Shares(BaseModel):
    """The users that a session is shared with, besides its owner."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"shares": [{"user_id": "bob", "rights": "read"}]}]})

    shares: list[Share]


@router.get("", summary="List whom a session is shared with")
async def list_shares(session_id: SessionId, caller: Reader) -> Shares:
    """Sorted by user; without the owner."""
    shared = await caller.session(session_id).ashared_with()
    return Shares(shares=[Share(user_id=user, rights=rights) for user, rights in shared.items()])


@router.put("/{user_id:segment}", summary="Share a session with a user")
async def share_session(session_id: SessionId, user_id: UserId, body: NewShare, caller: Writer) -> Share:
    """Only its owner may; replaces what the user could do before."""
    await caller.session(session_id).ashare(user_id, body.rights)
    return Share(user_id=user_id, rights=body.rights)


@router.delete("/{user_id:segment}", status_code=status.HTTP_204_NO_CONTENT, summary="End the sharing with a user")
async def unshare_session(session_id: SessionId, user_id: UserId, caller: Writer) -> None:
    """Turns that the user has sent run to their end. 404 if it was not shared."""
    if not await caller.session(session_id).aunshare(user_id):
        raise NotFound(f"session {session_id!r} is not shared with user {user_id!r}")
