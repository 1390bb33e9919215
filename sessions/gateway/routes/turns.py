"""Turns: send a message; show, wait for, follow, cancel or answer its turn."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request, Response, status
from pydantic import BaseModel, ConfigDict, Field

from sessions.api.session import Session
from sessions.api.turn import Turn
from sessions.client.arguments.additions import MOST_TOOLS
from sessions.client.arguments.turns import MOST_TURNS, OnDisconnect
from sessions.errors import BadRequest
from sessions.gateway.agents import AgentSpec, Base, agent_of
from sessions.gateway.caller import DEFAULT_QUEUE, Caller, Reader, Writer
from sessions.gateway.messages import MessageBody, message_of
from sessions.gateway.parameters import (
    LONGEST_TTL,
    QUEUE,
    TURN_ID,
    WEBHOOK,
    IdempotencyKey,
    NotBefore,
    SessionId,
    TurnId,
)
from sessions.gateway.prefer import Wait
from sessions.gateway.principal import Right
from sessions.gateway.problems import responses
from sessions.gateway.resources import ListedTurn, ListedTurns, TurnResource, turn_path
from sessions.gateway.streams import STREAM, Cursor, event_stream
from sessions.gateway.strict_json import Body, StrictRoute
from sessions.gateway.turn_limits import ModelCalls, SpentAtMost, ToolCalls, given_budget
from sessions.protocol.compaction_requests import Compact
from sessions.protocol.turn import Policy
from sessions.sse import MEDIA_TYPE

router = APIRouter(
    prefix="/v1/sessions/{session_id:segment}/turns", tags=["turns"], route_class=StrictRoute, responses=responses(404)
)


class OutsideToolBody(Body):
    """A tool that the sender of a message has."""

    name: str = Field(pattern="^[A-Za-z0-9_-]{1,64}$")
    description: str | None = None
    parameters: dict[str, Any] | None = Field(None, description="JSON Schema (of an object) of its arguments.")
    strict: bool | None = Field(None, description="Whether the provider must enforce the schema.")


class TurnBody(Body):
    """What a request for a turn may say in addition to the message and the agent."""

    stream: bool = Field(False, description="Whether the answer's text is streamed in deltas or arrives as one event.")
    policy: Policy | None = Field(None, strict=False, description="What happens if the session is busy.")
    timeout: float | None = Field(None, gt=0, le=7 * 86400, description="Seconds to the turn's deadline.")
    waiting_blocks: bool | None = Field(None, description="Whether later turns wait while it waits for an approval.")
    approval_timeout: float | None = Field(
        None, gt=0, le=90 * 86400, description="Seconds that it waits for an approval."
    )
    webhook: str | None = Field(None, **WEBHOOK)
    not_before: NotBefore | None = Field(
        None,
        description="It begins no earlier: a time with a zone, or seconds from now; at most a year ahead. Its deadline "
        "counts from then, and the messages sent meanwhile do not wait for it.",
    )
    model: str | list[str] | None = Field(
        None,
        description="Used instead of the agent's model; of several, each is asked if the ones before it failed. Needs "
        "the right `configure`.",
        max_length=8,
    )
    model_settings: dict[str, Any] | None = Field(
        None, description="Of its model requests, such as a temperature. Needs the right `configure`."
    )
    metadata: dict[str, Any] | None = Field(
        None, description="Your own notes, up to 4 KiB: in the turn, its webhook, and for tools. No model sees them."
    )
    user_id: str | None = Field(
        None,
        description="Who sends the message, in a session that several users share; not needed with `X-User-ID`, which "
        "says it too.",
        max_length=256,
    )
    instructions: str | None = Field(
        None, description="What the model is told after the agent's own instructions, in this turn."
    )
    outside_tools: list[OutsideToolBody] | None = Field(
        None,
        max_length=MOST_TOOLS,
        description="Tools that you have: if the model calls one, the turn waits until you `provide` the result.",
    )
    tool_choice: str | list[str] | None = Field(
        None, description="Which of these the first model request must call: `required` (any), or names."
    )
    output_schema: dict[str, Any] | None = Field(
        None, description="JSON Schema (of an object) for this turn's answer, instead of the agent's."
    )
    max_model_calls: ModelCalls = None
    max_tool_calls: ToolCalls = None
    budget: SpentAtMost = None
    session_ttl: float | None = Field(
        None, gt=0, le=LONGEST_TTL, description="Seconds after its last use until the session expires."
    )
    searchable: bool | None = Field(
        None, description="Whether the session's transcript is searchable, from now on and with all of its history."
    )
    compact: Compact | None = Field(
        None,
        description="`auto`: from now on, a model summarises the turns that leave the session's window of history, in "
        "the background. `off` ends that.",
    )
    queue: str = Field(
        DEFAULT_QUEUE,
        description="The queue whose workers serve the session; fixed by its first turn. One other than `turns` "
        "needs the right `configure`.",
        json_schema_extra=QUEUE,
    )
    memory: bool | None = Field(
        None, description="Whether the session's agents use memory, unless they say themselves."
    )
    knowledge: bool | Base | list[Base] | None = Field(None, description="The same for documents; names of bases.")

    def options(self) -> dict[str, Any]:
        """The arguments of `submit`, as far as they are given."""
        names = (
            "policy",
            "timeout",
            "waiting_blocks",
            "approval_timeout",
            "webhook",
            "not_before",
            "model",
            "model_settings",
            "metadata",
            "max_model_calls",
            "max_tool_calls",
            "instructions",
            "tool_choice",
            "output_schema",
        )
        given = {name: getattr(self, name) for name in names} | {"budget": given_budget(self.budget)}
        if self.outside_tools is not None:
            given["outside_tools"] = [tool.model_dump(exclude_none=True) for tool in self.outside_tools]
        return {name: value for name, value in given.items() if value is not None}

    def session(self, caller: Caller, session_id: str) -> Session:
        """The session, with the options that are of the session.

        Raises:
            Forbidden: an option needs the right `configure`.
        """
        caller.may_use(self.queue)
        if self.model is not None or self.model_settings is not None:
            caller.principal.need(Right.CONFIGURE)
        knowledge = {"bases": self.knowledge} if isinstance(self.knowledge, list) else self.knowledge
        return caller.session(
            session_id,
            ttl=self.session_ttl,
            queue=self.queue,
            memory=self.memory,
            knowledge=knowledge,
            searchable=self.searchable,
            compact=self.compact,
        )


class NewTurn(TurnBody):
    """A message for an agent of the session."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"message": "My name is Alice"},
                {"message": "What is my name?", "agent": "assistant", "stream": True},
                {"message": "Write a poem", "stream": True, "on_disconnect": "cancel"},
                {
                    "message": [
                        {"type": "text", "text": "What is this?"},
                        {
                            "type": "image",
                            "file_id": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
                        },
                    ]
                },
                {"message": "Ask whether the parcel has arrived", "not_before": "2026-11-27T09:00:00+01:00"},
                {
                    "message": "Summarise our talk",
                    "model": ["openai:gpt-5", "anthropic:claude-sonnet-4-5"],
                    "model_settings": {"temperature": 0.2},
                    "metadata": {"request_id": "r-81"},
                },
                {
                    "message": "Which class do I travel in?",
                    "agent": {"name": "Travel desk", "instructions": "You book trains.", "knowledge": True},
                },
            ]
        },
    )

    message: MessageBody = Field(description="A text, or a list of texts and files.")
    agent: str | AgentSpec = Field("assistant", description="An agent's name, or a definition of your own.")
    on_disconnect: OnDisconnect = Field(
        "continue",
        description="With `Accept: text/event-stream`: whether the turn is cancelled when this response is cut off.",
    )


