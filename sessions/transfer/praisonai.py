"""PraisonAI's session JSON, as its `DefaultSessionStore` writes it (`~/.praisonai/sessions/<id>.json`)."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any, Final

from sessions.errors import InvalidExport
from sessions.transfer.conversation import Conversation, LeftOut
from sessions.transfer.records import PastTurn, Record, SessionHeader

_LEFT_OUT: Final = {
    "runtime_state": "PraisonAI's runtime state",
    "archived_messages": "messages that PraisonAI had archived when it compacted the session",
    "compaction_checkpoints": "PraisonAI's compaction checkpoints",
    "checkpoints": "PraisonAI's compaction checkpoints",
}


def is_praisonai(value: object) -> bool:
    """Whether this JSON looks like a session of PraisonAI."""
    return isinstance(value, dict) and isinstance(value.get("messages"), list) and "session_id" in value


def read_praisonai(data: Mapping[str, Any], name: str, left_out: LeftOut, agent: str) -> Iterator[Record]:
    """The session as records.

    Raises:
        InvalidExport: it is not as PraisonAI writes it; the message names the place.
    """
    session_id, user_id, metadata = data["session_id"], data.get("user_id"), data.get("metadata")
    if not isinstance(session_id, str) or not isinstance(user_id, str | None):
        raise InvalidExport(f"{name}: `session_id` and `user_id` are not texts")
    yield SessionHeader(session_id=session_id, user_id=user_id, metadata=metadata if isinstance(metadata, dict) else {})
    for field, what in _LEFT_OUT.items():
        if data.get(field):
            left_out.add(what)
    named = data.get("agent_name")
    conversation = Conversation(f"praisonai\0{session_id}", left_out, named if isinstance(named, str) else agent)
    for number, message in enumerate(data["messages"]):
        place = f"{name}, message {number}"
        if not isinstance(message, dict):
            raise InvalidExport(f"{place}: this is not an object")
        try:
            yield from _read(conversation, message, left_out)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise InvalidExport(f"{place}: it is not as PraisonAI writes it: {error!r}") from None
    yield from conversation.end()


def _read(conversation: Conversation, message: dict[str, Any], left_out: LeftOut) -> Iterator[PastTurn]:
    at_ms = round(float(message.get("timestamp") or 0) * 1000)
    content = _text(message.get("content"))
    match message["role"]:
        case "user":
            yield from conversation.user(content, at_ms)
        case "system":
            yield from conversation.system(content, at_ms)
        case "assistant":
            conversation.assistant(content, at_ms)
            for call in message.get("tool_calls") or ():
                conversation.call(call["function"]["name"], call["id"], call["function"]["arguments"], at_ms)
        case "tool":
            conversation.result(message["tool_call_id"], content, at_ms)
        case role:
            left_out.add(f"messages of the role {role!r}")


def _text(content: Any) -> str:
    if isinstance(content, str):
        return content
    return "" if content is None else json.dumps(content, ensure_ascii=False)
