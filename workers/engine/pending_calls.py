"""Calls that wait for somebody outside: an approval, a result that comes from elsewhere, a person's word on a doubt.

A question is a step of the journal, and so is its answer, which a client writes there. A run that meets a question
without an answer goes on with the calls beside it, and then stops; the next run, begun when all are answered, comes
to the same place and finds them.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from pydantic_ai.messages import ToolCallPart, ToolReturn
from pydantic_ai.tools import DeferredToolRequests, DeferredToolResults, ToolApproved, ToolDenied

from sessions.protocol.call import Answer, Ask, AskKind
from workers.engine.ports import Waiting
from workers.engine.scope import TurnScope

DENIED = "The tool call was denied."


def ask_key(scope: TurnScope, kind: AskKind, call_id: str, again: int = 0) -> str:
    """The name of a question: by the model response that holds the call, for providers use a call id again."""
    return f"{scope.requests}:{kind}{again or ''}:{call_id}"


def answer_to(scope: TurnScope, ask: Ask) -> Answer | None:
    """The answer to a question; without one, it is noted that the turn must wait for it."""
    raw = scope.journal.lookup(f"answer:{ask.key}")
    if raw is not None:
        return Answer.model_validate_json(raw)
    scope.pending[ask.key] = ask
    return None


def resolve(scope: TurnScope, requests: DeferredToolRequests, begun: Collection[str]) -> DeferredToolResults | None:
    """The answers to the calls that the engine itself put off.

    Args:
        begun: the ids of calls that ran before their tool needed an approval. Nobody is asked about those again.

    Raises:
        Waiting: one of them, or of those that tools put off, has no answer yet.
    """
    results = DeferredToolResults()
    for call in requests.approvals:
        if call.tool_call_id in begun:
            results.approvals[call.tool_call_id] = ToolApproved()
            continue
        answer = answer_to(scope, _ask(scope, AskKind.APPROVAL, call, requests))
        if answer is not None:
            results.approvals[call.tool_call_id] = _approval(answer)
    for call in requests.calls:
        if any(ask.call_id == call.tool_call_id for ask in scope.pending.values()):
            continue  # its tool has asked already
        answer = answer_to(scope, _ask(scope, AskKind.RESULT, call, requests))
        if answer is not None:
            given = denial(answer) if answer.action == "deny" else answer.result
            results.calls[call.tool_call_id] = ToolReturn(return_value=given)
    stop_if_waiting(scope)
    return results


def stop_if_waiting(scope: TurnScope) -> None:
    """Called when nothing else is left to do.

    Raises:
        Waiting: there are questions without an answer.
    """
    if scope.pending:
        raise scope.abort(Waiting(list(scope.pending.values())))


def _ask(scope: TurnScope, kind: AskKind, call: ToolCallPart, requests: DeferredToolRequests) -> Ask:
    metadata = requests.metadata.get(call.tool_call_id) or {}
    return Ask(
        key=ask_key(scope, kind, call.tool_call_id),
        call_id=call.tool_call_id,
        tool=call.tool_name,
        args=call_arguments(call),
        kind=kind,
        metadata=metadata,
    )


def call_arguments(call: ToolCallPart) -> Any:
    """The arguments of a call as JSON, or as the text that is none."""
    if isinstance(call.args, str):
        try:
            return call.args_as_dict(raise_if_invalid=True)
        except (ValueError, AssertionError):  # the latter for JSON that is no object
            return call.args
    return call.args or {}


def _approval(answer: Answer) -> ToolApproved | ToolDenied:
    if answer.action == "deny":
        return ToolDenied(denial(answer))
    return ToolApproved(override_args=answer.args)


def denial(answer: Answer) -> str:
    """What the model is told of a call that was denied."""
    return f"{DENIED} {answer.reason}".strip() if answer.reason else DENIED
