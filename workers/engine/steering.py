"""Steering: messages that join a turn while it runs, each before a certain model call, and there again on a replay."""

from __future__ import annotations

import json

from workers.engine.scope import TurnScope


def steering_key(number: int) -> str:
    """The journal's key for the messages that came before this model call."""
    return f"steer:{number}"


async def next_steering(scope: TurnScope) -> list[str]:
    """The messages that join the turn before its next model call; each is given out once in a run.

    A call whose response is recorded had what the journal says, and nothing that came later.
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
        await scope.hooks.message(text, scope.journal, key=f"hooks:{key}:{index}") for index, text in enumerate(texts)
    ]


async def _take(scope: TurnScope, key: str) -> bytes:
    try:
        return await scope.journal.take_steering(key)
    except Exception as error:
        scope.abort(error)
        raise
