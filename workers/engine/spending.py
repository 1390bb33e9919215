"""What a turn has cost so far, read from its journal: a turn that fails was paid for all the same."""

from __future__ import annotations

from collections.abc import Mapping

from sessions.protocol import Usage, total
from workers.engine.journal import recorded_response
from workers.engine.prices import cost_of
from workers.engine.tool_record import recorded_call


def spent(steps: Mapping[str, bytes]) -> Usage:
    """The usage of all finished model requests and tool calls, those of agents that were asked included."""
    responses = [recorded_response(raw) for key, raw in steps.items() if key.startswith("model:")]
    calls = [recorded_call(raw) for key, raw in steps.items() if key.startswith("tool:")]
    asked = [call.usage for call in calls if call.usage is not None]
    own = Usage(
        requests=len(responses),
        input_tokens=sum(response.usage.input_tokens for response in responses),
        output_tokens=sum(response.usage.output_tokens for response in responses),
        cost=cost_of(responses),
        tool_calls=sum(call.status == "ok" for call in calls),
    )
    return total([own, *asked])
