"""The usage of a turn so far, read from its journal: a turn that fails was paid for as well."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TypeVar

from sessions.protocol.turn import ModelUsage, Usage, total
from workers.engine.model_journal import BROKEN, load_response
from workers.engine.prices import PriceList
from workers.engine.tool_record import ToolRecord, load_call

T = TypeVar("T")


def usage_so_far(steps: Mapping[str, bytes], prices: PriceList) -> Usage:
    """The usage of all completed model requests and tool calls, including that of other agents' turns.

    Steps that this worker cannot parse are skipped: bookkeeping must not keep a failed turn from ending.
    """
    calls = _calls(steps)
    asked = [call.usage for call in calls if call.usage is not None]
    return total([*_requests(steps, prices), _tool_calls(calls), *asked])


def broken_stream_usage(steps: Mapping[str, bytes]) -> Usage:
    """The usage of streams that broke and were requested again, as far as their providers reported it."""
    return total(_broken(steps))


def usage_by_model(steps: Mapping[str, bytes], prices: PriceList, more: ModelUsage | None = None) -> list[ModelUsage]:
    """What the turn itself used, for each model. Turns of other agents that it asked have their own.

    Tool calls are counted at the model that was asked last.

    Args:
        more: of a request that is not in the journal, because it was cut short.
    """
    requests = [*_requests(steps, prices), *([] if more is None else [more])]
    by_model: dict[str, list[Usage]] = {}
    for each in requests:
        by_model.setdefault(each.model, []).append(each)
    calls = _tool_calls(_calls(steps))
    if requests and calls.tool_calls:
        by_model[requests[-1].model].append(calls)
    return [ModelUsage(**{**dict(total(spent)), "model": model}) for model, spent in by_model.items()]


def _requests(steps: Mapping[str, bytes], prices: PriceList) -> list[ModelUsage]:
    return [*_broken(steps), *prices.usages(_readable(steps, "model:", load_response))]


def _broken(steps: Mapping[str, bytes]) -> list[ModelUsage]:
    return list(_readable(steps, BROKEN, ModelUsage.model_validate_json))


def _calls(steps: Mapping[str, bytes]) -> list[ToolRecord]:
    return list(_readable(steps, "tool:", load_call))


def _tool_calls(calls: list[ToolRecord]) -> Usage:
    return Usage(tool_calls=sum(call.status == "ok" for call in calls))


def _readable(steps: Mapping[str, bytes], prefix: str, read: Callable[[bytes], T]) -> Iterator[T]:
    for key, raw in steps.items():
        if key.startswith(prefix):
            try:
                yield read(raw)
            except ValueError:
                continue
