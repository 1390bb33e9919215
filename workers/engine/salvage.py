"""Builds the history of a turn that did not complete from its journal, without running anything.

The history contains the recorded model responses and tool results. A call without a result gets one that says so,
since models reject a history with unanswered calls.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from pydantic_ai.messages import (
    ModelMessage,
    ModelRequest,
    ModelRequestPart,
    ModelResponse,
    TextPart,
    ToolCallPart,
    ToolReturnPart,
    UserContent,
    UserPromptPart,
)

from sessions.protocol.call import CallKind
from sessions.protocol.state_ops import StateOp
from workers.engine.attachments import prompt
from workers.engine.hooks import BEFORE_TURN
from workers.engine.message_files import FETCHED, recorded_parts, steering_message
from workers.engine.model_record import load_response
from workers.engine.ports import TurnInput
from workers.engine.steering import steering_key
from workers.engine.stored_messages import dump_messages
from workers.engine.tool_record import ToolRecord, load_call
from workers.engine.transcript import count_messages

NOT_RUN = "The turn ended before this tool ran."
NOT_ANSWERED = "The turn ended before this agent answered."
UNKNOWN = "The turn ended while this tool ran: it may or may not have taken effect."


@dataclass(frozen=True, slots=True)
class Salvaged:
    """The completed steps of a turn.

    Attributes:
        messages: one JSON array in pydantic-ai's format.
        message_count: how many of them a person would count.
        state: the changes that tools made to the session's state.
    """

    messages: bytes
    message_count: int
    state: list[StateOp] = field(default_factory=list)


def completed_steps(turn: TurnInput, steps: Mapping[str, bytes], partial_text: str = "") -> Salvaged:
    """The completed steps of a turn with this journal.

    Args:
        turn: the turn's input.
        steps: its journal.
        partial_text: the text of a streamed answer that was cut short. It is kept because the user has seen it.
    """
    message = json.loads(steps[BEFORE_TURN]) if BEFORE_TURN in steps else turn.message
    asked = UserPromptPart(prompt(message, recorded_parts(turn.parts, FETCHED, steps), turn.message))
    messages: list[ModelMessage] = [_request(turn, [asked, *_steering(steps, 1)])]
    changes: list[StateOp] = []
    number = 1
    while (raw := steps.get(f"model:{number}")) is not None:
        response = replace(load_response(raw), run_id=turn.turn_id, conversation_id=turn.session_id)
        messages.append(response)
        parts: list[ModelRequestPart] = []
        for call, record in _calls(steps, number, response):
            changes += record.state if record else []
            parts.append(_return(call, record))
        number += 1
        parts += _steering(steps, number)
        if parts:
            messages.append(_request(turn, parts))
    if partial_text.strip():
        said = [TextPart(partial_text)]
        messages.append(ModelResponse(said, run_id=turn.turn_id, conversation_id=turn.session_id))
    return Salvaged(
        messages=dump_messages(messages, turn_id=turn.turn_id, session_id=turn.session_id),
        message_count=count_messages(messages),
        state=changes,
    )


def _request(turn: TurnInput, parts: list[ModelRequestPart]) -> ModelRequest:
    return ModelRequest(parts=parts, run_id=turn.turn_id, conversation_id=turn.session_id)


def _steering(steps: Mapping[str, bytes], number: int) -> list[UserPromptPart]:
    key = steering_key(number)
    entries = json.loads(steps[key]) if steps.get(key) else []
    return [UserPromptPart(_steered(steps, f"{key}:{index}", entry)) for index, entry in enumerate(entries)]


def _steered(steps: Mapping[str, bytes], key: str, entry: object) -> str | list[UserContent]:
    sent, parts = steering_message(entry)
    hooked = steps.get(f"hooks:{key}")
    text = json.loads(hooked) if hooked else sent
    return prompt(text, recorded_parts(parts, f"files:{key}", steps), sent)


def _calls(
    steps: Mapping[str, bytes], number: int, response: ModelResponse
) -> Iterator[tuple[ToolCallPart, ToolRecord | None]]:
    for call in response.parts:
        if isinstance(call, ToolCallPart):
            prefix = f"tool:{number}:{call.tool_call_id}:"
            raw = next((value for key, value in steps.items() if key.startswith(prefix)), None)
            yield call, None if raw is None else load_call(raw)


def _return(call: ToolCallPart, record: ToolRecord | None) -> ToolReturnPart:
    content: Any
    if record is not None and record.status == "deferred" and record.ask is CallKind.TURN:
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
