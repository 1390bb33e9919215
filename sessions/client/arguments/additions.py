"""Checks of what a message adds to its agent for one turn."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from sessions.client.arguments.values import json_object
from sessions.errors import BadRequest, InvalidTool
from sessions.protocol.text import is_encodable
from sessions.protocol.turn_additions import NO_ADDITIONS, OutsideTool, TurnAdditions

MOST_TOOLS: Final = 128
_LARGEST: Final = 64 * 1024
_TOOL_NAME: Final = re.compile(r"[A-Za-z0-9_-]{1,64}\Z")
"""What all providers accept as the name of a tool."""


def turn_additions(
    instructions: object, outside_tools: object, tool_choice: object, output_schema: object
) -> TurnAdditions | None:
    """Check the additions of a message; None if there are none.

    Raises:
        BadRequest: one of them cannot be used; InvalidTool is a kind of it.
    """
    tools = _tools(outside_tools)
    additions = TurnAdditions(
        instructions=_text("instructions", instructions),
        tools=tools,
        tool_choice=_choice(tool_choice, [tool.name for tool in tools]),
        output_schema=None if output_schema is None else _schema("output_schema", output_schema),
    )
    if additions == NO_ADDITIONS:
        return None
    size = len(additions.model_dump_json().encode())
    if size > _LARGEST:
        raise BadRequest(
            f"instructions, outside_tools and output_schema have {size:,} bytes together, the limit is {_LARGEST:,}"
        )
    return additions


def _text(name: str, value: object) -> str:
    if value is None:
        return ""
    if not isinstance(value, str) or not is_encodable(value):
        raise BadRequest(f"{name} must be a string of valid UTF-8, not {type(value).__name__}")
    return value


def _tools(value: object) -> tuple[OutsideTool, ...]:
    if value is None:
        return ()
    if isinstance(value, str | Mapping) or not isinstance(value, Sequence) or len(value) > MOST_TOOLS:
        raise InvalidTool(
            f"outside_tools: use a list of up to {MOST_TOOLS} tools with name, description and parameters"
        )
    tools = tuple(_tool(item) for item in value)
    names = [tool.name for tool in tools]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise InvalidTool(f"outside_tools: the name {twice!r} occurs twice")
    return tools


def _tool(item: object) -> OutsideTool:
    fields: dict[str, Any] = json_object("a tool in outside_tools", item)
    name = fields.get("name")
    if not isinstance(name, str) or not _TOOL_NAME.match(name):
        raise InvalidTool(f"outside_tools: {name!r} is no name for a tool: use 1 to 64 letters, digits, _ and -")
    if unknown := fields.keys() - OutsideTool.model_fields.keys():
        raise InvalidTool(f"outside_tools: tool {name!r} has the unknown field {min(unknown)!r}")
    strict = fields.get("strict")
    if not isinstance(strict, bool | None):
        raise InvalidTool(f"outside_tools: strict of {name!r} must be true or false")
    given = fields.get("parameters")
    parameters = {} if given is None else {"parameters": _schema(f"parameters of the tool {name!r}", given)}
    return OutsideTool(
        name=name, description=_text(f"description of {name!r}", fields.get("description")), strict=strict, **parameters
    )


def _schema(name: str, value: object) -> dict[str, Any]:
    schema = json_object(name, value)
    if schema.get("type") != "object":
        raise BadRequest(f'{name} must be the JSON schema of an object: {{"type": "object", ...}}')
    return schema


def _choice(value: object, names: list[str]) -> Any:
    if value is None or value == "required":
        if value is not None and not names:
            raise BadRequest('tool_choice="required" needs outside_tools')
        return value
    chosen = (value,) if isinstance(value, str) else tuple(value) if isinstance(value, Sequence) else ()
    if not chosen or any(name not in names for name in chosen):
        raise BadRequest(f'tool_choice={value!r}: use "required", or names of outside_tools')
    return chosen
