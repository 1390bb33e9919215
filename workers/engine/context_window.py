"""Making a request fit a model's context: the oldest turns of the history are left out, whole.

The limit is known only when a provider refuses a request. Without this every later message of a session would be
refused, too, for the same window would be sent again. A cut at a user's message never parts a tool's return from its
call.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
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

from workers.engine.transcript import QUOTED

# What servers behind OpenAI's protocol say, where pydantic-ai knows no error of theirs.
_TOO_LONG: Final = re.compile(
    r"context.?(length|window|size|limit)|maximum (context|prompt length)|too many (input )?tokens|prompt is too long"
    r"|input (is|was) too long|exceeds? (the )?(model'?s? )?(max|limit).{0,40}token|max_new_tokens.? must be"
    r"|(prompt|input|request)\b.{0,40}\bexceed(s|ed)?\b.{0,40}(length|token|maximum size)|range of input length"
    r"|array too long",
    re.I,
)
_REFUSED: Final = (400, 422)
# More tokens in one request than the account may send in a minute: no waiting mends that.
_LARGER_THAN_LIMIT: Final = re.compile(r"request too large|tokens must be reduced", re.I)


def is_too_long(error: BaseException) -> bool:
    """Whether a provider refused a request because of its length: that of the model's context, or of any request."""
    if isinstance(error, FallbackExceptionGroup):  # one model of the chain might take a shorter request
        return any(is_too_long(each) for each in error.exceptions)
    if isinstance(error, ModelContextWindowExceededError):
        return True
    if not isinstance(error, ModelHTTPError):
        return False
    if error.status_code in _REFUSED:
        return _TOO_LONG.search(str(error)) is not None
    return error.status_code == 413 or (error.status_code == 429 and _LARGER_THAN_LIMIT.search(str(error)) is not None)


def shortened(messages: Sequence[ModelMessage], turn_id: str = "") -> list[ModelMessage] | None:
    """The messages without the oldest turns, at most half as large; None when only the open turn is left.

    A system prompt that stood in what is left out goes to the front of what remains.

    Args:
        turn_id: the run id of the open turn's messages.
    """
    cuts = list(_cuts(messages, _open_turn(messages, turn_id)))
    if not cuts:
        return None
    sizes = [_size(message) for message in messages]
    half = sum(sizes) / 2
    index, part = next((cut for cut in cuts if _size_behind(messages, sizes, cut) <= half), cuts[-1])
    dropped = [*(part for message in messages[:index] for part in message.parts), *messages[index].parts[:part]]
    system = [part for part in dropped if isinstance(part, SystemPromptPart)]
    first = messages[index]
    if isinstance(first, ModelRequest):
        first = replace(first, parts=[*system, *first.parts[part:]])
    return [first, *messages[index + 1 :]]


def _open_turn(messages: Sequence[ModelMessage], turn_id: str) -> int:
    """The index of the open turn's first message."""
    last = len(messages) - 1
    first = next((i for i, message in enumerate(messages) if turn_id and message.run_id == turn_id), last)
    # A request that pydantic-ai has merged with the one before has no run id: then this is the response to it.
    return first if isinstance(messages[first], ModelRequest) else first - 1


def _cuts(messages: Sequence[ModelMessage], open_turn: int) -> Iterator[tuple[int, int]]:
    """Where a turn begins: the index of a message, and of a part in it.

    Turns of other agents are quoted as the user's, so pydantic-ai merges them with one another and with the message
    behind them. A message that joined a turn beside what tools returned begins none.
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
    return len(ModelMessagesTypeAdapter.dump_json([message]))


def _size_behind(messages: Sequence[ModelMessage], sizes: Sequence[int], cut: tuple[int, int]) -> int:
    index, part = cut
    first = messages[index]
    own = _size(replace(first, parts=first.parts[part:])) if part and isinstance(first, ModelRequest) else sizes[index]
    return own + sum(sizes[index + 1 :])


def _begins_turn(request: ModelRequest) -> bool:
    if any(isinstance(part, ToolReturnPart | RetryPromptPart) for part in request.parts):
        return False
    return any(isinstance(part, UserPromptPart) for part in request.parts)