class DeletedTurn(BaseModel):
    """What was deleted."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"keys": 2, "messages": 2}]})

    keys: int
    messages: int = Field(description="As a person counts them: what the user said, and each answer.")


@router.post(
    "",
    status_code=status.HTTP_202_ACCEPTED,
    summary="Send a message",
    response_model=TurnResource,
    responses={
        200: {
            "model": TurnResource,
            "description": "It ended within `Prefer: wait`; or its events, for `Accept: text/event-stream`.",
            "content": STREAM[200]["content"],
        },
        **responses(409),
    },
)
async def submit_turn(
    session_id: SessionId,
    body: NewTurn,
    caller: Writer,
    wait: Wait,
    after: Cursor,
    request: Request,
    idempotency_key: IdempotencyKey = None,
) -> TurnResource | Response:
    """Durably accepted: from here on the turn ends in exactly one final status, whatever happens to this gateway.

    With `Accept: text/event-stream` the response is the turn's stream, and `Location` names the turn. If it is cut off,
    the turn continues: follow it, or repeat the request with the same `Idempotency-Key` and your `Last-Event-ID`. With
    `"on_disconnect": "cancel"` it is cancelled: at once if you disconnect, and 15 seconds later if the gateway stops or
    is killed and you do not come back.
    """
    streams = MEDIA_TYPE in request.headers.get("accept", "")
    if body.on_disconnect == "cancel":
        _check_cancels(body, streams=streams)
    session = body.session(caller, session_id)
    agent = await agent_of(caller, session, body.agent)
    sender = None if body.user_id is None else caller.user_or(body.user_id)
    turn = await agent.asubmit(
        message_of(body.message), stream=body.stream, idempotency_key=idempotency_key, user_id=sender, **body.options()
    )
    if streams:
        response = await _followed(turn, after, body.on_disconnect, at_once=True)
        response.headers["Location"] = turn_path(session_id, turn.id)
        return response
    return await wait.show(turn, turn_path(session_id, turn.id), session_id, accepted=True)


@router.get("", summary="List the session's turns")
async def list_turns(
    session_id: SessionId,
    caller: Reader,
    open: Annotated[  # noqa: A002 - the query parameter's name
        bool, Query(description="1: only turns that have not ended, in the order in which they run.")
    ] = False,
    limit: Annotated[int, Query(ge=1, le=MOST_TURNS, description="The largest number of turns.")] = 50,
    order: Annotated[
        Literal["oldest", "newest"] | None,
        Query(description="Which of all turns come first: `oldest` (the default) or `newest`. Not with `open`."),
    ] = None,
    cursor: Annotated[
        str | None,
        Query(description="The cursor of the previous page.", max_length=512, json_schema_extra=TURN_ID),
    ] = None,
    scheduled: Annotated[
        bool, Query(description="With `open`, 0 leaves out the turns that are scheduled for later.")
    ] = True,
) -> ListedTurns:
    """One page of them. The answers are not in it: `GET` a turn for its `result`."""
    session = caller.session(session_id)
    page = await session.aturns(open=open or None, limit=limit, order=order, cursor=cursor or None, scheduled=scheduled)
    return ListedTurns(turns=[ListedTurn.of(turn, session_id) for turn in page], cursor=page.cursor)


@router.delete("/{turn_id:segment}", summary="Delete a turn", responses=responses(404))
async def delete_turn(session_id: SessionId, turn_id: TurnId, caller: Writer) -> DeletedTurn:
    """Its messages, wherever they are, its record and its events. No error if it does not exist (any more).

    What its tools did, the state that it changed, the memories extracted from it and its files are not deleted.
    """
    return DeletedTurn(**await caller.session(session_id).adelete_turn(turn_id))


@router.get("/{turn_id:segment}", summary="Show a turn, or wait for its end")
async def get_turn(session_id: SessionId, turn_id: TurnId, caller: Reader, wait: Wait) -> TurnResource:
    """Waits if `Prefer: wait=N` says so. The end of the wait is not the end of the turn: ask again."""
    turn = await turn_of(caller, session_id, turn_id)
    return await wait.show(turn, turn_path(session_id, turn.id), session_id)


@router.get(
    "/{turn_id:segment}/events",
    summary="Follow a turn",
    response_class=Response,
    responses={**STREAM, **responses(409)},
)
async def follow_turn(
    session_id: SessionId,
    turn_id: TurnId,
    caller: Reader,
    after: Cursor,
    on_disconnect: Annotated[
        OnDisconnect,
        Query(
            description="`cancel`: the turn is cancelled 15 seconds after the last such reader has left, unless one "
            "has come back. Needs the right `write`."
        ),
    ] = "continue",
) -> Response:
    """Server-sent events from the start, or after the last one that you have; `id:` is the cursor."""
    if on_disconnect == "cancel":
        caller.principal.need(Right.WRITE)
    turn = await turn_of(caller, session_id, turn_id)
    return await _followed(turn, after, on_disconnect, at_once=False)


async def _followed(turn: Turn, after: str | None, on_disconnect: OnDisconnect, *, at_once: bool) -> Response:
    """A turn's stream. At once: a reader that disconnects does not come back by itself, as an EventSource does."""
    if on_disconnect == "continue":
        return await event_stream(turn.aevents(after), turn.id)
    return await event_stream(turn.aattend(after), turn.id, on_disconnect=turn.acancel if at_once else None)


