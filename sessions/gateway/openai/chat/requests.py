"""What clients send for a chat completion."""

from __future__ import annotations

from typing import Any, Final, Literal

from pydantic import Field

from sessions.errors import BadRequest
from sessions.gateway.caller import Caller
from sessions.gateway.openai.items import Item
from sessions.gateway.openai.parameters import (
    AnswerKind,
    FunctionDefinition,
    JsonSchema,
    Metadata,
    Sampling,
    output_schema,
    thinking,
    tool_options,
    unsupported,
)
from sessions.gateway.strict_json import Lenient

SESSION: Final = "session_id"
"""The name in the metadata that says which session a request belongs to."""
_NOT_HERE: Final = ("audio", "functions", "function_call", "web_search_options", "moderation")


class Url(Lenient):
    """Where an image is, or the image itself as a data URL."""

    url: str


class Part(Lenient):
    """A part of a message."""

    type: Literal["text", "image_url", "input_audio", "file", "refusal"]
    text: str = ""
    refusal: str = ""
    image_url: Url | None = None
    input_audio: dict[str, Any] | None = None
    file: dict[str, Any] | None = None

    def item(self) -> dict[str, Any]:
        """As a part of an item of the Responses API."""
        match self.type:
            case "text":
                return {"type": "input_text", "text": self.text}
            case "refusal":
                return {"type": "input_text", "text": self.refusal}
            case "image_url":
                return {"type": "input_image", "image_url": None if self.image_url is None else self.image_url.url}
            case "input_audio":
                return {"type": "input_audio", "input_audio": self.input_audio or {}}
            case "file":
                return {"type": "input_file", **(self.file or {})}


class CalledFunction(Lenient):
    """Which function was called."""

    name: str
    arguments: str


class ToolCall(Lenient):
    """A call that an assistant made."""

    id: str
    type: Literal["function"] = "function"
    function: CalledFunction


class Message(Lenient):
    """A message."""

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: str | list[Part] | None = None
    tool_calls: list[ToolCall] | None = None
    tool_call_id: str | None = None

    def items(self) -> list[Item]:
        """As items of the Responses API.

        Raises:
            BadRequest: a result does not say of which call it is, or a message has no content.
        """
        content = self.content if isinstance(self.content, str) else [part.item() for part in self.content or ()]
        if self.role == "tool":
            if self.tool_call_id is None:
                raise BadRequest(
                    "a message of a tool needs its tool_call_id", param="messages", code="missing_required_parameter"
                )
            return [{"type": "function_call_output", "call_id": self.tool_call_id, "output": content}]
        if not content and self.role != "assistant":
            raise BadRequest("a message has no content", param="messages", code="invalid_value")
        made: list[Item] = [{"type": "message", "role": self.role, "content": content}]
        for call in self.tool_calls or ():
            called = {"name": call.function.name, "arguments": call.function.arguments}
            made.append({"type": "function_call", "call_id": call.id, **called})
        return made


class Tool(Lenient):
    """A tool of the client."""

    type: str
    function: FunctionDefinition | None = None


class NamedFunction(Lenient):
    """A function by its name."""

    name: str


class ToolChoice(Lenient):
    """The one tool that must be called."""

    type: Literal["function"]
    function: NamedFunction


class ResponseFormat(Lenient):
    """The form of the answer."""

    type: AnswerKind
    json_schema: JsonSchema | None = None


class StreamOptions(Lenient):
    """Options of a stream."""

    include_usage: bool | None = None


class ChatRequest(Sampling):
    """A request for a chat completion."""

    model: str
    messages: list[Message] = Field(min_length=1)
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    tools: list[Tool] | None = None
    tool_choice: Literal["none", "auto", "required"] | ToolChoice | None = None
    max_tokens: int | None = Field(None, ge=1)
    max_completion_tokens: int | None = Field(None, ge=1)
    stop: str | list[str] | None = None
    seed: int | None = None
    logit_bias: dict[str, int] | None = None
    response_format: ResponseFormat | None = None
    reasoning_effort: str | None = None
    n: int | None = None
    user: str | None = None
    metadata: Metadata | None = None
    # Accepted if they ask for nothing.
    logprobs: bool | None = None
    top_logprobs: int | None = None
    modalities: list[str] | None = None
    verbosity: str | None = None
    prediction: dict[str, Any] | None = None
    audio: dict[str, Any] | None = None
    functions: list[Any] | None = None
    function_call: Any = None
    web_search_options: dict[str, Any] | None = None
    moderation: Any = None

    def session_id(self, header: str | None) -> str | None:
        """The session that the request names: in the header, else as its user, else in its metadata."""
        return header or self.user or (self.metadata or {}).get(SESSION)

    def items(self) -> list[Item]:
        """Its messages as items."""
        return [item for message in self.messages for item in message.items()]

    def check(self) -> None:
        """Refuse what cannot be done, rather than do something else.

        Raises:
            BadRequest: the message names the parameter.
        """
        if self.n not in (None, 1):
            raise BadRequest("only one choice can be generated: n must be 1", param="n", code="unsupported_value")
        if self.logprobs or self.top_logprobs:
            raise unsupported("logprobs")
        if any(kind != "text" for kind in self.modalities or ()):
            raise unsupported("modalities")
        for name in _NOT_HERE:
            if getattr(self, name) is not None:
                raise unsupported(name)

    def options(self, caller: Caller) -> dict[str, Any]:
        """The options of `asubmit`.

        Raises:
            BadRequest: one cannot be used. Forbidden: one needs a right that is missing.
        """
        options = tool_options(self._functions(), self._choice())
        form = self.response_format
        if form is not None:
            options["output_schema"] = output_schema(form.type, form.json_schema, "response_format")
        settings = self.sampling() | thinking(caller, self.reasoning_effort, "reasoning_effort")
        if (most := self.max_completion_tokens or self.max_tokens) is not None:
            settings["max_tokens"] = most
        if self.stop is not None:
            settings["stop_sequences"] = [self.stop] if isinstance(self.stop, str) else self.stop
        for name in ("seed", "logit_bias"):
            if (value := getattr(self, name)) is not None:
                settings[name] = value
        notes = {name: value for name, value in (self.metadata or {}).items() if name != SESSION}
        return options | {"model_settings": settings or None, "metadata": notes or None}

    def _functions(self) -> list[FunctionDefinition]:
        tools = self.tools or []
        functions = [tool.function for tool in tools if tool.type == "function" and tool.function is not None]
        if len(functions) < len(tools):
            raise BadRequest("only tools of the type function are supported", param="tools", code="unsupported_value")
        return functions

    def _choice(self) -> str | list[str] | None:
        return [self.tool_choice.function.name] if isinstance(self.tool_choice, ToolChoice) else self.tool_choice
