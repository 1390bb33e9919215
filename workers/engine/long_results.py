"""Shortens long tool results in the prompts of later turns. The history keeps each one in full.

The beginning and the end of a result are kept. The same result always becomes the same text, so that a request still
begins with the one before it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any, Final

from pydantic_ai.messages import ModelMessage, ModelMessagesTypeAdapter, ModelRequest, ModelRequestPart, ToolReturnPart

from workers.engine.attachments import parts_in

_HEAD: Final = 2 / 3
_NOTE: Final = 100  # bytes, of what says how much is left out
RESULT_BYTES: Final = 16 * 1024
"""The bytes to which results of past turns are shortened by default."""
SHORTEST: Final = 512
"""The fewest bytes to which a result is shortened."""


def with_short_results(messages: Sequence[ModelMessage], limit: int) -> list[ModelMessage]:
    """The messages with their tool results shortened to about so many bytes each."""
    return [_message(message, limit) for message in messages]


def long_results(messages: Iterable[ModelMessage], limit: int) -> int:
    """The bytes of those tool results that are longer than the limit."""
    results = (part for message in messages for part in message.parts if isinstance(part, ToolReturnPart))
    return sum(size for part in results if (size := _size(part)) > limit)


def prompt_bytes(messages: bytes, limit: int) -> int:
    """The size of a past turn in prompts."""
    if len(messages) <= limit:  # none of its results is longer
        return len(messages)
    loaded = ModelMessagesTypeAdapter.validate_json(messages)
    return len(messages) - long_results(loaded, 0) + long_results(with_short_results(loaded, limit), 0)


def _message(message: ModelMessage, limit: int) -> ModelMessage:
    if not isinstance(message, ModelRequest):
        return message
    parts = [_part(part, limit) for part in message.parts]
    changed = any(new is not old for new, old in zip(parts, message.parts, strict=True))
    return replace(message, parts=parts) if changed else message


def _part(part: ModelRequestPart, limit: int) -> ModelRequestPart:
    if not isinstance(part, ToolReturnPart) or _size(part) <= limit:
        return part
    return replace(part, content=_shortened(part, limit))


def _size(part: ToolReturnPart) -> int:
    return len(_text(part).encode())


def _text(part: ToolReturnPart) -> str:
    return part.content if isinstance(part.content, str) else part.model_response_str(wrap_if_error=False)


def _shortened(part: ToolReturnPart, limit: int) -> Any:
    content = part.content
    if isinstance(content, list | tuple) and parts_in(content):  # its files stay
        return [ends_of(each, limit) if isinstance(each, str) else each for each in content]
    return ends_of(_text(part), limit)


def ends_of(text: str, limit: int, what: str = "result") -> str:
    """The beginning and the end of a text, and how much is left out: within the limit, so that it stays as it is.

    Args:
        what: the text is, for the note of what is left out.
    """
    raw = text.encode()
    if len(raw) <= limit:
        return text
    head = int((limit - _NOTE) * _HEAD)
    tail = limit - _NOTE - head
    first, last = raw[:head].decode(errors="ignore"), raw[len(raw) - tail :].decode(errors="ignore")
    left_out = len(raw) - len(first.encode()) - len(last.encode())
    return f"{first}\n[... {left_out:,} of {len(raw):,} bytes of this {what} are left out here ...]\n{last}"