def _check_cancels(body: NewTurn, *, streams: bool) -> None:
    if not streams:
        raise BadRequest('"on_disconnect": "cancel" is for a response that is a stream: send Accept: text/event-stream')
    if body.policy is Policy.STEER:
        raise BadRequest('"on_disconnect": "cancel" is for the one who starts a turn, and "steer" joins another one')


@router.post(
    "/{turn_id:segment}/cancel",
    status_code=status.HTTP_202_ACCEPTED,
    summary="Cancel a turn",
    responses={200: {"model": TurnResource, "description": "It ended within `Prefer: wait`."}},
)
async def cancel_turn(session_id: SessionId, turn_id: TurnId, caller: Writer, wait: Wait) -> TurnResource:
    """A running turn is stopped on its worker, including a model request; `Prefer: wait=N` waits for that."""
    turn = await turn_of(caller, session_id, turn_id)
    await turn.acancel()
    return await wait.show(turn, turn_path(session_id, turn.id), session_id, accepted=True)


async def turn_of(caller: Caller, session_id: str, turn_id: str) -> Turn:
    """A turn of one of the caller's sessions.

    Raises:
        InvalidTurnId: it is not a turn of this session. SessionOwnerError, TurnNotFound.
    """
    return await caller.session(session_id).aturn(turn_id)
