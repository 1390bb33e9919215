"""The usage of a turn so far, read from its journal: a turn that fails was paid for as well."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TypeVar

from sessions.protocol.turn import ModelUsage, Usage, total
from workers.engine.model_record import BROKEN, load_response
from workers.engine.prices import PriceList
from workers.engine.tool_record import ToolRecord, load_call

T = TypeVar("T")


class RequestMeter:
    """What the requests in a journal used. Each step is parsed once, however often it is asked."""

    def __init__(self, steps: Mapping[str, bytes], prices: PriceList) -> None:
        self._steps = steps
        self._prices = prices
        self._read: dict[str, list[ModelUsage]] = {}

    def read(self) -> list[ModelUsage]:
        """One entry for each request so far."""
        for key, raw in self._steps.items():
            if key not in self._read and key.startswith(("model:", BROKEN)):
                self._read[key] = _requests({key: raw}, self._prices)
        return [usage for found in self._read.values() for usage in found]


def usage_so_far(steps: Mapping[str, bytes], prices: PriceList, more: ModelUsage | None = None) -> Usage:
    """The usage of all completed model requests and tool calls, including that of other agents' turns.

    Steps that this worker cannot parse are skipped: bookkeeping must not keep a failed turn from ending.

    Args:
        more: of a request that is not in the journal, because it was cut short.
    """
    calls = _calls(steps)
    asked = [call.usage for call in calls if call.usage is not None]
    return total([*_requests(steps, prices, more), _tool_calls(calls), *asked])


def broken_stream_usage(steps: Mapping[str, bytes]) -> Usage:
    """The usage of streams that broke and were requested again, as far as their providers reported it."""
    return total(_broken(steps))


def usage_by_model(steps: Mapping[str, bytes], prices: PriceList, more: ModelUsage | None = None) -> list[ModelUsage]:
    """What the turn itself used, for each model. Turns of other agents that it asked have their own.

    Tool calls are counted at the model that was asked last.

    Args:
        more: as for `usage_so_far`.
    """
    requests = _requests(steps, prices, more)
    by_model: dict[str, list[Usage]] = {}
    for each in requests:
        by_model.setdefault(each.model, []).append(each)
    if requests and (called := _tool_calls(_calls(steps))).tool_calls:
        by_model[requests[-1].model].append(called)
    return [_of_model(model, spent) for model, spent in by_model.items()]


def _of_model(model: str, spent: Sequence[Usage]) -> ModelUsage:
    first = spent[0]
    if len(spent) == 1 and isinstance(first, ModelUsage):
        return first
    return ModelUsage(**{**dict(total(spent)), "model": model})


def _requests(steps: Mapping[str, bytes], prices: PriceList, more: ModelUsage | None = None) -> list[ModelUsage]:
    found = [*_broken(steps), *prices.usages(_readable(steps, "model:", load_response))]
    return found if more is None else [*found, more]


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
