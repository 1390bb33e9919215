"""The arguments of `accept_turn.lua` by their names, so that a new one is a default here and nothing else changes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from sessions.store.script_files import script

_USUAL: Final[Mapping[str, Any]] = {
    "request": '{"agent":"A"}',
    "digest": "d",
    "idempotency": "",
    "user": "",
    "sender": "",
    "timeout_ms": 900_000,
    "not_before": "",
    "mailbox_limit": 50,
    "queue": "turns",
    "watcher": "",
    "watch": "waiters",
    "result_ttl_ms": 10**9,
    "idempotency_ttl_ms": 10**9,
    "max_attempts": 3,
    "session_ttl_ms": "",
    "agent": "A",
    "agent_config": "{}",
    "policy": "enqueue",
    "waiting_blocks": 1,
    "approval_ms": 5_000,
    "message": "",
    "parts": "",
    "webhook": "",
    "title": "",
    "hidden": 0,
    "searchable": "",
    "compact": "",
    "joins": "",
    "metadata": "",
    "refused": "",
    "ask_for_session": 0,
    "files": (),
    "replaces": (),
    "tick": (),
}


def accept_arguments(turn: str, **changed: Any) -> tuple[str | int, ...]:
    """The arguments of the script in its own order; those that are not named have their usual values."""
    values, found = {**_USUAL, "turn": turn, **changed}, list[str | int]()
    arguments = script("accept_turn").header.arguments
    assert values.keys() == {each.name for each in arguments}, "the script takes other arguments: name them here"
    lists = [each for each in arguments if each.is_list]
    for each in arguments:
        if not each.is_list:
            found.append(values[each.name])
            continue
        if each is not lists[-1]:  # the number of its groups comes before all but the last list
            found.append(len(values[each.name]) // len(each.group))
        found += values[each.name]
    return tuple(found)
