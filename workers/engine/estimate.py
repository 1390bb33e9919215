"""What a model request may cost, before it is sent: for budgets, which must not be exceeded by it."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil
from typing import Any, Final

from pydantic_ai._context_size import context_tokens
from pydantic_ai.messages import ModelMessage, ModelResponse
from pydantic_ai.models import Model, ModelRequestParameters
from pydantic_ai.settings import ModelSettings
from pydantic_ai.usage import RequestUsage
from pydantic_core import to_json

from workers.engine.attachments import files_of
from workers.engine.ports import RequestEstimate
from workers.engine.prices import PriceList, named
from workers.engine.prompt_cache import models_of
from workers.engine.window import bytes_besides

_BYTES_PER_TOKEN: Final = 3
"""Fewer than texts have in most languages: an estimate that is too low would let a budget be exceeded."""
_FILE_TOKENS: Final = 2_000
ANSWER_TOKENS: Final = 4_096
"""Of an answer whose length is not limited (`max_tokens`)."""


def estimate_of(
    model: Model,
    messages: Sequence[ModelMessage],
    settings: ModelSettings | None,
    parameters: ModelRequestParameters,
    prices: PriceList,
) -> RequestEstimate:
    """What a request may cost. A fallback chain costs as much as the most expensive of its models."""
    before = _prompt_tokens(messages, parameters)
    tokens, most, unpriced = before, 0.0, ""
    for each in models_of(model):
        usage = RequestUsage(input_tokens=before, output_tokens=_answer_tokens(each, settings))
        tokens = max(tokens, usage.total_tokens)
        if (cost := prices.cost(each.system, each.model_name, usage)) is None:
            unpriced = unpriced or named(each.system, each.model_name)
        else:
            most = max(most, cost)
    return RequestEstimate(tokens, most, unpriced)


def _answer_tokens(model: Model, settings: ModelSettings | None) -> int:
    own: dict[str, Any] = {**(model.settings or {}), **(settings or {})}
    return int(own.get("max_tokens") or ANSWER_TOKENS)


def _prompt_tokens(messages: Sequence[ModelMessage], parameters: ModelRequestParameters) -> int:
    """The tokens of the last response, as its provider counted them, and an estimate of what came after it."""
    known, start = 0, 0
    for at, message in enumerate(messages):
        if isinstance(message, ModelResponse) and (tokens := context_tokens(message)):
            known, start = tokens, at + 1
    new = messages[start:]
    size = sum(len(to_json(message.parts, fallback=repr)) for message in new)
    if not known:
        size += bytes_besides(messages, parameters)
    return known + ceil(size / _BYTES_PER_TOKEN) + _FILE_TOKENS * sum(1 for _ in files_of(new))
