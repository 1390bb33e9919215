"""Calls that wait for an answer from outside: an approval, an outside result, or a decision about a call in doubt.

The question and the answer are both journal entries; a client writes the answer. A run that reaches an unanswered call
continues with the other calls of the same response and then stops. The next run, which starts when all of them are
answered, replays to the same place and finds the answers.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from pydantic_ai.messages import ToolCallPart, ToolReturn
from pydantic_ai.tools import DeferredToolRequests, DeferredToolResults, ToolApproved, ToolDenied

from sessions.protocol.call import SENDER, CallAnswer, CallKind, WaitingCall, denial
from workers.engine.ports import Waiting
from workers.engine.scope import TurnScope


def waiting_key(scope: TurnScope, kind: CallKind, call_id: str, again: int = 0) -> str:
    """The key of a pending call. It contains the number of the model response, since some providers reuse call ids."""
    return f"{scope.requests}:{kind}{again or ''}:{call_id}"


def answer_to(scope: TurnScope, call: WaitingCall) -> CallAnswer | None:
    """The answer to a pending call. If there is none, the call is added to those that the turn waits for."""
    raw = scope.journal.lookup(f"answer:{call.key}")
    if raw is not None:
        return CallAnswer.model_validate_json(raw)
    scope.pending[call.key] = call
    return None


async def approved_always(scope: TurnScope, requests: DeferredToolRequests) -> set[str]:
    """The ids of calls whose tool somebody approved for the whole session, before anybody was asked about the call."""
    new = [
        call
        for call in requests.approvals
        if scope.journal.lookup(f"ask:{waiting_key(scope, CallKind.APPROVAL, call.tool_call_id)}") is None
    ]
    if not new:
        return set()
    tools = await scope.journal.approved_tools()
    return {call.tool_call_id for call in new if call.tool_name in tools}


def resolve_deferred(
    scope: TurnScope, requests: DeferredToolRequests, approved: Collection[str]
) -> DeferredToolResults | None:
    """The answers to the calls that pydantic-ai deferred.

    Args:
        approved: the ids of calls that need no answer: they ran before their tool needed approval, or somebody approved
            the tool for the whole session.

    Raises:
        Waiting: one of them, or of the calls that tools deferred, has no answer yet.
    """
    results = DeferredToolResults()
    for call in requests.approvals:
        if call.tool_call_id in approved:
            results.approvals[call.tool_call_id] = ToolApproved()
            continue
        answer = answer_to(scope, _waiting_call(scope, CallKind.APPROVAL, call, requests))
        if answer is not None:
            results.approvals[call.tool_call_id] = _approval(answer)
    for call in requests.calls:
        if any(waiting.call_id == call.tool_call_id for waiting in scope.pending.values()):
            continue  # its tool deferred it, and is already in the list
        answer = answer_to(scope, _waiting_call(scope, CallKind.RESULT, call, requests))
        if answer is not None:
            given = denial(answer.reason) if answer.action == "deny" else answer.result
            results.calls[call.tool_call_id] = ToolReturn(return_value=given)
    stop_if_waiting(scope)
    return results


def stop_if_waiting(scope: TurnScope) -> None:
    """Stop the run when nothing else is left to do.

    Raises:
        Waiting: there are unanswered calls.
    """
    if scope.pending:
        raise scope.abort(Waiting(list(scope.pending.values())))


def _waiting_call(scope: TurnScope, kind: CallKind, call: ToolCallPart, requests: DeferredToolRequests) -> WaitingCall:
    metadata = requests.metadata.get(call.tool_call_id) or {}
    return WaitingCall(
        key=waiting_key(scope, kind, call.tool_call_id),
        call_id=call.tool_call_id,
        tool=call.tool_name,
        args=call_arguments(call),
        kind=kind,
        metadata=metadata,
        waits_for=SENDER if any(tool.name == call.tool_name for tool in scope.turn.additions.tools) else None,
    )


def call_arguments(call: ToolCallPart) -> Any:
    """The arguments of a call as a JSON object, or the original string if it is not one."""
    if isinstance(call.args, str):
        try:
            return call.args_as_dict(raise_if_invalid=True)
        except (ValueError, AssertionError):  # AssertionError: the JSON is not an object
            return call.args
    return call.args or {}


def _approval(answer: CallAnswer) -> ToolApproved | ToolDenied:
    if answer.action == "deny":
        return ToolDenied(denial(answer.reason))
    return ToolApproved(override_args=answer.args)
