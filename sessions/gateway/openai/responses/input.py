"""The input of a response as items."""

from __future__ import annotations

from typing import Any

from sessions.errors import NotFound, SessionExpired
from sessions.gateway.narration import Asked, asks_client, in_legs
from sessions.gateway.openai.ids import CallRef
from sessions.gateway.openai.responses.reading import Reading
from sessions.protocol.message import MediaPart, TextPart
from sessions.protocol.turn import TurnRequest


async def input_items(reading: Reading) -> list[dict[str, Any]]:
    """What was new in a request: the message, or results of the calls of the response before it."""
    if reading.ref.leg:
        return await _results(reading)
    item_id = f"msg_{reading.ref.part}in"
    content = message_content(await reading.request())
    return [{"id": item_id, "type": "message", "role": "user", "status": "completed", "content": content}]


def message_content(request: TurnRequest) -> list[dict[str, Any]]:
    """A turn's message as the content of an item."""
    return [content_part(part) for part in request.parts] or [{"type": "input_text", "text": request.message}]


def content_part(part: TextPart | MediaPart) -> dict[str, Any]:
    """A part of a message; files are named by their ids in the session."""
    if isinstance(part, TextPart):
        return {"type": "input_text", "text": part.text}
    file_id, url = part.file_id or None, part.url or None
    if part.type == "image":
        return {"type": "input_image", "detail": "auto", "image_url": url, "file_id": file_id}
    return {"type": "input_file", "filename": part.name or None, "file_url": url, "file_id": file_id}


async def _results(reading: Reading) -> list[dict[str, Any]]:
    """The results that the history has; none while the turn is open."""
    asked: dict[str, str] = {}
    async for leg, item in in_legs(reading.so_far(), asks_client):
        if leg == reading.ref.leg - 1 and isinstance(item, Asked):
            place = (reading.ref.session_id, reading.turn.id, leg)
            asked = {call.call_id: str(CallRef(*place, call.call_id)) for call in item.own}
    try:
        page = await reading.session.ahistory(50, order="newest")
    except (NotFound, SessionExpired):
        return []
    return [
        {
            "id": f"fco_{reading.ref.part}{reading.ref.leg:02x}{place:03x}",
            "type": "function_call_output",
            "call_id": asked[message.call_id],
            "output": message.text,
            "status": "completed",
        }
        for place, message in enumerate(page)
        if message.turn_id == reading.turn.id and message.role == "tool" and message.call_id in asked
    ]
