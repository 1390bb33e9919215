"""What becomes of a call before it runs: it runs, somebody is asked, or it is refused (`@tool(approval=)`)."""

from __future__ import annotations

import asyncio
import inspect
from typing import Any, Final

from broker_config.telemetry import get_logger
from sessions.protocol.call import CallKind
from sessions.tools.decorator import ApprovalDecision, ToolContext, ToolSpec, approval_decision
from workers.engine.pending_calls import waiting_key
from workers.engine.scope import TurnScope

REFUSED: Final = "The tool call was refused: a policy does not allow it."
_log = get_logger(__name__)


async def decided(scope: TurnScope, spec: ToolSpec, context: ToolContext, args: dict[str, Any]) -> ApprovalDecision:
    """What the tool's policy says about a call. A call that somebody was asked about is not decided again."""
    if not callable(spec.approval):
        return approval_decision(spec.approval)
    if scope.journal.lookup(f"ask:{waiting_key(scope, CallKind.APPROVAL, context.call_id)}") is not None:
        return "ask"
    try:
        found = await asyncio.to_thread(spec.approval, context, args)
        return approval_decision(await found if inspect.isawaitable(found) else found)
    except Exception as error:  # noqa: BLE001 - whatever went wrong, a person can decide
        _log.warning("approval_policy_failed", tool=spec.name, call=context.call_id, error=repr(error))
        return "ask"
