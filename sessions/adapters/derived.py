"""The messages of an entry in pydantic-ai's format, which all of Sessionfleet reads, from those of another library."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from sessions.store.history import HistoryEntry
from sessions.store.keys import new_turn_part
from sessions.transfer.conversation import Conversation, LeftOut
from sessions.transfer.messages import count_messages, first_prompt
from sessions.transfer.records import PastTurn

Native = dict[str, Any]
Read = Callable[[Conversation, Native, int, LeftOut], Iterator[PastTurn]]
"""Takes one item of a library into a conversation; with the time (ms) of items that have none."""


def new_entry(
    adapter: str,
    native: Sequence[Native],
    read: Read,
    *,
    agent: str,
    extends: HistoryEntry | None = None,
    sender: str | None = None,
) -> HistoryEntry:
    """An entry with these items of a library.

    Args:
        agent: answered, if the items name no agent.
        extends: the entry whose place it takes; its items are among the others.
        sender: who wrote it, if that is not the session's owner.
    """
    at_ms = extends.at_ms if extends else round(time.time() * 1000)
    turns = _turns(native, read, agent, at_ms)
    messages = [message for turn in turns for message in turn.messages]
    return HistoryEntry(
        turn=extends.turn if extends else new_turn_part(),
        agent=turns[-1].agent if turns else agent,
        at_ms=at_ms,
        count=count_messages(messages),
        messages=_compact(messages),
        sender=extends.sender if extends else sender,
        adapter=adapter,
        native=_compact(list(native)),
    )


def title_of(entry: HistoryEntry) -> str:
    """The first text of the user in it."""
    return first_prompt(json.loads(entry.messages))


def _turns(native: Sequence[Native], read: Read, agent: str, at_ms: int) -> list[PastTurn]:
    # Calls without a result are left out here, until a later item has it: models refuse them.
    left_out, turns = LeftOut(), list[PastTurn]()
    conversation = Conversation("", left_out, agent)
    for item in native:
        try:
            turns += read(conversation, item, at_ms, left_out)
        except (KeyError, TypeError, ValueError, AttributeError):
            continue  # kept as it is, for the library itself; only it can say what this is
    turns += conversation.end()
    return turns


def _compact(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()
