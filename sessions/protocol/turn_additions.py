"""What the sender of a message adds to its agent for one turn: instructions, tools, and the form of the answer."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field


class OutsideTool(BaseModel):
    """A tool that the sender has: the model may call it, and the turn waits until the sender provides the result.

    Attributes:
        parameters: JSON schema of its arguments, an object.
        strict: whether the provider must enforce the schema; None: as the provider does by default.
    """

    model_config = ConfigDict(frozen=True)

    name: str
    description: str = ""
    parameters: dict[str, Any] = Field(default_factory=lambda: {"type": "object", "properties": {}})
    strict: bool | None = None


class TurnAdditions(BaseModel):
    """What one turn has in addition to its agent's configuration. The agent, as its session knows it, stays as it is.

    Attributes:
        instructions: what the model is told after the agent's own instructions.
        tools: tools of the sender.
        tool_choice: which tools the model must call in the turn's first request; None: it decides.
        output_schema: JSON schema (of an object) of the answer, instead of the agent's.
    """

    model_config = ConfigDict(frozen=True)

    instructions: str = ""
    tools: tuple[OutsideTool, ...] = ()
    tool_choice: Literal["required"] | tuple[str, ...] | None = None
    output_schema: dict[str, Any] | None = None


NO_ADDITIONS = TurnAdditions()
