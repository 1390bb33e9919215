"""Puts the memories and passages that were found for a turn's message into its model requests.

They follow the user's message, after the history, so that everything before them is the same as in the session's last
request and a provider finds it in its cache. They are added when a request is made: neither history nor fingerprints
have them, so the next turn's request has the message alone.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from pydantic_ai.messages import CachePoint, ModelMessage, ModelRequest, UserContent, UserPromptPart
from pydantic_ai.models._prompt_cache import LOOKBACK_SAFE_BLOCKS

from workers.engine.context_window import open_turn_index

_OPEN: Final = "<retrieved>"
_CLOSE: Final = "</retrieved>"
_NOTE: Final = "Found for this message in memory and documents. The user did not write it."
_BLOCK: Final = re.compile(rf"\n*{_OPEN}\n{re.escape(_NOTE)}\n\n(.*)\n{_CLOSE}\Z", re.S)


def with_recalled(messages: list[ModelMessage], turn_id: str, text: str, *, mark_cache: bool) -> list[ModelMessage]:
    """The messages of a request, with the text behind the user's message.

    Args:
        turn_id: the run id of the open turn's messages.
        text: the memories and passages.
        mark_cache: mark where the part ends that the next turn's request has, too. Providers with such marks find
            nothing without it, because the end of the request is different in each turn.
    """
    index = open_turn_index(messages, turn_id)
    past, request, rest = messages[:index], messages[index], messages[index + 1 :]
    if mark_cache and not rest:
        past = _marked(past)
    return [*past, _followed(request, [CachePoint(), _block(text)] if mark_cache else [_block(text)]), *rest]


def _marked(past: list[ModelMessage]) -> list[ModelMessage]:
    """Past turns with a mark where the last one had its own, if that is too far from the next one to be found."""
    if not past:
        return past
    index = open_turn_index(past, past[-1].run_id or "")
    if sum(len(message.parts) for message in past[index + 1 :]) < LOOKBACK_SAFE_BLOCKS - 1:
        return past
    return [*past[:index], _followed(past[index], [CachePoint()]), *past[index + 1 :]]


def _followed(message: ModelMessage, more: list[UserContent]) -> ModelMessage:
    """The message with more content behind its last user prompt."""
    if not isinstance(message, ModelRequest):
        return message
    parts = list(message.parts)
    for place, part in reversed(list(enumerate(parts))):
        if isinstance(part, UserPromptPart):
            parts[place] = replace(part, content=_content(part.content, more))
            break
    return replace(message, parts=parts)


def _content(content: str | Sequence[UserContent], more: list[UserContent]) -> str | list[UserContent]:
    if not isinstance(content, str):
        return [*content, *more]
    if all(isinstance(each, str) for each in more):  # some servers take only texts, and some templates only one message
        return "\n\n".join([content, *map(str, more)])
    return [content, *more] if content else [each for each in more if not isinstance(each, CachePoint)]


def _block(text: str) -> str:
    inside = re.sub(r"<(?=/?retrieved>)", "< ", text)  # a document must not end the block
    return f"{_OPEN}\n{_NOTE}\n\n{inside}\n{_CLOSE}"


def split_recalled(prompt: str) -> tuple[str, str]:
    """A prompt's message, and the text that `with_recalled` added; for models in this process that read both."""
    found = _BLOCK.search(prompt)
    return (prompt, "") if found is None else (prompt[: found.start()], found[1])
