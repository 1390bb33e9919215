"""What the journal and the answers of people say of a call, asked before its tool is.

A deploy may have changed the tool while the turn was open: its arguments, or whether it needs an approval. What has
been done or decided stays so.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

from pydantic import ValidationError
from pydantic_ai import ModelRetry, ToolFailed
from pydantic_ai.messages import ToolCallPart
from pydantic_ai.tools import RunContext, ToolDefinition

from sessions.protocol.call import Answer, AskKind
from sessions.tools.decorator import ToolSpec
from workers.engine.pending_calls import ask_key, denial
from workers.engine.scope import TurnScope
from workers.engine.tool_record import ToolRecord, recorded_call

Arguments = str | dict[str, Any]


def tool_key(scope: TurnScope, call_id: str, retry: int) -> str:
    """The journal's key of a call.

    The request's number guards against providers that use a call id again, the retry against repair rounds.
    """
    return f"tool:{scope.requests}:{call_id}:{retry}"


def begun_call(scope: TurnScope, call_id: str, retry: int) -> ToolRecord | None:
    """What the journal has of a call."""
    raw = scope.journal.lookup(tool_key(scope, call_id, retry))
    return None if raw is None else recorded_call(raw)


def must_run(record: ToolRecord | None, spec: ToolSpec) -> bool:
    """Whether the tool has to run, or run again, for its call to have a result."""
    if record is None:
        return True
    if record.status == "deferred":
        return record.ask is AskKind.APPROVAL
    return record.status == "started" and spec.retry == "safe"


async def arguments(
    scope: TurnScope,
    ctx: RunContext[Any],
    call: ToolCallPart,
    tool: ToolDefinition,
    args: Arguments,
    check: Callable[[Arguments], Awaitable[dict[str, Any]]],
) -> dict[str, Any]:
    """The arguments of a call, checked where its tool has to run.

    Raises:
        ToolFailed: a person has denied the call, while its tool still needed an approval.
    """
    spec = scope.specs.get(call.tool_name) or ToolSpec(call.tool_name)
    record = begun_call(scope, call.tool_call_id, ctx.retry)
    if record is not None and not must_run(record, spec):
        if record.status == "started" and spec.in_doubt == "wait":  # a person may have it run again
            with suppress(ValidationError, ModelRetry, ToolFailed):
                return await check(args)
        return call.args_as_dict()
    if record is None and tool.kind == "function" and not ctx.tool_call_approved:
        args = _approved(scope, call.tool_call_id, args)
    return await check(args)


def _approved(scope: TurnScope, call_id: str, args: Arguments) -> Arguments:
    raw = scope.journal.lookup(f"answer:{ask_key(scope, AskKind.APPROVAL, call_id)}")
    answer = None if raw is None else Answer.model_validate_json(raw)
    if answer is None:
        return args
    if answer.action == "deny":
        raise ToolFailed(denial(answer))
    return args if answer.args is None else answer.args
