"""The messages of a turn as AG-UI has them: the same from its events as from the history."""

from __future__ import annotations

import json
from typing import Any

from ag_ui.core import (
    AssistantMessage,
    AudioPart,
    ContentPart,
    DocumentPart,
    FileSource,
    FunctionCall,
    ImagePart,
    Message,
    ReasoningMessage,
    TextPart,
    ToolCall,
    ToolMessage,
    UrlSource,
    UserMessage,
)

from sessions.gateway.ag_ui.ids import CallRef, message_id
from sessions.gateway.narration import arguments_text
from sessions.protocol import message as ours
from sessions.protocol.message import parts_of_content
from sessions.protocol.turn import TurnRequest
from sessions.store.history import HistoryEntry

PROVIDER = "sessionfleet"
"""Whose ids the files of a session have."""
_MEDIA: dict[str, type[ImagePart | AudioPart | DocumentPart]] = {
    "image": ImagePart,
    "audio": AudioPart,
    "document": DocumentPart,
}


class TurnMessages:
    """Builds the messages of a turn in their order, with ids that follow from it."""

    def __init__(self, part: str) -> None:
        self._part = part
        self._count = {"user": 0, "assistant": 0, "reasoning": 0}
        self._void: dict[bool, AssistantMessage | ReasoningMessage] = {}
        self.all: list[Message] = []

    def ask(self, content: str | list[ContentPart]) -> None:
        """The user says something."""
        self.all.append(UserMessage(id=self._id("user", "in"), content=content))

    def begin(self, thought: bool) -> AssistantMessage | ReasoningMessage:
        """A text begins, in the place of the one that was withdrawn if there is one."""
        if (void := self._void.pop(thought, None)) is not None:
            return void
        made: AssistantMessage | ReasoningMessage
        if thought:
            made = ReasoningMessage(id=self._id("reasoning", "r"), content="")
        else:
            made = AssistantMessage(id=self._id("assistant", "a"), content="")
        self.all.append(made)
        return made

    def withdraw(self, message: AssistantMessage | ReasoningMessage) -> None:
        """A text is void. Its message stays, without content, until another text takes its place."""
        message.content = ""
        self._void[isinstance(message, ReasoningMessage)] = message

    def call(self, call_id: str, tool: str, args: Any) -> tuple[ToolCall, str]:
        """A tool is called; returns the call, and the id of the message that it is in."""
        parent = self.all[-1] if self.all else None
        if not isinstance(parent, AssistantMessage):
            parent = AssistantMessage(id=self._id("assistant", "a"))
            self.all.append(parent)
        function = FunctionCall(name=tool, arguments=arguments_text(args or {}))
        made = ToolCall(id=str(CallRef(self._part, call_id)), function=function)
        parent.tool_calls = [*(parent.tool_calls or ()), made]
        return made, parent.id

    def give(self, call_id: str, result: Any) -> ToolMessage:
        """A tool returned."""
        text = result if isinstance(result, str) else json.dumps(result, ensure_ascii=False)
        made = ToolMessage(
            id=message_id(self._part, f"t_{call_id}"), tool_call_id=str(CallRef(self._part, call_id)), content=text
        )
        self.all.append(made)
        return made

    def shown(self) -> list[Message]:
        """The messages without those that are empty; an empty thought replaces what a client may have of it."""
        return [each for each in self.all if not isinstance(each, AssistantMessage) or each.content or each.tool_calls]

    def _id(self, role: str, sign: str) -> str:
        self._count[role] += 1
        return message_id(self._part, f"{sign}{self._count[role]}")


def messages_of_entry(entry: HistoryEntry) -> list[Message]:
    """The messages of a turn in the history."""
    made = TurnMessages(entry.turn)
    for message in json.loads(entry.messages):
        for part in message["parts"]:
            _add(made, part)
    return made.shown()


def message_of_request(part: str, request: TurnRequest) -> Message:
    """The message that a turn answers, as long as the history does not have it."""
    made = TurnMessages(part)
    made.ask(_content(request.parts) if request.parts else request.message)
    return made.all[0]


def _add(made: TurnMessages, part: dict[str, Any]) -> None:
    match part["part_kind"]:
        case "user-prompt":
            content = part["content"]
            made.ask(content if isinstance(content, str) else _content(parts_of_content(content)))
        case "text" | "thinking" as kind if part["content"]:
            made.begin(kind == "thinking").content = part["content"]
        case "tool-call":
            made.call(part["tool_call_id"], part["tool_name"], part.get("args"))
        case "tool-return":
            made.give(part["tool_call_id"], part["content"])
        case "retry-prompt" if part.get("tool_name"):
            made.give(part["tool_call_id"], part["content"])
        case _:
            pass


def _content(parts: tuple[ours.TextPart | ours.MediaPart, ...]) -> list[ContentPart]:
    return [TextPart(text=part.text) if isinstance(part, ours.TextPart) else _file(part) for part in parts]


def _file(part: ours.MediaPart) -> ImagePart | AudioPart | DocumentPart:
    """A file: by its id in the session, which only we can read, or by its URL."""
    kind, media_type = _MEDIA[part.type], part.media_type or None
    if part.file_id:
        return kind(source=FileSource(value=part.file_id, provider=PROVIDER, mime_type=media_type))
    return kind(source=UrlSource(value=part.url, mime_type=media_type))
