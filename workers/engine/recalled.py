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
    request = messages[index]
    if not isinstance(request, ModelRequest):
        return messages
    parts = list(request.parts)
    for place, part in reversed(list(enumerate(parts))):
        if isinstance(part, UserPromptPart):
            parts[place] = replace(part, content=_followed(part.content, _block(text), mark_cache=mark_cache))
            break
    return [*messages[:index], replace(request, parts=parts), *messages[index + 1 :]]


def _followed(content: str | Sequence[UserContent], block: str, *, mark_cache: bool) -> str | list[UserContent]:
    if isinstance(content, str) and not mark_cache:  # some servers take only texts, and some templates only one message
        return f"{content}\n\n{block}"
    own: list[UserContent] = [content] if isinstance(content, str) else list(content)
    return [*own, CachePoint(), block] if mark_cache and own else [*own, block]


def _block(text: str) -> str:
    inside = re.sub(r"<(?=/?retrieved>)", "< ", text)  # a document must not end the block
    return f"{_OPEN}\n{_NOTE}\n\n{inside}\n{_CLOSE}"


def split_recalled(prompt: str) -> tuple[str, str]:
    """A prompt's message, and the text that `with_recalled` added; for models in this process that read both."""
    found = _BLOCK.search(prompt)
    return (prompt, "") if found is None else (prompt[: found.start()], found[1])
