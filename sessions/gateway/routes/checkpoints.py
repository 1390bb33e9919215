"""Checkpoints: numbered copies of a session's state that you can go back to."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Path, status
from pydantic import BaseModel, ConfigDict, Field

from sessions.gateway.caller import Reader, Writer
from sessions.gateway.parameters import KEYS, SessionId
from sessions.gateway.problems import responses
from sessions.gateway.routes.state import State
from sessions.gateway.strict_json import Body, StrictRoute

router = APIRouter(
    prefix="/v1/sessions/{session_id:segment}/checkpoints", tags=["checkpoints"], route_class=StrictRoute
)


class NewCheckpoint(Body):
    """What to do with the state before the checkpoint is written."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"values": {"step": 1}}]})

    values: dict[str, Any] | None = Field(
        None, description="Merged into the state first, in the same step.", json_schema_extra=KEYS
    )


class CheckpointNumber(BaseModel):
    """A checkpoint that was written."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"checkpoint": 3}]})

    checkpoint: int


class Checkpoints(BaseModel):
    """The session's checkpoints."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"checkpoints": [1, 2, 3]}]})

    checkpoints: list[int] = Field(description="Oldest first; the newest 100 are kept.")


@router.get("", summary="List the checkpoints")
async def list_checkpoints(session_id: SessionId, caller: Reader) -> Checkpoints:
    """Their numbers."""
    return Checkpoints(checkpoints=await caller.session(session_id).acheckpoints())


@router.post("", status_code=status.HTTP_201_CREATED, summary="Save a checkpoint")
async def save_checkpoint(session_id: SessionId, caller: Writer, body: NewCheckpoint | None = None) -> CheckpointNumber:
    """The state, the agents' configurations, and the position in the history."""
    values = body.values if body else None
    return CheckpointNumber(checkpoint=await caller.session(session_id).asave_state(values))


@router.post("/restore", summary="Attach to the saved state", responses=responses(404, 410))
async def attach_session(session_id: SessionId, caller: Writer) -> State:
    """Changes nothing; it is an error if there is no checkpoint, or if the session expired."""
    return State(state=await caller.session(session_id).arestore_state())


@router.post("/{number}/restore", summary="Go back to a checkpoint", responses=responses(404, 410))
async def restore_checkpoint(
    session_id: SessionId, number: Annotated[int, Path(ge=1, le=2**53)], caller: Writer
) -> State:
    """The state goes back; the history is never cut (fork the session for that)."""
    return State(state=await caller.session(session_id).arestore_state(number))
