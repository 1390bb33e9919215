"""The cost of model responses in US dollars, for models in pydantic-ai's price list."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache

from pydantic_ai.messages import ModelResponse


def cost_of(responses: Iterable[ModelResponse]) -> float:
    """The sum of the known prices. Models without a price (local ones, test doubles) count as free."""
    return sum(_price(response) for response in responses)


def _price(response: ModelResponse) -> float:
    unknown = _without_price()
    model = (response.provider_name, response.model_name)
    if model in unknown or None in model:
        return 0.0
    try:
        return float(response.cost().total_price)
    except (LookupError, ValueError, AssertionError):
        unknown.add(model)  # a failed lookup costs more than all other bookkeeping together
        return 0.0


@lru_cache(maxsize=1)
def _without_price() -> set[tuple[str | None, str | None]]:
    return set()
