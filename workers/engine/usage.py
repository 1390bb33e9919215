"""The usage of a turn so far, read from its journal: a turn that fails was paid for as well."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TypeVar

from pydantic_ai.messages import ModelResponse

from sessions.protocol.turn import Usage, total
from workers.engine.model_journal import BROKEN, load_response
from workers.engine.prices import cost_of
from workers.engine.tool_record import load_call

T = TypeVar("T")


def usage_of(responses: Sequence[ModelResponse]) -> Usage:
    """The usage of these model responses."""
    return Usage(
        requests=len(responses),
        input_tokens=sum(response.usage.input_tokens for response in responses),
        cache_read_tokens=sum(response.usage.cache_read_tokens for response in responses),
        cache_write_tokens=sum(response.usage.cache_write_tokens for response in responses),
        output_tokens=sum(response.usage.output_tokens for response in responses),
        cost=cost_of(responses),
    )


def usage_so_far(steps: Mapping[str, bytes]) -> Usage:
    """The usage of all completed model requests and tool calls, including that of other agents' turns.

    Steps that this worker cannot parse are skipped: bookkeeping must not keep a failed turn from ending.
    """
    calls = list(_readable(steps, "tool:", load_call))
    asked = [call.usage for call in calls if call.usage is not None]
    tools = Usage(tool_calls=sum(call.status == "ok" for call in calls))
    responses = usage_of(list(_readable(steps, "model:", load_response)))
    return total([responses, tools, *asked, broken_stream_usage(steps)])


def broken_stream_usage(steps: Mapping[str, bytes]) -> Usage:
    """The usage of streams that broke and were requested again, as far as their providers reported it."""
    return total(list(_readable(steps, BROKEN, Usage.model_validate_json)))


def _readable(steps: Mapping[str, bytes], prefix: str, read: Callable[[bytes], T]) -> Iterator[T]:
    for key, raw in steps.items():
        if key.startswith(prefix):
            try:
                yield read(raw)
            except ValueError:
                continue
