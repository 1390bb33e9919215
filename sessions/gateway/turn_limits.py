"""The limits of a turn in requests and replies."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import ConfigDict, Field

from sessions.client.arguments.turn_limits import MOST_CALLS
from sessions.gateway.strict_json import Body
from sessions.protocol.turn_limits import TurnLimits


class TurnBudget(Body):
    """What a turn may spend."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"tokens": 50000, "cost": 0.25}]})

    tokens: int | None = Field(None, ge=0, description="Input and output tokens.")
    cost: float | None = Field(None, ge=0, description="US dollars.")

    @classmethod
    def of(cls, limits: TurnLimits) -> TurnBudget | None:
        """The budget in limits; None if they have none."""
        if limits.tokens is None and limits.cost is None:
            return None
        return cls(tokens=limits.tokens, cost=limits.cost)


ModelCalls = Annotated[int | None, Field(ge=1, le=MOST_CALLS, description="How often a turn may ask a model.")]
ToolCalls = Annotated[int | None, Field(ge=0, le=MOST_CALLS, description="How many tool calls a turn may make.")]
SpentAtMost = Annotated[TurnBudget | None, Field(description="What a turn may spend.")]


def given_budget(budget: TurnBudget | None) -> dict[str, Any] | None:
    """The budget as the API takes it; None if it limits nothing."""
    return None if budget is None else budget.model_dump(exclude_none=True) or None
