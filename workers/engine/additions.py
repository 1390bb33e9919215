"""What the sender of a message adds to its agent for one turn, as arguments of the run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic_ai import ToolDefinition
from pydantic_ai.settings import ModelSettings
from pydantic_ai.toolsets import ExternalToolset

from sessions.protocol.turn_additions import OutsideTool
from workers.engine.ports import TurnInput
from workers.engine.scope import TurnScope


def with_additions(options: Mapping[str, Any], turn: TurnInput) -> dict[str, Any]:
    """The arguments of an agent's run, with what the turn adds to them."""
    added = dict(options)
    told = [
        text for text in (options.get("instructions"), turn.recalled.instructions, turn.additions.instructions) if text
    ]
    if told:
        added["instructions"] = told
    if turn.additions.tools:
        # One toolset, whose calls pydantic-ai defers: their results are the answers that the turn waits for.
        outside = ExternalToolset([_defined(tool) for tool in turn.additions.tools])
        added["toolsets"] = [*options.get("toolsets", ()), outside]
    return added


def first_tools(scope: TurnScope | None) -> ModelSettings:
    """The choice of tools, for the first request only: a model that must call a tool every time never answers."""
    if scope is None or scope.requests or scope.turn.additions.tool_choice is None:
        return {}
    choice = scope.turn.additions.tool_choice
    return {"tool_choice": list(choice) if isinstance(choice, tuple) else choice}


def _defined(tool: OutsideTool) -> ToolDefinition:
    return ToolDefinition(
        name=tool.name,
        description=tool.description or None,
        parameters_json_schema=tool.parameters,
        strict=tool.strict,
    )
