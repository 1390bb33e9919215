"""Past turns as text, for the model that summarises them: messages, tool calls, and what the tools returned.

Files are named and not sent. Long messages and results are shortened to their two ends, so that a turn of any size has
a text of bounded size. Thoughts of models are left out.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any, Final

from pydantic_ai.messages import (
    BinaryContent,
    FileUrl,
    ModelMessage,
    ModelMessagesTypeAdapter,
    TextPart,
    ToolCallPart,
    ToolReturnPart,
    UserPromptPart,
)
from pydantic_core import to_json

from sessions.errors import CorruptRecord
from workers.engine.attachments import described
from workers.engine.long_results import ends_of
from workers.engine.pending_calls import call_arguments
from workers.engine.ports import PastTurn

_MESSAGE: Final = 8 * 1024
_RESULT: Final = 1024
_ARGUMENTS: Final = 512
"""Bytes of a message, of a tool's result, and of the arguments that it was called with."""


def text_of(turn: PastTurn, limit: int) -> str:
    """A past turn as text of at most about so many bytes.

    Raises:
        CorruptRecord: its messages are not of this or an earlier version.
    """
    try:
        messages = ModelMessagesTypeAdapter.validate_json(turn.messages)
    except ValueError as error:
        raise CorruptRecord(f"the session's history cannot be read by this worker: {error}") from error
    lines = _lines(messages, turn, min(_MESSAGE, limit // 2))
    return ends_of("\n".join(lines), limit, "turn")


def _lines(messages: list[ModelMessage], turn: PastTurn, longest: int) -> Iterator[str]:
    for message in messages:
        for part in message.parts:
            match part:
                case UserPromptPart():
                    yield f"User: {ends_of(_prompt(part), longest, 'message')}"
                case TextPart() if part.content.strip():
                    yield f"{turn.agent}: {ends_of(part.content, longest, 'message')}"
                case ToolCallPart():
                    arguments = json.dumps(call_arguments(part), ensure_ascii=False)
                    yield f"{turn.agent} calls {part.tool_name}({ends_of(arguments, _ARGUMENTS, 'text')})"
                case ToolReturnPart():
                    yield f"{part.tool_name} returns: {ends_of(_result(part.content), _RESULT)}"
    if turn.incomplete:
        yield f"(This turn did not complete: {turn.incomplete}.)"


def _prompt(part: UserPromptPart) -> str:
    return part.content if isinstance(part.content, str) else "\n".join(map(described, part.content))


def _result(content: Any) -> str:
    named = _named(content)
    return named if isinstance(named, str) else to_json(named, fallback=described).decode()


def _named(value: Any) -> Any:
    """A tool's result with the names of files in their places."""
    match value:
        case FileUrl() | BinaryContent():
            return described(value)
        case Mapping():
            return {key: _named(each) for key, each in value.items()}
        case list() | tuple():
            return [_named(each) for each in value]
    return value
