"""The inbox of approvals: the calls that turns of all the caller's sessions wait for; and tools that need none."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Final

from fastapi import APIRouter, Path, Query, status
from pydantic import BaseModel, ConfigDict, Field

from sessions.api.approvals import PendingApproval
from sessions.api.session import Session
from sessions.client.arguments.approvals import AskedKind
from sessions.errors import NotFound
from sessions.gateway.caller import Approver, Reader
from sessions.gateway.parameters import SessionId
from sessions.gateway.problems import responses
from sessions.gateway.resources import turn_path
from sessions.gateway.routes.approvals import Call
from sessions.gateway.segments import segment
from sessions.gateway.strict_json import StrictRoute

router = APIRouter(tags=["approvals"], route_class=StrictRoute)
_TURN: Final = "chat-1~0192f5c4e8d17e3c8e3c5b7f0a9d4e21"
_ASKED: Final[dict[str, Any]] = {
    "call_id": "call_7Hq",
    "tool": "send_postcard",
    "args": {"city": "Rome"},
    "kind": "approval",
    "metadata": {},
    "waits_for": None,
    "session_id": "chat-1",
    "turn_id": _TURN,
    "user_id": "alice",
    "agent": "Assistant",
    "message": "Send a postcard to Rome",
    "since": "2026-11-26T12:00:01.480Z",
    "expires_at": "2026-11-27T12:00:01.480Z",
    "links": {
        "answer": f"/v1/sessions/chat-1/turns/{_TURN}/approvals/call_7Hq",
        "turn": f"/v1/sessions/chat-1/turns/{_TURN}",
    },
}


class InboxLinks(BaseModel):
    """Where to answer the call, and where its turn is."""

    answer: str
    turn: str


class CallInInbox(Call):
    """A call that a turn of one of the sessions waits for."""

    model_config = ConfigDict(json_schema_extra={"examples": [_ASKED]})

    session_id: str
    turn_id: str
    user_id: str | None = Field(description="The owner of the session; null if it has none.")
    agent: str
    message: str = Field(description="What was said to the agent.")
    since: datetime = Field(description="When the turn began to wait.")
    expires_at: datetime = Field(description="When the turn fails if its calls are not answered.")
    links: InboxLinks

    @classmethod
    def of(cls, found: PendingApproval) -> CallInInbox:
        """A call as the inbox shows it."""
        turn = turn_path(found.session_id, found.turn.id)
        return cls(
            **Call.model_validate(found.call).model_dump(),
            session_id=found.session_id,
            turn_id=found.turn.id,
            user_id=found.user_id,
            agent=found.agent,
            message=found.message,
            since=found.since,
            expires_at=found.expires_at,
            links=InboxLinks(answer=f"{turn}/approvals/{segment(found.call.call_id)}", turn=turn),
        )


class InboxPage(BaseModel):
    """A page of the inbox."""

    approvals: list[CallInInbox]
    cursor: str | None = Field(description="Where to continue; null at the end.")


@router.get("/v1/approvals", summary="List the calls that turns wait for")
async def list_inbox(
    caller: Reader,
    limit: Annotated[int, Query(ge=1, le=1000, description="The largest number of sessions in the page.")] = 50,
    cursor: Annotated[str | None, Query(description="The cursor of the previous page.", max_length=1024)] = None,
    kind: Annotated[
        AskedKind | None,
        Query(
            description="Only calls of this kind; by default all but the results of the sender's own tools, which the "
            "program that sent the message provides."
        ),
    ] = None,
) -> InboxPage:
    """In all sessions of the user you act for; without a user, of the tenant.

    The session whose turn began to wait last comes first. A page has all calls of its sessions.
    """
    page = await Session.aapprovals(
        caller.user,
        limit=limit,
        cursor=cursor or None,
        kind=kind,
        tenant=caller.principal.tenant,
        settings=caller.gateway.settings,
    )
    return InboxPage(approvals=[CallInInbox.of(each) for each in page], cursor=page.cursor)


class ApprovedTools(BaseModel):
    """The tools whose calls need no more approval in a session."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"approved_tools": ["send_postcard"]}]})

    approved_tools: list[str]


@router.get("/v1/sessions/{session_id:segment}/approved-tools", summary="List the tools that need no more approval")
async def list_approved_tools(session_id: SessionId, caller: Reader) -> ApprovedTools:
    """Somebody approved a call of each with `always`."""
    return ApprovedTools(approved_tools=await caller.session(session_id).aapproved_tools())


@router.delete(
    "/v1/sessions/{session_id:segment}/approved-tools/{tool:segment}",
    status_code=status.HTTP_204_NO_CONTENT,
    summary="Ask about calls of a tool again",
    responses=responses(404),
)
async def revoke_approval(
    session_id: SessionId,
    tool: Annotated[str, Path(description="The tool's name.", max_length=256)],
    caller: Approver,
) -> None:
    """Calls that run are not stopped. 404 if its calls needed approval."""
    if not await caller.session(session_id).arevoke_approval(tool):
        raise NotFound(f"calls of tool {tool!r} need approval in session {session_id!r} anyway")
