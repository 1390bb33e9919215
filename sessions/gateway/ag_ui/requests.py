"""What clients send for a run, and what is new in it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from ag_ui.core import (
    AssistantMessage,
    Context,
    DeveloperMessage,
    Message,
    ReasoningMessage,
    ResumeEntry,
    RunAgentInput,
    SystemMessage,
    TextPart,
    Tool,
    ToolMessage,
    UserMessage,
)
from ag_ui.core import ContentPart as Part

from sessions.errors import BadRequest
from sessions.gateway.ag_ui.ids import turn_of_message
from sessions.gateway.answers import Decision


@dataclass(frozen=True, slots=True)
class New:
    """What a run brings.

    Attributes:
        message: what the user says now, in the form that `asubmit` takes; None if nothing.
        asked: the same as it was posted.
        results: of calls of the client's tools, by the ids that it was given.
        decisions: by the ids of the interrupts.
        instructions: the texts of system and developer messages, and the context.
        seen: the newest turn (its part) that the client has a message of; None if it has none.
        thoughts: ids of the messages that the client has of what the model thought.
        holds: whether the client has messages that come before the new ones.
    """

    message: str | list[dict[str, Any]] | None = None
    asked: list[Message] = field(default_factory=list)
    results: dict[str, Any] = field(default_factory=dict)
    decisions: dict[str, Decision] = field(default_factory=dict)
    instructions: str = ""
    seen: str | None = None
    thoughts: list[str] = field(default_factory=list)
    holds: bool = False

    @property
    def answers(self) -> bool:
        """Whether it answers calls."""
        return bool(self.results or self.decisions)


def new_in(body: RunAgentInput) -> New:
    """What a run brings: what follows the last message that came from here. The server has everything before it.

    Raises:
        BadRequest: a part of a message, or an answer to an interrupt, cannot be used.
    """
    said = [message for message in body.messages if not isinstance(message, SystemMessage | DeveloperMessage)]
    last = max((place for place, message in enumerate(said) if _is_agents(message)), default=-1)
    asked = [message for message in said[last + 1 :] if isinstance(message, UserMessage)]
    return New(
        message=_message(asked) if asked else None,
        asked=list(asked),
        results={
            message.tool_call_id: _result(message) for message in said[last + 1 :] if isinstance(message, ToolMessage)
        },
        decisions={entry.interrupt_id: _decision(entry) for entry in body.resume or ()},
        instructions=_instructions(body),
        seen=next(filter(None, (turn_of_message(message.id) for message in reversed(said[: last + 1]))), None),
        thoughts=[message.id for message in said if isinstance(message, ReasoningMessage)],
        holds=last >= 0,
    )


def outside_tools(tools: Sequence[Tool] | None) -> list[dict[str, Any]]:
    """The client's tools, in the form that `asubmit` takes."""
    return [
        {
            "name": tool.name,
            "description": tool.description,
            "parameters": {
                "type": "object",
                "properties": {},
                **(tool.parameters if isinstance(tool.parameters, dict) else {}),
            },
        }
        for tool in tools or ()
    ]


def _is_agents(message: Message) -> bool:
    """Whether it came from here: what an agent said, thought or called, or what one of its own tools returned."""
    if isinstance(message, ToolMessage):
        return turn_of_message(message.id) is not None
    return isinstance(message, AssistantMessage | ReasoningMessage)


def _instructions(body: RunAgentInput) -> str:
    told = [message.content for message in body.messages if isinstance(message, SystemMessage | DeveloperMessage)]
    return "\n\n".join(text for text in [*told, *map(_context, body.context or ())] if text)


def _context(context: Context) -> str:
    return f"{context.description}: {context.value}"


def _message(messages: Sequence[UserMessage]) -> str | list[dict[str, Any]]:
    parts = [part for message in messages for part in _parts(message.content)]
    if all(part["type"] == "text" for part in parts):
        return "\n\n".join(part["text"] for part in parts)
    return parts


def _parts(content: str | list[Part]) -> list[dict[str, Any]]:
    return [{"type": "text", "text": content}] if isinstance(content, str) else [_part(part) for part in content]


def _part(part: Part) -> dict[str, Any]:
    if isinstance(part, TextPart):
        return {"type": "text", "text": part.text}
    if part.type == "video":
        raise BadRequest("videos are not supported: send an image, audio or a document")
    source = part.source
    match source.type:
        case "data":
            return {"type": part.type, "data": source.value, "media_type": source.mime_type}
        case "url" if part.type == "image":
            return {"type": "image_url", "image_url": {"url": source.value}}
        case "url":
            return {"type": part.type, "url": source.value}
        case "file":
            return {"type": part.type, "file_id": source.value}


def _result(message: ToolMessage) -> str:
    content = message.content
    text = content if isinstance(content, str) else "\n".join(part["text"] for part in _texts(content))
    return text if message.error is None else "\n".join(filter(None, (text, f"Error: {message.error}")))


def _texts(content: list[Part]) -> list[dict[str, Any]]:
    if not all(isinstance(part, TextPart) for part in content):
        raise BadRequest("the result of a tool must be a text")
    return _parts(content)


def _decision(entry: ResumeEntry) -> Decision:
    """The decision in an answer: `true`, or `{"approved": true, "editedArgs": {...}}`; anything else denies."""
    payload = entry.payload
    if entry.status == "cancelled":
        return Decision(False, "the user cancelled it")
    if isinstance(payload, bool):
        return Decision(payload)
    if not isinstance(payload, dict) or not isinstance(payload.get("approved"), bool):
        raise BadRequest(
            f"the payload for {entry.interrupt_id[:80]!r} must be a boolean, or an object with a boolean `approved`"
        )
    args, reason = payload.get("editedArgs"), payload.get("reason")
    if not payload["approved"]:
        return Decision(False, reason if isinstance(reason, str) else "")
    return Decision(True, args=args, always=payload.get("always") is True)
