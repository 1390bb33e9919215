"""Messages in pydantic-ai's JSON format, made and checked without pydantic-ai, which a web backend does not have."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from sessions.errors import InvalidExport

Message = dict[str, Any]
Part = dict[str, Any]

# The kinds of parts, and the fields that each must have, with their types.
_TEXT: Final = {"content": str}
_CALL: Final = {"tool_name": str}
_RETURN: Final = {"tool_name": str, "content": object}
_OF_REQUESTS: Final[Mapping[str, Mapping[str, type]]] = {
    "system-prompt": _TEXT,
    "user-prompt": {"content": object},
    "tool-return": _RETURN,
    "retry-prompt": {"content": object},
    "retry-feedback": {"content": object, "retry": object},
    "instruction": _TEXT,
    "instruction-baseline": {"instructions": object},
    "instruction-delta": {"id": str, "content": object},
    "model-settings-delta": {"settings": object},
    "tool-availability-delta": {},
    "capability-load-delta": {},
    "speech": {"speaker": object},
}
_OF_RESPONSES: Final[Mapping[str, Mapping[str, type]]] = {
    "text": _TEXT,
    "thinking": _TEXT,
    "tool-call": _CALL,
    "builtin-tool-call": _CALL,
    "builtin-tool-return": _RETURN,
    "file": {"content": object},
    "compaction": {},
    "speech": {"speaker": object},
}
_PARTS: Final = {"request": _OF_REQUESTS, "response": _OF_RESPONSES}


def request(parts: Sequence[Part], at_ms: int) -> Message:
    """A message to the model."""
    return {"parts": list(parts), "instructions": None, "timestamp": when(at_ms), "kind": "request"}


def response(parts: Sequence[Part], at_ms: int, model: str | None = None) -> Message:
    """A message of the model."""
    return {"parts": list(parts), "model_name": model, "timestamp": when(at_ms), "kind": "response"}


def system_prompt(text: str, at_ms: int) -> Part:
    """Instructions."""
    return {"content": text, "timestamp": when(at_ms), "part_kind": "system-prompt"}


def user_prompt(content: str | list[Any], at_ms: int) -> Part:
    """What the user said: a text, or a list of texts and media."""
    return {"content": content, "timestamp": when(at_ms), "part_kind": "user-prompt"}


def text(content: str) -> Part:
    """What the model said."""
    return {"content": content, "part_kind": "text"}


def thinking(content: str) -> Part:
    """What the model thought."""
    return {"content": content, "part_kind": "thinking"}


def tool_call(name: str, call_id: str, args: Any) -> Part:
    """The model's call of a tool; arguments are an object, or JSON as the model wrote it."""
    return {
        "tool_name": name,
        "args": args if isinstance(args, str | dict) or args is None else json.dumps(args),
        "tool_call_id": call_id,
        "part_kind": "tool-call",
    }


def tool_return(name: str, call_id: str, content: Any, at_ms: int) -> Part:
    """What a tool returned: any JSON."""
    return {
        "tool_name": name,
        "content": content,
        "tool_call_id": call_id,
        "timestamp": when(at_ms),
        "part_kind": "tool-return",
    }


def when(at_ms: int) -> str:
    """A time as pydantic-ai writes it."""
    return datetime.fromtimestamp(at_ms / 1000, UTC).isoformat().replace("+00:00", "Z")


def at_of(timestamp: Any, otherwise: int) -> int:
    """A time of a message or part in milliseconds; `otherwise` if it has none."""
    try:
        parsed = datetime.fromisoformat(timestamp)
    except (TypeError, ValueError):
        return otherwise
    return round((parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)).timestamp() * 1000)


def is_prompt(message: Message) -> bool:
    """Whether the message has a part from the user."""
    return message["kind"] == "request" and any(map(is_user_prompt, message["parts"]))


def first_prompt(messages: Sequence[Message]) -> str:
    """The first text of the user; '' if there is none."""
    prompts = (part["content"] for message in messages for part in message["parts"] if is_user_prompt(part))
    return next((_text_of(content) for content in prompts), "")


def is_user_prompt(part: Part) -> bool:
    """Whether the part is from the user."""
    return bool(part["part_kind"] == "user-prompt")


def _text_of(content: str | list[Any]) -> str:
    return content if isinstance(content, str) else " ".join(item for item in content if isinstance(item, str))


def count_messages(messages: Sequence[Message]) -> int:
    """The user's prompts and the assistant's texts, as the store counts them."""
    said = [m for m in messages if m["kind"] == "response" and any(_is_said(part) for part in m["parts"])]
    return len(said) + sum(is_prompt(message) for message in messages)


def _is_said(part: Part) -> bool:
    return part["part_kind"] == "text" and bool(part["content"].strip())


def check_messages(messages: object, place: str) -> list[Message]:
    """Return the messages, or refuse them: a worker must be able to read what was imported.

    Raises:
        InvalidExport: they are not messages in pydantic-ai's format; the message names the place.
    """
    if not isinstance(messages, list):
        raise InvalidExport(f"{place}: the messages are not a list")
    for number, message in enumerate(messages):
        _check_message(message, f"{place}, message {number}")
    return messages


def _check_message(message: object, place: str) -> None:
    if not isinstance(message, dict) or message.get("kind") not in _PARTS:
        raise InvalidExport(f"{place}: this is not a message of pydantic-ai: its `kind` is not request or response")
    parts = message.get("parts")
    if not isinstance(parts, list):
        raise InvalidExport(f"{place}: it has no list of `parts`")
    if "timestamp" in message:
        _check_time(message["timestamp"], place)
    for number, part in enumerate(parts):
        _check_part(part, _PARTS[message["kind"]], f"{place}, part {number}")


def _check_part(part: object, known: Mapping[str, Mapping[str, type]], place: str) -> None:
    if not isinstance(part, dict):
        raise InvalidExport(f"{place}: this is not an object")
    kind = part.get("part_kind")
    if not isinstance(kind, str) or kind not in known:
        raise InvalidExport(f"{place}: `part_kind` {kind!r} is not known here")
    for name, wanted in known[kind].items():
        if name not in part or not isinstance(part[name], wanted):
            raise InvalidExport(f"{place}: a {kind} needs `{name}`" + (", a text" if wanted is str else ""))
    if kind == "user-prompt" and not _is_content(part["content"]):
        raise InvalidExport(f"{place}: the content of a user prompt is a text, or a list of texts and media")
    if "timestamp" in part:
        _check_time(part["timestamp"], place)
    if not isinstance(part.get("tool_call_id", ""), str | None):
        raise InvalidExport(f"{place}: `tool_call_id` is not a text")
    if not isinstance(part.get("args"), str | dict | None):
        raise InvalidExport(f"{place}: `args` is neither an object nor a text")


def _is_content(content: object) -> bool:
    if isinstance(content, list):
        return all(isinstance(item, str) or (isinstance(item, dict) and "kind" in item) for item in content)
    return isinstance(content, str)


def _check_time(value: object, place: str) -> None:
    if value is None:
        return
    try:
        datetime.fromisoformat(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        raise InvalidExport(f"{place}: `timestamp` is not a time in ISO 8601") from None
