"""How a run ended: its outcome, its usage, and what it waits for."""

from __future__ import annotations

import json
from typing import Any, Final

from ag_ui.core import (
    Interrupt,
    RunFinishedCancelledOutcome,
    RunFinishedInterruptOutcome,
    RunFinishedSuccessOutcome,
    TokenUsage,
)

from sessions.gateway.ag_ui.ids import CallRef
from sessions.gateway.narration import ASKED, Asked, Called, arguments_text
from sessions.protocol.call import CallKind
from sessions.protocol.turn import TurnStatus
from sessions.store.turns import TurnRecord

Outcome = RunFinishedSuccessOutcome | RunFinishedInterruptOutcome | RunFinishedCancelledOutcome
REASON: Final = "tool_call"
_ANSWER: Final[dict[str, Any]] = {
    "type": "object",
    "properties": {
        "approved": {"type": "boolean"},
        "editedArgs": {"type": "object", "description": "To approve: arguments that replace the model's."},
        "always": {"type": "boolean", "description": "To approve: also all further calls of this tool in the session."},
        "reason": {"type": "string", "description": "To deny: what the model is told."},
    },
    "required": ["approved"],
}


def asked_outcome(part: str, asked: Asked) -> Outcome:
    """The outcome of a run that waits for its client: for approvals, or only for results of the client's tools."""
    interrupts = [_interrupt(part, call) for call in asked.others if call.kind in ASKED]
    if interrupts:
        return RunFinishedInterruptOutcome(interrupts=interrupts)
    return RunFinishedSuccessOutcome(pending_tool_call_ids=[str(CallRef(part, call.call_id)) for call in asked.own])


def ended_outcome(record: TurnRecord) -> Outcome:
    """The outcome of a run whose turn has ended without an error."""
    if record.status is TurnStatus.CANCELLED:
        return RunFinishedCancelledOutcome()
    return RunFinishedSuccessOutcome()


def result_of(record: TurnRecord) -> Any:
    """An answer that has a form of its own; None for a plain text."""
    output = json.loads(record.result or b"{}").get("output")
    return None if isinstance(output, str) else output


def usage_of(record: TurnRecord) -> list[TokenUsage] | None:
    """What a turn used."""
    used = record.usage
    if used is None:
        return None
    return [
        TokenUsage(
            model=record.model,
            input_tokens=used.input_tokens,
            output_tokens=used.output_tokens,
            total_tokens=used.input_tokens + used.output_tokens,
            cached_input_tokens=used.cache_read_tokens,
            cache_write_input_tokens=used.cache_write_tokens,
        )
    ]


def _interrupt(part: str, call: Called) -> Interrupt:
    ref = str(CallRef(part, call.call_id))
    what = f"{call.tool}({arguments_text(call.args)})"
    message = f"May {what} run?"
    if call.kind == CallKind.IN_DOUBT:
        message = f"{what} was running when its worker was lost, so nobody knows its outcome. May it run again?"
    return Interrupt(id=ref, reason=REASON, message=message, tool_call_id=ref, response_schema=_ANSWER)
