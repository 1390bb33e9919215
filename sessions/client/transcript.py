"""The transcript: the messages of committed turns, in pages."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final, Literal

from sessions.errors import CorruptRecord
from sessions.protocol.message import file_ids, parts_of_content, shown_parts, stored_part
from sessions.store.history import HistoryEntry
from sessions.store.keys import SessionKeys

SortOrder = Literal["oldest", "newest"]


@dataclass(frozen=True, slots=True)
class Message:
    """One message of the transcript.

    Attributes:
        role: `user`, `assistant`, or `tool` for a tool's return.
        agent, turn_id: of the turn that the message belongs to; at: when that turn began.
        parts: of a message, or of a tool's return, with files: its texts and files in order, in the REST API's form:
            `{"type": "image", "file_id": ..., "name": ..., "media_type": ..., "size": ...}`. In `text` each file is
            `[image photo.jpg]`. Empty without files.
        tool: name of the tool that was called (assistant) or that returned (tool); args: of the call.
        incomplete: how the turn ended, if it did not complete: `failed`, `cancelled` or `dead_lettered`; "" if it did.
        user_id: who sent the message of that turn, if that was not the session's owner.
    """

    role: Literal["user", "assistant", "tool"]
    text: str
    agent: str
    turn_id: str
    at: datetime
    tool: str | None = None
    call_id: str | None = None
    args: Any = None
    incomplete: str = ""
    parts: list[dict[str, Any]] = field(default_factory=list)
    user_id: str | None = None


@dataclass(frozen=True, slots=True)
class FoundMessage:
    """A message that a search in transcripts found.

    Attributes:
        title: of the session.
        text: the passage of the message that matches best: at most 800 characters.
        agent, turn_id: of the turn that the message belongs to; at: when that turn began.
        score: 0 to 1; 1 is the first by meaning and by words.
        similarity: cosine similarity; None if only words were compared.
        user_id: who sent the message of that turn, if that was not the session's owner.
    """

    session_id: str
    title: str
    turn_id: str
    role: Literal["user", "assistant"]
    text: str
    agent: str
    at: datetime
    score: float
    similarity: float | None = None
    user_id: str | None = None


@dataclass(frozen=True, slots=True)
class Page:
    """The messages of some turns, and the cursor of the next page (`session.history(cursor=...)`); None at the end."""

    messages: list[Message] = field(default_factory=list)
    cursor: int | None = None

    def __iter__(self) -> Iterator[Message]:
        return iter(self.messages)

    def __len__(self) -> int:
        return len(self.messages)


@dataclass(frozen=True, slots=True)
class Branch:
    """Turns that left the history because another turn took their place. `session.history(branch=...)` reads it.

    Attributes:
        id: of the turn that was replaced, the first one that left.
        replaced_by: id of the turn that took its place; left_at: when.
        turns, messages: how many left with it, without those that were deleted since.
    """

    id: str
    replaced_by: str
    left_at: datetime
    turns: int
    messages: int


def bounds(length: int, limit: int, order: SortOrder, cursor: int | None) -> tuple[int, int, int | None]:
    """First and last position of a page of `limit` turns, and the cursor of the next page."""
    if order == "oldest":
        start = cursor or 0
        stop = min(start + limit, length) - 1
        return start, stop, stop + 1 if stop + 1 < length else None
    end = length if cursor is None else min(cursor, length)
    start = max(0, end - limit)
    return start, end - 1, start if start > 0 else None


def messages_of(entry: HistoryEntry, keys: SessionKeys) -> list[Message]:
    """The messages of one committed turn, in the order in which they were written.

    Raises:
        CorruptRecord: they cannot be read.
    """
    at = datetime.fromtimestamp(entry.at_ms / 1000, UTC)
    turn_id = keys.public_id(entry.turn)
    try:
        parts = [part for message in json.loads(entry.messages) for part in message["parts"]]
        found = [_fields(part) for part in parts]
    except (ValueError, KeyError, TypeError) as error:
        raise CorruptRecord(f"the messages of turn {turn_id!r} cannot be read: {error!r}") from error
    common: dict[str, Any] = {"agent": entry.agent, "turn_id": turn_id, "at": at, "incomplete": entry.incomplete}
    common["user_id"] = entry.sender
    return [Message(**common, **fields) for fields in found if fields is not None]


def _fields(part: dict[str, Any]) -> dict[str, Any] | None:
    match part["part_kind"]:
        case "user-prompt":
            return {"role": "user", "text": _text(part["content"]), "parts": _parts(part["content"])}
        case "text":
            return {"role": "assistant", "text": part["content"]}
        case "tool-call":
            called = {"tool": part["tool_name"], "call_id": part["tool_call_id"], "args": _args(part.get("args"))}
            return {"role": "assistant", "text": "", **called}
        case "tool-return":
            returned = {"tool": part["tool_name"], "call_id": part["tool_call_id"]}
            return {"role": "tool", "text": _text(part["content"]), "parts": _parts(part["content"]), **returned}
        case _:  # thinking, system prompts, retries: not part of the transcript
            return None


def _text(content: Any) -> str:
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        return " ".join(item if isinstance(item, str) else _text(item) for item in content)
    file = stored_part(content)
    return json.dumps(content) if file is None else file.described


def _parts(content: Any) -> list[dict[str, Any]]:
    """The parts of a content with files; empty for one without."""
    parts = parts_of_content(content)
    return shown_parts(parts) if file_ids(parts) else []


def _args(args: Any) -> Any:
    if isinstance(args, str):
        try:
            return json.loads(args)
        except ValueError:
            return args
    return args


CONTEXT_TURNS: Final = 200
"""How many of the newest turns `get_context(query)` searches."""


def best_lines(messages: Sequence[Message], query: str, max_items: int) -> str:
    """The messages that share most words with the query, in the order of the transcript; newer ones win ties."""
    candidates = [message for message in messages if message.text and message.role != "tool"]
    wanted = _words(query)
    ranked = sorted(enumerate(candidates), key=lambda item: (len(wanted & _words(item[1].text)), item[0]), reverse=True)
    best = [(i, m) for i, m in ranked[:max_items] if wanted & _words(m.text)]
    return "\n".join(_line(message) for _, message in sorted(best, key=lambda item: item[0]))


def _words(text: str) -> set[str]:
    """The first letters of each word, so that `preferences` matches `prefers`."""
    return {word[:6] for word in "".join(c.lower() if c.isalnum() else " " for c in text).split() if len(word) > 2}


def _line(message: Message) -> str:
    who = "User" if message.role == "user" else message.agent
    return f"{who}: {message.text}"
