"""Looks a tool call up in the journal before the tool is consulted.

A deployment may have changed the tool while the turn was open: its parameters, or whether it needs approval. What was
already executed or decided under the old definition stays valid.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

from pydantic import ValidationError
from pydantic_ai import ModelRetry, ToolFailed
from pydantic_ai.messages import ToolCallPart
from pydantic_ai.tools import RunContext, ToolDefinition

from sessions.protocol.call import CallAnswer, CallKind, denial
from sessions.tools.decorator import ToolSpec
from workers.engine.pending_calls import waiting_key
from workers.engine.scope import TurnScope
from workers.engine.tool_record import ToolRecord, load_call

Arguments = str | dict[str, Any]


def tool_key(scope: TurnScope, call_id: str, retry: int) -> str:
    """The journal key of a call.

    It contains the number of the model request, since some providers reuse call ids, and the retry, since the model
    may repeat a call with corrected arguments.
    """
    return f"tool:{scope.requests}:{call_id}:{retry}"


def find_call(scope: TurnScope, call_id: str, retry: int) -> ToolRecord | None:
    """The journal's record of a call, or None."""
    raw = scope.journal.lookup(tool_key(scope, call_id, retry))
    return None if raw is None else load_call(raw)


def must_run(record: ToolRecord | None, spec: ToolSpec) -> bool:
    """Whether the tool has to run, possibly again, to give the call a result."""
    if record is None:
        return True
    if record.status == "deferred":
        return record.ask is CallKind.APPROVAL
    return record.status == "started" and spec.retry == "safe"


async def validated_arguments(
    scope: TurnScope,
    ctx: RunContext[Any],
    call: ToolCallPart,
    tool: ToolDefinition,
    args: Arguments,
    validate: Callable[[Arguments], Awaitable[dict[str, Any]]],
) -> dict[str, Any]:
    """The arguments of a call, validated if its tool has to run.

    Raises:
        ToolFailed: a person denied the call when its tool still needed approval.
    """
    spec = scope.spec(call.tool_name)
    record = find_call(scope, call.tool_call_id, ctx.retry)
    if record is not None and not must_run(record, spec):
        if record.status == "started" and spec.in_doubt == "wait":  # a person may decide to run it again
            with suppress(ValidationError, ModelRetry, ToolFailed):
                return await validate(args)
        return call.args_as_dict()
    if record is None and tool.kind == "function" and not ctx.tool_call_approved:
        args = _approved_arguments(scope, call.tool_call_id, args)
    return await validate(args)


def _approved_arguments(scope: TurnScope, call_id: str, args: Arguments) -> Arguments:
    raw = scope.journal.lookup(f"answer:{waiting_key(scope, CallKind.APPROVAL, call_id)}")
    answer = None if raw is None else CallAnswer.model_validate_json(raw)
    if answer is None:
        return args
    if answer.action == "deny":
        raise ToolFailed(denial(answer.reason))
    return args if answer.args is None else answer.args
