"""Making a request fit a model's context: the oldest turns of the history are left out, whole.

The limit is known only when a provider refuses a request. Without this every later message of a session would be
refused, too, for the same window would be sent again. A cut at a user's message never parts a tool's return from its
call.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from pydantic_ai.exceptions import ModelAPIError, ModelContextWindowExceededError, ModelHTTPError
from pydantic_ai.messages import ModelMessage, ModelMessagesTypeAdapter, ModelRequest, SystemPromptPart, UserPromptPart

# What servers behind OpenAI's protocol say, where pydantic-ai knows no error of theirs.
_TOO_LONG: Final = re.compile(
    r"context.?(length|window|size)|maximum context|too many (input )?tokens|prompt is too long"
    r"|input (is|was) too long|exceeds? (the )?(model'?s? )?(max|limit).{0,40}token",
    re.I,
)
_REFUSED: Final = (400, 413, 422)


def is_too_long(error: BaseException) -> bool:
    """Whether a provider refused a request because it does not fit the model's context."""
    if isinstance(error, ModelContextWindowExceededError):
        return True
    refused = isinstance(error, ModelHTTPError) and error.status_code in _REFUSED
    return refused and isinstance(error, ModelAPIError) and _TOO_LONG.search(str(error)) is not None


def shortened(messages: Sequence[ModelMessage]) -> list[ModelMessage] | None:
    """The messages without the oldest turns, at most half as large; None when only the open turn is left.

    A system prompt that stood in what is left out goes to the front of what remains.
    """
    starts = [i for i, message in enumerate(messages) if i and _begins_turn(message)]
    if not starts:
        return None
    sizes = [len(ModelMessagesTypeAdapter.dump_json([message])) for message in messages]
    half = sum(sizes) / 2
    cut = next((i for i in starts if sum(sizes[i:]) <= half), starts[-1])
    system = [part for message in messages[:cut] for part in message.parts if isinstance(part, SystemPromptPart)]
    kept = list(messages[cut:])
    if system and isinstance(kept[0], ModelRequest):
        kept[0] = replace(kept[0], parts=[*system, *kept[0].parts])
    return kept


def _begins_turn(message: ModelMessage) -> bool:
    return isinstance(message, ModelRequest) and any(isinstance(part, UserPromptPart) for part in message.parts)
