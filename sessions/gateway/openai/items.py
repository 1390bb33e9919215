"""What clients post, as items of OpenAI's Responses API: the history that they have, and what is new in it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from sessions.api.session import Session
from sessions.client.backend import NewSession
from sessions.errors import BadRequest, SessionExists, SessionExpired
from sessions.errors import NotFound as NotHere
from sessions.gateway.answers import Decision
from sessions.gateway.openai.ids import CallRef
from sessions.transfer.sources import inspected, items_source

Item = dict[str, Any]
_AUDIO: Final = {"mp3": "audio/mpeg", "wav": "audio/wav"}
_DATA: Final = "data:"
_ASSISTANTS: Final = ("function_call", "reasoning", "mcp_call", "mcp_approval_request")


@dataclass(frozen=True, slots=True)
class Posted:
    """A request's items.

    Attributes:
        history: what comes before the new ones, without instructions.
        message: what the user says now, in the form that `asubmit` takes; None if there are only results.
        results: of calls of the client's tools, by the ids that it was given.
        decisions: approvals and denials (with their reasons), by the ids of the requests for them.
        instructions: the texts of system and developer messages.
    """

    history: list[Item] = field(default_factory=list)
    message: str | list[dict[str, Any]] | None = None
    results: dict[str, Any] = field(default_factory=dict)
    decisions: dict[str, Decision] = field(default_factory=dict)
    instructions: str = ""


def posted(items: Sequence[Item], param: str) -> Posted:
    """Divide items. New is what follows the last item of an assistant: the server has everything before it.

    Args:
        items: the items.
        param: the name of the parameter that they come from, for errors.

    Raises:
        BadRequest: nothing is new.
    """
    told = [_text_of(item) for item in items if item.get("role") in ("system", "developer")]
    said = [item for item in items if item.get("role") not in ("system", "developer")]
    last = max((place for place, item in enumerate(said) if _is_assistants(item)), default=-1)
    new = said[last + 1 :]
    if not new:
        raise BadRequest("the last item must be a message of the user, or a result of a tool", param=param)
    messages = [item for item in new if item.get("role") == "user"]
    results = {item["call_id"]: _result(item) for item in new if item.get("type") == "function_call_output"}
    return Posted(
        history=said[: last + 1],
        message=_message(messages, param) if messages else None,
        results=results,
        decisions={
            item["approval_request_id"]: Decision(item["approve"], item.get("reason") or "")
            for item in new
            if item.get("type") == "mcp_approval_response"
        },
        instructions="\n\n".join(text for text in told if text),
    )


async def import_history(session: Session, items: Sequence[Item], agent: str) -> None:
    """Have a session that does not exist yet begin with the history that a client has. One that exists keeps its own.

    Raises:
        InvalidExport: an item cannot be read. SessionOwnerError, BackendError.
    """
    if not items:
        return
    try:
        await session.ainfo()
    except (NotHere, SessionExpired):
        pass
    else:
        return
    source = items_source(session.session_id, [_own_ids(item) for item in items], agent)
    _, origin = inspected(source)
    new = NewSession(source, session.user_id, session.ttl, None, origin)
    try:
        await session.portal.acall(session.backend.transfer.create_from(session, new))
    except SessionExists:  # another request was faster
        return


def _own_ids(item: Item) -> Item:
    """An item with the call ids that models gave: providers refuse longer ones."""
    ref = CallRef.read(item.get("call_id") or "")
    return item if ref is None else {**item, "call_id": ref.call_id}


def _is_assistants(item: Item) -> bool:
    return item.get("role") == "assistant" or item.get("type") in _ASSISTANTS


def _text_of(item: Item) -> str:
    content = item.get("content")
    if isinstance(content, str):
        return content
    return "\n".join(str(part.get("text", "")) for part in content or ())


def _result(item: Item) -> Any:
    output = item["output"]
    return output if isinstance(output, str) else _text_of({"content": output})


def _message(messages: Sequence[Item], param: str) -> str | list[dict[str, Any]]:
    parts = [part for item in messages for part in _parts(item, param)]
    if all(part["type"] == "text" for part in parts):
        return "\n\n".join(part["text"] for part in parts)
    return parts


def _parts(item: Item, param: str) -> list[dict[str, Any]]:
    content = item["content"]
    if isinstance(content, str):
        return [{"type": "text", "text": content}]
    return [_part(part, param) for part in content]


def _part(part: dict[str, Any], param: str) -> dict[str, Any]:
    match part["type"]:
        case "input_text" | "text" | "output_text":
            return {"type": "text", "text": part["text"]}
        case "input_image" if part.get("image_url"):
            return {"type": "image_url", "image_url": {"url": part["image_url"]}}
        case "input_audio":
            audio = part["input_audio"]
            media_type = _AUDIO.get(audio.get("format"), f"audio/{audio.get('format')}")
            return {"type": "audio", "data": audio.get("data"), "media_type": media_type}
        case "input_file" if part.get("file_url"):
            return _named({"type": "document", "url": part["file_url"]}, part)
        case "input_file" if str(part.get("file_data", "")).startswith(_DATA):
            about, _, data = part["file_data"].removeprefix(_DATA).partition(",")
            return _named({"type": "document", "data": data, "media_type": about.partition(";")[0]}, part)
    raise BadRequest(
        f"a part of the type {part['type']!r} must have its content, or a URL: files uploaded to OpenAI are not here",
        param=param,
    )


def _named(made: dict[str, Any], part: dict[str, Any]) -> dict[str, Any]:
    return {**made, "name": part["filename"]} if part.get("filename") else made
