"""A session's history as `UIMessage`s, for the initial messages of a page."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any, Final

from sessions.adapters.library_session import LibrarySession
from sessions.errors import NotFound, SessionExpired
from sessions.gateway.vercel.ids import answer_id, question_id
from sessions.gateway.vercel.requests import file_url
from sessions.gateway.vercel.turns import Answer
from sessions.protocol.message import MediaPart, TextPart, parts_of_content
from sessions.store.history import HistoryEntry
from sessions.store.keys import SessionKeys

Made = dict[str, Any]
_DENIED: Final = "denied"


async def entries(stored: LibrarySession, limit: int) -> Sequence[HistoryEntry]:
    """The newest turns of a history, in order; none if there is no session.

    Raises:
        SessionOwnerError, CorruptRecord, BackendError.
    """
    try:
        length = (await stored.read(-1)).length
        return (await stored.read(max(0, length - limit), max(0, length - 1))).entries
    except (NotFound, SessionExpired):
        return ()


async def shown(history: Sequence[HistoryEntry], keys: SessionKeys, open_answer: Answer | None) -> list[Made]:
    """The messages of these turns; and what the user said in the open one, whose answer the stream has."""
    request = None if open_answer is None else await open_answer.request()
    messages: list[Made] = []
    for entry in history:
        if request is not None and request.replaces in (entry.turn, keys.public_id(entry.turn)):
            break
        if open_answer is None or entry.turn != open_answer.part:
            messages += messages_of(entry, keys)
    if open_answer is not None and request is not None:
        said = request.parts or (TextPart(text=request.message),)
        record = await open_answer.turn.arecord()
        noted = about(open_answer.turn.id, request.agent, record.accepted_ms)
        messages.append(_message(question_id(open_answer.part), "user", _content(said, keys.session_id), noted))
    return messages


def messages_of(entry: HistoryEntry, keys: SessionKeys) -> list[Made]:
    """The messages of one turn: what the user said, and the answer."""
    noted = about(keys.public_id(entry.turn), entry.agent, entry.at_ms)
    if entry.incomplete:
        noted["incomplete"] = entry.incomplete
    parts = list(_parts(entry, keys.session_id))
    made: list[Made] = []
    for role, part in parts:
        if not made or made[-1]["role"] != role:
            place = len(made) // 2
            made.append(_message((question_id if role == "user" else answer_id)(entry.turn, place), role, [], noted))
        made[-1]["parts"].append(part)
    return [message for message in made if any(part["type"] != "step-start" for part in message["parts"])]


def about(turn_id: str, agent: str, at_ms: int) -> Made:
    """The metadata of a message."""
    return {"turnId": turn_id, "agent": agent, "createdAt": datetime.fromtimestamp(at_ms / 1000, UTC).isoformat()}


def _message(message_id: str, role: str, parts: list[Made], noted: Made) -> Made:
    return {"id": message_id, "role": role, "metadata": noted, "parts": parts}


def _parts(entry: HistoryEntry, session_id: str) -> Iterator[tuple[str, Made]]:
    calls: dict[str, Made] = {}
    for message in json.loads(entry.messages):
        if message["kind"] == "response":
            yield "assistant", {"type": "step-start"}
        for part in message["parts"]:
            match part["part_kind"]:
                case "user-prompt":
                    for said in _content(parts_of_content(part["content"]), session_id):
                        yield "user", said
                case "text" if part["content"]:
                    yield "assistant", {"type": "text", "text": part["content"], "state": "done"}
                case "thinking" if part["content"]:
                    yield "assistant", {"type": "reasoning", "text": part["content"], "state": "done"}
                case "tool-call":
                    calls[part["tool_call_id"]] = call = _call(part)
                    yield "assistant", call
                case "tool-return" | "retry-prompt" if part.get("tool_call_id") in calls:
                    calls[part["tool_call_id"]].update(_result(part))


def _call(part: Made) -> Made:
    args = part.get("args")
    if isinstance(args, str):
        with suppress(ValueError):
            args = json.loads(args)
    return {
        "type": f"tool-{part['tool_name']}",
        "toolCallId": part["tool_call_id"],
        "state": "input-available",
        "input": args or {},
        "providerExecuted": True,
    }


def _result(part: Made) -> Made:
    content = part["content"]
    if part["part_kind"] == "tool-return" and part.get("outcome", "success") == "success":
        return {"state": "output-available", "output": content}
    if part.get("outcome") == _DENIED:
        approval = {"id": f"apr_{part['tool_call_id']}", "approved": False}
        return {"state": "output-denied", "approval": approval}
    return {"state": "output-error", "errorText": content if isinstance(content, str) else json.dumps(content)}


def _content(parts: Sequence[TextPart | MediaPart], session_id: str) -> list[Made]:
    return [_shown(part, session_id) for part in parts]


def _shown(part: TextPart | MediaPart, session_id: str) -> Made:
    if isinstance(part, TextPart):
        return {"type": "text", "text": part.text}
    url = file_url(session_id, part.file_id) if part.file_id else part.url
    named = {"filename": part.name} if part.name else {}
    return {"type": "file", "mediaType": part.media_type or f"{part.type}/*", "url": url, **named}
