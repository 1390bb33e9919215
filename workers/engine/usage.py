"""What a turn has cost so far, read from its journal: a turn that fails was paid for all the same."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TypeVar

from pydantic_ai.messages import ModelResponse

from sessions.protocol.turn import Usage, total
from workers.engine.model_journal import BROKEN, recorded_response
from workers.engine.prices import cost_of
from workers.engine.tool_record import recorded_call

T = TypeVar("T")


def usage_of(responses: Sequence[ModelResponse]) -> Usage:
    """What these model responses cost."""
    return Usage(
        requests=len(responses),
        input_tokens=sum(response.usage.input_tokens for response in responses),
        output_tokens=sum(response.usage.output_tokens for response in responses),
        cost=cost_of(responses),
    )


def usage_so_far(steps: Mapping[str, bytes]) -> Usage:
    """The usage of all finished model requests and tool calls, those of agents that were asked included.

    A step that this worker cannot read is left out: bookkeeping must not keep a failed turn from ending.
    """
    calls = list(_readable(steps, "tool:", recorded_call))
    asked = [call.usage for call in calls if call.usage is not None]
    tools = Usage(tool_calls=sum(call.status == "ok" for call in calls))
    responses = usage_of(list(_readable(steps, "model:", recorded_response)))
    return total([responses, tools, *asked, broken_stream_usage(steps)])


def broken_stream_usage(steps: Mapping[str, bytes]) -> Usage:
    """The usage of streams that broke and were asked for again, as far as their providers said it."""
    return total(list(_readable(steps, BROKEN, Usage.model_validate_json)))


def _readable(steps: Mapping[str, bytes], prefix: str, read: Callable[[bytes], T]) -> Iterator[T]:
    for key, raw in steps.items():
        if key.startswith(prefix):
            try:
                yield read(raw)
            except ValueError:
                continue
