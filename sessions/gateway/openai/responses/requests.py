"""What clients send for a response."""

from __future__ import annotations

from typing import Any, Final, Literal

from pydantic import Field

from sessions.errors import BadRequest
from sessions.gateway.caller import Caller
from sessions.gateway.openai.ids import session_of
from sessions.gateway.openai.item_bodies import ItemBody, items_of
from sessions.gateway.openai.items import Posted, posted
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

OWN_NOTES: Final = "openai.response"
"""The name in a turn's metadata of what its response says and no turn has otherwise."""
_NOT_HERE: Final = ("prompt", "max_tool_calls", "moderation")


class Tool(FunctionDefinition):
    """A tool of the client."""

    type: str
    name: str = ""


class ToolChoice(Lenient):
    """The one tool that must be called."""

    type: Literal["function"]
    name: str


class Format(JsonSchema):
    """The form of the answer."""

    type: AnswerKind


class Text(Lenient):
    """How the answer is written."""

    format: Format | None = None


class Reasoning(Lenient):
    """How much the model thinks."""

    effort: str | None = None


class ConversationRef(Lenient):
    """A conversation."""

    id: str


class ResponseRequest(Sampling):
    """A request for a response."""

    model: str
    input: str | list[ItemBody] = Field(min_length=1)
    instructions: str | None = None
    previous_response_id: str | None = None
    conversation: str | ConversationRef | None = None
    background: bool | None = None
    stream: bool | None = None
    stream_options: dict[str, Any] | None = None
    tools: list[Tool] | None = None
    tool_choice: Literal["none", "auto", "required"] | ToolChoice | None = None
    max_output_tokens: int | None = Field(None, ge=1)
    text: Text | None = None
    reasoning: Reasoning | None = None
    metadata: Metadata | None = None
    # Accepted if they ask for nothing, or without effect.
    include: list[str] | None = None
    truncation: Literal["auto", "disabled"] | None = None
    top_logprobs: int | None = None
    user: str | None = None
    context_management: Any = None
    prompt: Any = None
    max_tool_calls: int | None = None
    moderation: Any = None

    def check(self) -> None:
        """Refuse what cannot be done, rather than do something else.

        Raises:
            BadRequest: the message names the parameter.
        """
        if self.top_logprobs:
            raise unsupported("top_logprobs")
        for name in _NOT_HERE:
            if getattr(self, name) is not None:
                raise unsupported(name)
        if OWN_NOTES in (self.metadata or {}):
            raise BadRequest(f"the name {OWN_NOTES!r} is used by the gateway", param="metadata", code="invalid_value")
        if self.previous_response_id is not None and self.conversation is not None:
            raise BadRequest(
                "previous_response_id and conversation exclude each other: both say what comes before",
                param="previous_response_id",
                code="mutually_exclusive_parameters",
            )

    def posted(self) -> Posted:
        """What is new, and what the client says came before.

        Raises:
            BadRequest: nothing is new.
        """
        new = posted(items_of(self.input, "input"), "input")
        told = "\n\n".join(text for text in (self.instructions, new.instructions) if text)
        return Posted(new.history, new.message, new.results, new.decisions, told)

    def session_id(self, header: str | None) -> str | None:
        """The session that the request names as its conversation, or in the header."""
        if self.conversation is None:
            return header
        given = self.conversation if isinstance(self.conversation, str) else self.conversation.id
        return session_of(given, "conversation")

    def options(self, caller: Caller) -> dict[str, Any]:
        """The options of `asubmit`.

        Raises:
            BadRequest: one cannot be used. Forbidden: one needs a right that is missing.
        """
        options = tool_options(self._functions(), self._choice())
        form = None if self.text is None else self.text.format
        if form is not None:
            options["output_schema"] = output_schema(form.type, form, "text.format")
        effort = None if self.reasoning is None else self.reasoning.effort
        settings = self.sampling() | thinking(caller, effort, "reasoning.effort")
        if self.max_output_tokens is not None:
            settings["max_tokens"] = self.max_output_tokens
        notes = {"previous_response_id": self.previous_response_id, "background": self.background or None}
        own = {name: value for name, value in notes.items() if value is not None}
        metadata = {**(self.metadata or {}), **({OWN_NOTES: own} if own else {})}
        return options | {"model_settings": settings or None, "metadata": metadata or None}

    def _functions(self) -> list[FunctionDefinition]:
        if any(tool.type != "function" for tool in self.tools or ()):
            raise BadRequest("only tools of the type function are supported", param="tools", code="unsupported_value")
        return list(self.tools or ())

    def _choice(self) -> str | list[str] | None:
        return [self.tool_choice.name] if isinstance(self.tool_choice, ToolChoice) else self.tool_choice
