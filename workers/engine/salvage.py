"""What a turn that did not complete had finished, as history: read from its journal, without running anything.

Complete model responses and what their tools returned. A call without a return gets one that says so, for no model
takes a call that was never answered.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic_ai.messages import (
    ModelMessage,
    ModelMessagesTypeAdapter,
    ModelRequest,
    ModelRequestPart,
    ModelResponse,
    TextPart,
    ToolCallPart,
    ToolReturnPart,
    UserPromptPart,
)

from sessions.protocol.call import AskKind
from sessions.protocol.state_ops import StateOp
from sessions.protocol.turn import Usage, total
from workers.engine.hooks import BEFORE_TURN
from workers.engine.model_journal import recorded_response
from workers.engine.ports import TurnInput
from workers.engine.steering import steering_key
from workers.engine.tool_record import ToolRecord, recorded_call
from workers.engine.transcript import count_messages
from workers.engine.usage import usage_of

NOT_RUN = "The turn ended before this tool ran."
NOT_ANSWERED = "The turn ended before this agent answered."
UNKNOWN = "The turn ended while this tool ran: it may or may not have taken effect."


@dataclass(frozen=True, slots=True)
class Salvaged:
    """The finished steps of a turn: messages as one JSON array, how many a person would count, and their changes."""

    messages: bytes
    message_count: int
    usage: Usage
    state: list[StateOp] = field(default_factory=list)


def finished_steps(turn: TurnInput, steps: Mapping[str, bytes], unfinished: str = "") -> Salvaged:
    """What a turn with this journal had finished.

    Args:
        unfinished: the text of an answer that was streamed and cut short: its reader has seen it.
    """
    said = json.loads(steps[BEFORE_TURN]) if BEFORE_TURN in steps else turn.message
    messages: list[ModelMessage] = [_request(turn, [UserPromptPart(said), *_steering(steps, 1)])]
    responses: list[ModelResponse] = []
    changes: list[StateOp] = []
    spent: list[Usage] = []
    while (raw := steps.get(f"model:{len(responses) + 1}")) is not None:
        response = recorded_response(raw)
        responses.append(response)
        messages.append(response)
        parts: list[ModelRequestPart] = []
        for call, record in _calls(steps, len(responses), response):
            changes += record.state if record else []
            spent += [record.usage] if record and record.usage else []
            parts.append(_return(call, record))
        parts += _steering(steps, len(responses) + 1)
        if parts:
            messages.append(_request(turn, parts))
    if unfinished.strip():
        messages.append(ModelResponse(parts=[TextPart(unfinished)], run_id=turn.turn_id))
    return Salvaged(
        messages=ModelMessagesTypeAdapter.dump_json(messages),
        message_count=count_messages(messages),
        usage=total([usage_of(responses), *spent]),
        state=changes,
    )


def _request(turn: TurnInput, parts: list[ModelRequestPart]) -> ModelRequest:
    return ModelRequest(parts=parts, run_id=turn.turn_id, conversation_id=turn.session_id)


def _steering(steps: Mapping[str, bytes], number: int) -> list[UserPromptPart]:
    key = steering_key(number)
    texts = json.loads(steps[key]) if steps.get(key) else []
    hooked = (steps.get(f"hooks:{key}:{index}") for index in range(len(texts)))
    return [UserPromptPart(json.loads(h) if h else text) for text, h in zip(texts, hooked, strict=True)]


def _calls(
    steps: Mapping[str, bytes], number: int, response: ModelResponse
) -> Iterator[tuple[ToolCallPart, ToolRecord | None]]:
    for call in response.parts:
        if isinstance(call, ToolCallPart):
            prefix = f"tool:{number}:{call.tool_call_id}:"
            raw = next((value for key, value in steps.items() if key.startswith(prefix)), None)
            yield call, None if raw is None else recorded_call(raw)


def _return(call: ToolCallPart, record: ToolRecord | None) -> ToolReturnPart:
    content: Any
    if record is not None and record.status == "deferred" and record.ask is AskKind.TURN:
        content = NOT_ANSWERED
    elif record is None or record.status == "deferred":
        content = NOT_RUN
    elif record.status == "started":
        content = UNKNOWN
    else:
        content = record.message if record.result is None else record.result.return_value
    finished = record is not None and record.status not in ("started", "deferred")
    outcome: Any = "interrupted" if not finished else "success" if record and record.result else "failed"
    return ToolReturnPart(call.tool_name, content, tool_call_id=call.tool_call_id, outcome=outcome)
