"""What the demo's workers import: a tool that charges a card, and a model that counts its requests.

Both write lines to a ledger, a file that survives any kill -9. So the demo's proof does not depend on what
Sessionfleet reports: the ledger is written where the effect happens.
"""

from __future__ import annotations

import asyncio
import json
import os
import time
from pathlib import Path
from typing import Any

from pydantic_ai.messages import ModelMessage, ModelResponse, UserPromptPart
from pydantic_ai.models import ModelRequestParameters
from pydantic_ai.models.wrapper import WrapperModel
from pydantic_ai.settings import ModelSettings

from sessions import ToolContext, tool
from workers import register_model
from workers.engine.models import ModelResolver

LEDGER = "DEMO_LEDGER"
MODEL = "DEMO_MODEL"
TOOL_SECONDS = 2.0
# A request after a tool is delayed for this long, so that there is time to kill: the offline model answers at once.
THINKING_SECONDS = 2.0


def note(kind: str, **what: Any) -> None:
    """Append one line to the ledger, in one write."""
    line = json.dumps({"kind": kind, "pid": os.getpid(), **what}) + "\n"
    with Path(os.environ[LEDGER]).open("a") as ledger:
        ledger.write(line)


@tool
def charge_card(ctx: ToolContext, euros: int) -> str:
    """Charge an amount to the customer's card."""
    note("charged", turn=ctx.turn_id, call=ctx.idempotency_key, euros=euros)  # the side effect
    time.sleep(TOOL_SECONDS)  # the bank takes its time to confirm
    return f"charged {euros} euros"


class CountingModel(WrapperModel):
    """Records each request that is really sent to the model, and each answer that really comes back.

    Counts requests that are not streamed; the demo streams none.
    """

    async def request(
        self,
        messages: list[ModelMessage],
        model_settings: ModelSettings | None,
        model_request_parameters: ModelRequestParameters,
    ) -> ModelResponse:
        step = _step(messages)
        which: dict[str, Any] = {"turn": messages[-1].run_id, "step": step}
        note("asked", **which)
        if step > 1:
            await asyncio.sleep(THINKING_SECONDS)
        response = await self.wrapped.request(messages, model_settings, model_request_parameters)
        note("answered", **which)
        return response


def _step(messages: list[ModelMessage]) -> int:
    """The number of the request within its turn: 1 for the first."""
    step = 1
    for message in messages:
        if isinstance(message, ModelResponse):
            step += 1
        elif any(isinstance(part, UserPromptPart) for part in message.parts):
            step = 1
    return step


counted = register_model("counted", CountingModel(ModelResolver({}).resolve(os.environ[MODEL])))
