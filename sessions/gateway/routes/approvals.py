"""Approvals: the tool calls that a turn waits for, and the decisions about them."""

from __future__ import annotations

from typing import Any, Literal, assert_never

from fastapi import APIRouter, status
from pydantic import BaseModel, ConfigDict, Field

from sessions.api.turn import Turn
from sessions.gateway.caller import Anyone, Caller, Reader
from sessions.gateway.parameters import SessionId, TurnId
from sessions.gateway.principal import Right
from sessions.gateway.problems import responses
from sessions.gateway.routes.turns import turn_of
from sessions.gateway.strict_json import Body, StrictRoute
from sessions.protocol.call import SENDER

router = APIRouter(
    prefix="/v1/sessions/{session_id:segment}/turns/{turn_id:segment}/approvals",
    tags=["approvals"],
    route_class=StrictRoute,
    responses=responses(404),
)


class Call(BaseModel):
    """A call that a turn waits for."""

    model_config = ConfigDict(
        from_attributes=True,
        json_schema_extra={
            "examples": [
                {
                    "call_id": "call_7Hq",
                    "tool": "send_postcard",
                    "args": {"city": "Rome"},
                    "kind": "approval",
                    "metadata": {},
                }
            ]
        },
    )

    call_id: str
    tool: str
    args: Any
    kind: str = Field(
        description="`approval`: approve or deny it. `result`: provide it. `in_doubt`: a worker died while it ran; "
        "approve runs it again, provide supplies its result, deny says that the outcome is unknown."
    )
    metadata: dict[str, Any] = Field(description="What the tool says about it.")
    waits_for: str | None = Field(None, description="What will bring the result, if the tool said so.")


class Calls(BaseModel):
    """The calls that a turn waits for."""

    approvals: list[Call]


class Decision(Body):
    """The decision about a call."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"action": "approve"},
                {"action": "deny", "reason": "Rome is not on the list."},
                {"action": "provide", "result": {"reference": "E-117"}},
            ]
        },
    )

    action: Literal["approve", "deny", "provide"]
    args: dict[str, Any] | None = Field(None, description="To approve: arguments that replace the model's.")
    always: bool = Field(False, description="To approve: also all further calls of this tool in the session.")
    reason: str = Field("", description="To deny: what the model is told.")
    result: Any = Field(None, description="To provide: what the model receives.")


@router.get("", summary="List the calls that a turn waits for")
async def list_approvals(session_id: SessionId, turn_id: TurnId, caller: Reader) -> Calls:
    """Empty if it waits for nothing."""
    turn = await turn_of(caller, session_id, turn_id)
    return Calls(approvals=[Call.model_validate(call) for call in await turn.aapprovals()])


@router.post(
    "/{call_id:anything}",
    status_code=status.HTTP_204_NO_CONTENT,
    summary="Decide about a call that a turn waits for",
    responses=responses(409),
)
async def answer_approval(session_id: SessionId, turn_id: TurnId, call_id: str, body: Decision, caller: Anyone) -> None:
    """The turn continues when all its calls are answered. The first answer counts; repeating it changes nothing.

    Needs the right `approve`; for results of the sender's own tools (`outside_tools` of the turn), `write` is enough.
    """
    turn = await turn_of(caller, session_id, turn_id)
    if Right.APPROVE not in caller.principal.rights:
        await _check_is_senders(caller, turn, call_id, body)
    match body.action:
        case "approve":
            await turn.aapprove(call_id, args=body.args, always=body.always)
        case "deny":
            await turn.adeny(call_id, body.reason)
        case "provide":
            await turn.aprovide(call_id, body.result)
        case never:
            assert_never(never)


async def _check_is_senders(caller: Caller, turn: Turn, call_id: str, body: Decision) -> None:
    """Refuse a caller without the right to approve, unless the call is one of a tool that the turn's sender has.

    A call that is not waited for (any more) has its first answer, or none: nothing changes it.

    Raises:
        Forbidden: the right is missing.
    """
    caller.principal.need(Right.WRITE if body.action == "provide" else Right.APPROVE)
    if any(call.call_id == call_id and call.waits_for != SENDER for call in await turn.aapprovals()):
        caller.principal.need(Right.APPROVE)
