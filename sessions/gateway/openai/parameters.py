"""Parameters that chat completions and responses have in common."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

from fastapi import Header
from pydantic import Field

from sessions.errors import BadRequest
from sessions.gateway.caller import Caller
from sessions.gateway.principal import Right
from sessions.gateway.strict_json import Body, Lenient

SessionHeader = Annotated[str | None, Header(alias="X-Session-Id", description="The session.", max_length=256)]
Metadata = Annotated[dict[str, str], Field(max_length=16)]
_EFFORTS: Final = {"none": False}


class Ignored(Body):
    """Parameters of OpenAI's that are accepted and change nothing: they concern its own platform."""

    store: bool | None = None
    service_tier: str | None = None
    safety_identifier: str | None = None
    prompt_cache_key: str | None = None
    prompt_cache_retention: str | None = None
    prompt_cache_options: dict[str, Any] | None = None


class Sampling(Ignored):
    """What a caller may say about how a model answers, without the right to configure."""

    temperature: float | None = Field(None, ge=0, le=2)
    top_p: float | None = Field(None, ge=0, le=1)
    presence_penalty: float | None = Field(None, ge=-2, le=2)
    frequency_penalty: float | None = Field(None, ge=-2, le=2)
    parallel_tool_calls: bool | None = None

    def sampling(self) -> dict[str, Any]:
        """As settings of the model."""
        names = ("temperature", "top_p", "presence_penalty", "frequency_penalty", "parallel_tool_calls")
        return {name: value for name in names if (value := getattr(self, name)) is not None}


def thinking(caller: Caller, effort: str | None, param: str) -> dict[str, Any]:
    """The setting for how much a model thinks, which decides what a turn costs.

    Raises:
        Forbidden: the right `configure` is missing.
    """
    if effort is None:
        return {}
    caller.principal.need(Right.CONFIGURE)
    if effort not in ("none", "minimal", "low", "medium", "high", "xhigh"):
        raise BadRequest(f"{effort!r} is no reasoning effort", param=param, code="invalid_value")
    return {"thinking": _EFFORTS.get(effort, effort)}


class FunctionDefinition(Lenient):
    """A tool of the client."""

    name: str
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None

    def as_tool(self) -> dict[str, Any]:
        """In the form that `asubmit` takes."""
        fields = {"name": self.name, "description": self.description or "", "strict": self.strict}
        # OpenAI's clients may leave the parameters out, or empty, for a function without any.
        parameters = {"type": "object", "properties": {}, **(self.parameters or {})}
        return {**fields, "parameters": parameters}


def tool_options(tools: list[FunctionDefinition], choice: str | list[str] | None) -> dict[str, Any]:
    """The options of `asubmit` for the client's tools."""
    if not tools or choice == "none":
        return {}
    options: dict[str, Any] = {"outside_tools": [tool.as_tool() for tool in tools]}
    return options if choice in (None, "auto") else {**options, "tool_choice": choice}


class JsonSchema(Lenient):
    """The form of an answer."""

    name: str = "output"
    description: str | None = None
    schema_: dict[str, Any] | None = Field(None, alias="schema")
    strict: bool | None = None


AnswerKind = Literal["text", "json_object", "json_schema"]


def output_schema(kind: AnswerKind, form: JsonSchema | None, param: str) -> dict[str, Any] | None:
    """The schema of the answer; None for a text.

    Raises:
        BadRequest: it is missing, or not that of an object.
    """
    if kind == "text":
        return None
    if kind == "json_object":
        return {"type": "object", "title": "object"}
    if form is None or form.schema_ is None:
        raise BadRequest("a json_schema needs its schema", param=param, code="missing_required_parameter")
    return {"title": form.name, **form.schema_}


def unsupported(name: str) -> BadRequest:
    """The error for a parameter of OpenAI's that has no meaning here."""
    return BadRequest(
        f"Unsupported parameter: {name!r} is not supported here.", param=name, code="unsupported_parameter"
    )
