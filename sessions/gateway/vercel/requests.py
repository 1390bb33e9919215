"""What `useChat` sends, and what becomes of it.

These are models of our own, not pydantic-ai's `ui.vercel_ai`: importing those loads the engine, which the gateway does
without, and they refuse parts that they do not know, which newer clients may send. The tests check what we send against
them.
"""

from __future__ import annotations

import re
from typing import Any, Final, Literal
from urllib.parse import unquote

from pydantic import Field

from sessions.errors import BadRequest
from sessions.gateway.segments import segment
from sessions.gateway.strict_json import Body, Lenient
from sessions.protocol.message import kind_of

_DATA: Final = re.compile(r"data:([^,]*?);base64,")
_FILE: Final = re.compile(r"/v1/sessions/([^/]+)/files/([0-9a-f]{64})\Z")
_SCHEMA: Final[dict[str, Any]] = {"type": "object", "properties": {}}


class Approval(Lenient):
    """A request for approval, and the decision if there is one."""

    id: str
    approved: bool | None = None
    reason: str | None = None


class Part(Lenient):
    """A part of a message."""

    type: str
    text: str = ""
    url: str = ""
    media_type: str = Field("", alias="mediaType")
    filename: str | None = None
    tool_call_id: str = Field("", alias="toolCallId")
    state: str | None = None
    output: Any = None
    error_text: str = Field("", alias="errorText")
    approval: Approval | None = None


class Message(Lenient):
    """A message as the page has it."""

    id: str = Field(max_length=200)
    role: Literal["system", "user", "assistant"]
    parts: list[Part]


class ClientTool(Lenient):
    """A tool that the page has."""

    name: str
    description: str = ""
    input_schema: dict[str, Any] = Field(default_factory=dict, alias="inputSchema")

    def as_tool(self) -> dict[str, Any]:
        """In the form that `asubmit` takes."""
        return {"name": self.name, "description": self.description, "parameters": {**_SCHEMA, **self.input_schema}}


class ChatRequest(Body):
    """What `DefaultChatTransport` sends, and what its `body` may add.

    Attributes:
        id: of the chat, which is the session's.
        messages: as the page has them; of these, only the new ones count.
        message_id: the message that is to be edited, answered again, or continued.
        agent: the agent's name; by default `assistant`, or the agent of the answer that is to be replaced.
        tools: of the page.
        metadata: the sender's own notes on the turn.
    """

    id: str
    messages: list[Message] = Field(min_length=1)
    trigger: Literal["submit-message", "regenerate-message"] = "submit-message"
    message_id: str | None = Field(None, alias="messageId")
    agent: str | None = None
    tools: list[ClientTool] = Field(default_factory=list)
    metadata: dict[str, Any] | None = None

    @property
    def last(self) -> Message:
        """The last message."""
        return self.messages[-1]

    @property
    def continued(self) -> Message | None:
        """The answer that the page continues with results or decisions; None if the request has a message."""
        if self.trigger == "regenerate-message":
            return None
        named = [message for message in self.messages if message.id == self.message_id]
        found = named[-1] if named else self.last
        return found if found.role == "assistant" else None

    def question(self) -> str | list[dict[str, Any]]:
        """The last message, in the form that `asubmit` takes.

        Raises:
            BadRequest: it is not the user's, or a file in it cannot be used.
        """
        if self.last.role != "user":
            raise BadRequest("the last message must be the user's")
        parts = [_content(part, self.id) for part in self.last.parts if part.type in ("text", "file")]
        if all(part["type"] == "text" for part in parts):
            return "\n\n".join(part["text"] for part in parts)
        return parts

    def options(self) -> dict[str, Any]:
        """The options of `asubmit`."""
        options: dict[str, Any] = {"metadata": self.metadata}
        return {**options, "outside_tools": [tool.as_tool() for tool in self.tools]} if self.tools else options


def file_url(session_id: str, file_id: str) -> str:
    """The address of a session's file, at the gateway."""
    return f"/v1/sessions/{segment(session_id)}/files/{file_id}"


def _content(part: Part, session_id: str) -> dict[str, Any]:
    if part.type == "text":
        return {"type": "text", "text": part.text}
    named = {"name": part.filename} if part.filename else {}
    if found := _DATA.match(part.url):
        media_type = part.media_type or found[1]
        return {"type": kind_of(media_type), "data": part.url[found.end() :], "media_type": media_type, **named}
    if (ours := _FILE.search(part.url)) and unquote(ours[1]) == session_id:
        return {"type": kind_of(part.media_type), "file_id": ours[2]}
    if part.url.startswith(("http://", "https://")):
        return {"type": kind_of(part.media_type), "url": part.url, **named}
    raise BadRequest("a file must be a data URL with base64, a file of this session, or an http(s) URL")
