"""Steering: messages that are added to a running turn before a model call, and on a replay before the same call."""

from __future__ import annotations

import json

from pydantic_ai.messages import UserContent

from sessions.protocol.message import file_ids
from workers.engine.attachments import prompt
from workers.engine.message_files import fetched_parts, steering_message
from workers.engine.scope import TurnScope


def steering_key(number: int) -> str:
    """The journal key of the messages that were added before this model call."""
    return f"steer:{number}"


async def next_steering(scope: TurnScope) -> list[list[UserContent]]:
    """The messages to add before the turn's next model call. Each message is returned once per run.

    If the response to that call is already recorded, only the messages that it saw are returned.
    """
    number = scope.requests + 1
    if scope.aborted is not None or number in scope.steered:
        return []
    key = steering_key(number)
    raw = scope.journal.lookup(key)
    if raw is None and scope.state.steering_pending and scope.journal.lookup(f"model:{number}") is None:
        raw = await _take(scope, key)
    if not raw:
        return []
    scope.steered.add(number)
    return [await _prompt(scope, entry, f"{key}:{index}") for index, entry in enumerate(json.loads(raw))]


async def _prompt(scope: TurnScope, entry: object, key: str) -> list[UserContent]:
    """A steering message as content of the next request, as the hooks leave it, with its files in the session."""
    sent, parts = steering_message(entry)
    text = await scope.hooks.before_turn(sent, scope.journal, key=f"hooks:{key}")
    parts = await fetched_parts(parts, f"files:{key}", scope.journal, scope.state)
    scope.own_files.update(file_ids(parts))
    content = prompt(text, parts, sent)
    return [content] if isinstance(content, str) else content


async def _take(scope: TurnScope, key: str) -> bytes:
    try:
        return await scope.journal.take_steering(key)
    except Exception as error:
        scope.abort(error)
        raise
