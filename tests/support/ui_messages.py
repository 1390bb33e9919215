"""The UI message stream protocol of Vercel's AI SDK, as a page speaks it; checked with pydantic-ai's models of it."""

from __future__ import annotations

import json
from typing import Any, Final

import httpx
from pydantic import TypeAdapter
from pydantic_ai.ui.vercel_ai import response_types
from pydantic_ai.ui.vercel_ai.request_types import UIMessage

_CHUNKS: Final = {
    kind.model_fields["type"].default: kind
    for kind in vars(response_types).values()
    if isinstance(kind, type) and issubclass(kind, response_types.BaseChunk) and "type" in kind.model_fields
}
_MESSAGES: Final = TypeAdapter(list[UIMessage])
PATH: Final = "/v1/vercel/chat"


def user(message_id: str, *parts: Any) -> dict[str, Any]:
    """A message that a page has just made; texts, or other parts."""
    made = [{"type": "text", "text": part} if isinstance(part, str) else part for part in parts]
    return {"id": message_id, "role": "user", "parts": made}


def posted(http: httpx.Client, chat: str, messages: list[Any], **more: Any) -> list[dict[str, Any]]:
    """Send messages as `DefaultChatTransport` does; returns the parts of the answer."""
    body = {"id": chat, "messages": messages, "trigger": "submit-message", **more}
    return parts_of(http.post(PATH, json=body))


def parts_of(response: httpx.Response) -> list[dict[str, Any]]:
    """The parts of a stream, all of which are valid."""
    assert response.status_code == 200, response.text
    assert response.headers["x-vercel-ai-ui-message-stream"] == "v1"
    assert response.headers["content-type"].startswith("text/event-stream")
    lines = [line.removeprefix("data: ") for line in response.text.splitlines() if line.startswith("data: ")]
    assert lines.pop() == "[DONE]"
    return [valid(json.loads(line)) for line in lines]


def valid(part: dict[str, Any]) -> dict[str, Any]:
    """A part, which pydantic-ai's models accept as it is."""
    _CHUNKS[part["type"]].model_validate(part)
    return part


def text_of(parts: list[dict[str, Any]]) -> str:
    """What the parts of an answer say."""
    return "".join(part["delta"] for part in parts if part["type"] == "text-delta")


def kinds(parts: list[dict[str, Any]]) -> list[str]:
    """The types of parts, with those of the same text only once."""
    found = [part["type"] for part in parts]
    return [kind for place, kind in enumerate(found) if kind != "text-delta" or found[place - 1] != kind]


def history(http: httpx.Client, chat: str) -> list[dict[str, Any]]:
    """The messages with which a page begins, all of which are valid."""
    response = http.get(f"{PATH}/{chat}/messages").raise_for_status()
    _MESSAGES.validate_json(response.content)
    return list(response.json())
