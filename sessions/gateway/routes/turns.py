"""Turns: a message is accepted, and its turn looked at, waited for, followed, cancelled and answered."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Header, Response, status
from pydantic import BaseModel, ConfigDict, Field

from sessions.errors import ResultTimeout, TurnFailed
from sessions.gateway.agents import AgentSpec, agent_of
from sessions.gateway.caller import Caller, Reader, Writer
from sessions.gateway.prefer import Wait, applied
from sessions.gateway.problems import responses
from sessions.gateway.resources import TurnResource, turn_path
from sessions.gateway.streams import Cursor, event_stream
from sessions.protocol import Policy
from sessions.turn import Turn

router = APIRouter(prefix="/v1/sessions/{session_id}/turns", tags=["turns"], responses=responses(401, 403, 404, 503))

IdempotencyKey = Annotated[
    str | None,
    Header(
        description="The same key with the same request gives the same turn, for a day after its end.",
        min_length=1,
        max_length=256,
        examples=["3f1c9a52-6d7e-4b7e-9c53-0f6a1f0e7d11"],
    ),
]


class NewTurn(BaseModel):
    """A message for an agent of the session."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [
                {"message": "My name is Alice"},
                {"message": "What is my name?", "agent": "assistant", "stream": True},
                {
                    "message": "Which class do I travel in?",
                    "agent": {"name": "Travel desk", "instructions": "You book trains.", "knowledge": True},
                },
            ]
        },
    )

    message: str = Field(min_length=1)
    agent: str | AgentSpec = Field("assistant", description="An agent's name, or one of your own.")
    stream: bool = Field(False, description="Whether the answer's text comes as deltas, else as one event.")
    policy: Policy | None = Field(None, description="What becomes of it when the session is busy.")
    timeout: float | None = Field(None, gt=0, le=7 * 86400, description="Seconds to the turn's deadline.")
    waiting_blocks: bool | None = Field(None, description="Whether later turns wait while it waits for an approval.")
    approval_timeout: float | None = Field(None, gt=0, le=90 * 86400, description="Seconds that it waits for one.")
    session_ttl: float | None = Field(None, gt=0, description="Seconds that the session lives after its last use.")
    queue: str = Field("turns", description="The workers that serve the session; fixed by its first turn.")
    memory: bool | None = Field(None, description="Whether its agents use memory where they do not say themselves.")
    knowledge: bool | str | list[str] | None = Field(None, description="Likewise for documents; names of bases.")

    def options(self) -> dict[str, Any]:
        """Those of `submit`, as far as they are given."""
        names = ("policy", "timeout", "waiting_blocks", "approval_timeout")
        given = {name: getattr(self, name) for name in names}
        return {name: value for name, value in given.items() if value is not None}


@router.post(
    "",
    status_code=status.HTTP_202_ACCEPTED,
    response_model=TurnResource,
    summary="Send a message",
    responses={
        200: {"model": TurnResource, "description": "It ended within `Prefer: wait`."},
        **responses(409, 413, 429),
    },
)
async def submit(
    session_id: str,
    body: NewTurn,
    caller: Writer,
    response: Response,
    wait: Wait,
    idempotency_key: IdempotencyKey = None,
) -> TurnResource:
    """Accepted for good: from here on the turn ends in exactly one final status, whatever happens to this gateway."""
    knowledge = {"bases": body.knowledge} if isinstance(body.knowledge, list) else body.knowledge
    session = caller.session(
        session_id, ttl=body.session_ttl, queue=body.queue, memory=body.memory, knowledge=knowledge
    )
    agent = await agent_of(caller, session, body.agent)
    turn = await agent.asubmit(body.message, stream=body.stream, idempotency_key=idempotency_key, **body.options())
    return await _shown(turn, session_id, response, wait, accepted=True)


@router.get("/{turn_id}", response_model=TurnResource, summary="Look at a turn, or wait for its end")
async def look(session_id: str, turn_id: str, caller: Reader, response: Response, wait: Wait) -> TurnResource:
    """Waits where `Prefer: wait=N` says so. The wait's end is not the turn's: ask again."""
    return await _shown(await _turn(caller, session_id, turn_id), session_id, response, wait)


@router.get(
    "/{turn_id}/events",
    summary="Follow a turn",
    response_class=Response,
    responses={
        200: {"content": {"text/event-stream": {}}, "description": "Events, up to `ended`."},
        204: {"description": "Nothing comes behind this cursor any more."},
        **responses(409),
    },
)
async def events(session_id: str, turn_id: str, caller: Reader, after: Cursor) -> Response:
    """Server-sent events from the start, or behind the last one that you have; `id:` is the cursor."""
    return await event_stream(await _turn(caller, session_id, turn_id), after)


@router.post(
    "/{turn_id}/cancel", status_code=status.HTTP_202_ACCEPTED, response_model=TurnResource, summary="Cancel a turn"
)
async def cancel(session_id: str, turn_id: str, caller: Writer, response: Response, wait: Wait) -> TurnResource:
    """A running turn is stopped at its worker, the model request included; `Prefer: wait=N` waits for that."""
    turn = await _turn(caller, session_id, turn_id)
    await turn.acancel()
    return await _shown(turn, session_id, response, wait, accepted=True)


async def _turn(caller: Caller, session_id: str, turn_id: str) -> Turn:
    return await caller.session(session_id).aturn(turn_id)


async def _shown(
    turn: Turn, session_id: str, response: Response, wait: float | None, *, accepted: bool = False
) -> TurnResource:
    """The turn as it is now, or at its end where that comes in time."""
    path = turn_path(session_id, turn.id)
    response.headers["Location"] = path
    if wait:
        await ended_within(turn, wait)
        response.headers.update(applied(wait))
    record = await turn.arecord()
    if accepted and wait and record.status.final:
        response.status_code = status.HTTP_200_OK
    return TurnResource.of(record, turn.id, path)


async def ended_within(turn: Turn, wait: float) -> None:
    """Wait for a turn's end, however it ends, at most so long."""
    try:
        await turn.aresult(timeout=wait)
    except (ResultTimeout, TurnFailed):
        return
