"""Steering: messages that are added to a running turn before a model call, and on a replay before the same call."""

from __future__ import annotations

import json

from workers.engine.scope import TurnScope


def steering_key(number: int) -> str:
    """The journal key of the messages that were added before this model call."""
    return f"steer:{number}"


async def next_steering(scope: TurnScope) -> list[str]:
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
    texts: list[str] = json.loads(raw)
    return [
        await scope.hooks.before_turn(text, scope.journal, key=f"hooks:{key}:{index}")
        for index, text in enumerate(texts)
    ]


async def _take(scope: TurnScope, key: str) -> bytes:
    try:
        return await scope.journal.take_steering(key)
    except Exception as error:
        scope.abort(error)
        raise
