"""Shortens a request that exceeds the model's context: by leaving out the oldest turns, and by shortening tool results.

The limit is known only once a provider refuses a request. Without this, every later message of the session would be
refused too, since it would send the same history. Whole turns are left out, so that no tool result loses its call.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Final

from pydantic_ai.exceptions import FallbackExceptionGroup, ModelContextWindowExceededError, ModelHTTPError
from pydantic_ai.messages import (
    ModelMessage,
    ModelMessagesTypeAdapter,
    ModelRequest,
    RetryPromptPart,
    SystemPromptPart,
    ToolReturnPart,
    UserPromptPart,
)

from workers.engine.attachments import bytes_of_files
from workers.engine.long_results import RESULT_BYTES, SHORTEST, long_results, with_short_results
from workers.engine.summary import put_back, without_summary
from workers.engine.transcript import QUOTED

# Error messages of servers that speak OpenAI's protocol, for which pydantic-ai has no exception class.
_TOO_LONG: Final = re.compile(
    r"context.?(length|window|size|limit)|maximum (context|prompt length)|too many (input )?tokens|prompt is too long"
    r"|input (is|was) too long|exceeds? (the )?(model'?s? )?(max|limit).{0,40}token|max_new_tokens.? must be"
    r"|(prompt|input|request)\b.{0,40}\bexceed(s|ed)?\b.{0,40}(length|token|maximum size)|range of input length"
    r"|array too long",
    re.I,
)
_REFUSED: Final = (400, 422)
# One request has more tokens than the account may send in a minute, so that waiting does not help.
_LARGER_THAN_LIMIT: Final = re.compile(r"request too large|tokens must be reduced", re.I)


def is_too_long(error: BaseException) -> bool:
    """Whether a provider refused a request because it exceeds the model's context or the maximum request size."""
    if isinstance(error, FallbackExceptionGroup):  # one model of the chain might accept a shorter request
        return any(is_too_long(each) for each in error.exceptions)
    if isinstance(error, ModelContextWindowExceededError):
        return True
    if not isinstance(error, ModelHTTPError):
        return False
    if error.status_code in _REFUSED:
        return _TOO_LONG.search(str(error)) is not None
    return error.status_code == 413 or (error.status_code == 429 and _LARGER_THAN_LIMIT.search(str(error)) is not None)


def shortened(
    messages: Sequence[ModelMessage], turn_id: str = "", result_bytes: int = RESULT_BYTES
) -> list[ModelMessage] | None:
    """The messages at most half as large; None if nothing is left to leave out.

    If most of it are tool results longer than those of past turns may be, these are shortened first. Then the oldest
    turns are left out; system prompts of the dropped messages are moved to the front of the remaining ones. If only the
    open turn is left, its results are shortened more and more, the oldest first. The summary of earlier turns stays,
    unless nothing else can be left out.

    Args:
        messages: the request's messages.
        turn_id: the run id of the open turn's messages.
        result_bytes: the bytes that tool results of past turns may have.
    """
    summary, others = without_summary(messages)
    less = _shortened(others, turn_id, result_bytes)
    if less is None:
        return others if summary else None
    return put_back(less, summary)


def _shortened(messages: list[ModelMessage], turn_id: str, result_bytes: int) -> list[ModelMessage] | None:
    sizes = [_size(message) for message in messages]
    half = sum(sizes) / 2
    if long_results(messages, result_bytes) > half:
        return with_short_results(messages, result_bytes)
    cuts = list(_cuts(messages, open_turn_index(messages, turn_id)))
    if not cuts:
        return _with_shorter_results(messages, half, result_bytes)
    index, part = next((cut for cut in cuts if _size_after(messages, sizes, cut) <= half), cuts[-1])
    dropped = [*(part for message in messages[:index] for part in message.parts), *messages[index].parts[:part]]
    system = [part for part in dropped if isinstance(part, SystemPromptPart)]
    first = messages[index]
    if isinstance(first, ModelRequest):
        first = replace(first, parts=[*system, *first.parts[part:]])
    return [first, *messages[index + 1 :]]


def open_turn_index(messages: Sequence[ModelMessage], turn_id: str) -> int:
    """The index of the open turn's first message."""
    last = len(messages) - 1
    first = next((i for i, message in enumerate(messages) if turn_id and message.run_id == turn_id), last)
    # pydantic-ai may have merged the turn's request with the one before it, which removes the run id. Then the first
    # message with the id is the response to that request.
    return first if isinstance(messages[first], ModelRequest) else first - 1


def _cuts(messages: Sequence[ModelMessage], open_turn: int) -> Iterator[tuple[int, int]]:
    """Where turns begin: the index of a message, and of a part in it.

    Turns of other agents are quoted as user prompts, so pydantic-ai merges them with each other and with the message
    that follows. A steering message next to tool results does not begin a turn.
    """
    for index, message in enumerate(messages[: open_turn + 1]):
        if isinstance(message, ModelRequest) and _begins_turn(message):
            if index:
                yield index, 0
            for number in range(1, len(message.parts)):
                if _is_quoted(message.parts[number - 1]):
                    yield index, number


def _is_quoted(part: object) -> bool:
    return isinstance(part, UserPromptPart) and isinstance(part.content, str) and part.content.startswith(QUOTED)


def _size(message: ModelMessage) -> int:
    return len(ModelMessagesTypeAdapter.dump_json([message])) + bytes_of_files(message)


def prompts_in(messages: Iterable[ModelMessage]) -> int:
    """How many user prompts there are; fewer once old turns were left out."""
    return sum(isinstance(part, UserPromptPart) for message in messages for part in message.parts)


def _with_shorter_results(messages: Sequence[ModelMessage], most: float, limit: int) -> list[ModelMessage] | None:
    """The messages with as many results shortened as this size requires; None if there is nothing to shorten."""
    shorter, size, changed = list(messages), sum(map(_size, messages)), False
    while limit >= SHORTEST:
        for index, message in enumerate(shorter):
            if size <= most:
                return shorter
            [less] = with_short_results([message], limit)
            if less is not message:
                size -= _size(message) - _size(less)
                shorter[index], changed = less, True
        limit //= 4
    return shorter if changed else None


def _size_after(messages: Sequence[ModelMessage], sizes: Sequence[int], cut: tuple[int, int]) -> int:
    index, part = cut
    first = messages[index]
    own = _size(replace(first, parts=first.parts[part:])) if part and isinstance(first, ModelRequest) else sizes[index]
    return own + sum(sizes[index + 1 :])


def _begins_turn(request: ModelRequest) -> bool:
    if any(isinstance(part, ToolReturnPart | RetryPromptPart) for part in request.parts):
        return False
    return any(isinstance(part, UserPromptPart) for part in request.parts)
