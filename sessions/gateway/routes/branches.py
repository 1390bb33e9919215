"""Branches of a session: regenerate an answer or edit a message, and list what was replaced."""

from __future__ import annotations

from datetime import datetime

from fastapi import APIRouter, status
from pydantic import BaseModel, ConfigDict, Field

from sessions.gateway.agents import AgentSpec, agent_of
from sessions.gateway.caller import Reader, Writer
from sessions.gateway.messages import MessageBody, message_of
from sessions.gateway.parameters import TURN_ID, IdempotencyKey, SessionId
from sessions.gateway.prefer import Wait
from sessions.gateway.problems import responses
from sessions.gateway.resources import TurnResource, turn_path
from sessions.gateway.routes.turns import TurnBody
from sessions.gateway.strict_json import StrictRoute

router = APIRouter(prefix="/v1/sessions/{session_id:segment}", tags=["turns"], route_class=StrictRoute)


class Regeneration(TurnBody):
    """A turn that takes the place of another one."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {},
                {
                    "turn_id": "chat-1~0192f5c4e8d17e3c8e3c5b7f0a9d4e21",
                    "message": "My name is Alicia",
                    "stream": True,
                },
            ]
        }
    )

    turn_id: str | None = Field(
        None,
        description="The turn to replace, with all that were committed after it. By default the last one, and only if "
        "no other is committed before the new turn begins.",
        json_schema_extra=TURN_ID,
    )
    message: MessageBody | None = Field(None, description="A new message; by default the same one, with its files.")
    agent: str | AgentSpec | None = Field(
        None, description="An agent's name, or a definition of your own; by default the agent of the replaced turn."
    )


class BranchResource(BaseModel):
    """Turns that left the transcript because another turn took their place."""

    model_config = ConfigDict(
        from_attributes=True,
        json_schema_extra={
            "examples": [
                {
                    "id": "chat-1~0192f5c4e8d17e3c8e3c5b7f0a9d4e21",
                    "replaced_by": "chat-1~0192f5c51b1a7b0e9c7a2d6e8f405a3c",
                    "left_at": "2026-11-26T12:01:00.120Z",
                    "turns": 1,
                    "messages": 2,
                }
            ]
        },
    )

    id: str = Field(description="The turn that was replaced; `GET .../messages?branch=` reads the transcript with it.")
    replaced_by: str = Field(description="The turn that took its place.")
    left_at: datetime
    turns: int = Field(description="How many left with it, without those that were deleted since.")
    messages: int


class Branches(BaseModel):
    """All branches, the oldest first."""

    branches: list[BranchResource]


@router.post(
    "/regenerate",
    status_code=status.HTTP_202_ACCEPTED,
    summary="Regenerate an answer, or edit a message",
    responses={
        200: {"model": TurnResource, "description": "It ended within `Prefer: wait`."},
        **responses(404, 409),
    },
)
async def regenerate(
    session_id: SessionId,
    caller: Writer,
    wait: Wait,
    body: Regeneration | None = None,
    idempotency_key: IdempotencyKey = None,
) -> TurnResource:
    """Accepts a turn that runs in the place of another one, whose model sees the messages before that.

    When it succeeds, the replaced turn and all after it leave the transcript for a branch. If it fails, nothing
    changes.
    """
    wanted = body or Regeneration()
    session = wanted.session(caller, session_id)
    turn = await session.asubmit_regenerate(
        wanted.turn_id,
        None if wanted.message is None else message_of(wanted.message),
        agent=None if wanted.agent is None else await agent_of(caller, session, wanted.agent),
        stream=wanted.stream,
        idempotency_key=idempotency_key,
        user_id=None if wanted.user_id is None else caller.user_or(wanted.user_id),
        **wanted.options(),
    )
    return await wait.show(turn, turn_path(session_id, turn.id), session_id, accepted=True)


@router.get("/branches", summary="List the branches of the transcript")
async def list_branches(session_id: SessionId, caller: Reader) -> Branches:
    """One for each time that a turn took the place of others."""
    found = await caller.session(session_id).abranches()
    return Branches(branches=[BranchResource.model_validate(branch) for branch in found])
