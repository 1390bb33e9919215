"""What responses cost."""

from __future__ import annotations

import pytest
from pydantic_ai.messages import ModelResponse, TextPart
from pydantic_ai.usage import RequestUsage

from broker_config.prices import parse_prices
from sessions.protocol.turn import Usage, total
from workers.engine.prices import Price, PriceList


def _response(provider: str | None, model: str) -> ModelResponse:
    usage = RequestUsage(input_tokens=1_000_000, output_tokens=1_000_000)
    return ModelResponse(parts=[TextPart("x")], usage=usage, model_name=model, provider_name=provider)


def _cost(prices: PriceList, *responses: ModelResponse) -> Usage:
    return total(prices.usages(responses))


def test_a_known_model_has_its_price() -> None:
    """As pydantic-ai's price list says; several responses add up."""
    one = _cost(PriceList(), _response("openai", "gpt-4o"))
    assert one.cost
    assert one.cost > 0
    both = _cost(PriceList(), *[_response("openai", "gpt-4o")] * 2)
    assert (both.cost, both.unpriced_requests) == (2 * one.cost, 0)


def test_an_unknown_price_is_unknown_and_not_zero() -> None:
    """Of several responses, the known prices are added, and the number of the others is said."""
    prices = PriceList()
    unknown = _cost(prices, _response("nobody", "local"), _response(None, "double"), _response("nobody", "local"))
    assert (unknown.cost, unknown.unpriced_requests) == (None, 3)
    mixed = _cost(prices, _response("openai", "gpt-4o"), _response("nobody", "local"))
    assert mixed.cost
    assert mixed.unpriced_requests == 1


def test_a_deployment_may_set_prices() -> None:
    """By the model's name, with or without its provider. The built-in model is free."""
    text = '{"local": {"input": 1, "output": 2}, "openai:gpt-4o": {"input": 0.5, "output": 0, "cache_read": 0.1}}'
    prices = PriceList(parse_prices(text))
    assert _cost(prices, _response("nobody", "local")).cost == 3
    assert _cost(prices, _response("openai", "gpt-4o")).cost == 0.5
    assert _cost(prices, _response(None, "offline")).cost == 0
    cached = RequestUsage(input_tokens=2_000_000, cache_read_tokens=1_000_000)
    assert prices.cost("openai", "gpt-4o", cached) == pytest.approx(0.6)


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "[]",
        '{"m": 1}',
        '{"m": {"input": 1}}',
        '{"m": {"input": -1, "output": 1}}',
        '{"m": {"input": true, "output": 1}}',
    ],
)
def test_prices_of_another_form_are_refused(text: str) -> None:
    """When the settings are read, and not at the first turn."""
    with pytest.raises(ValueError, match=r"JSON|price"):
        parse_prices(text)


def test_an_unknown_cost_is_left_out_where_it_is_stored() -> None:
    """Earlier versions read a number there. Both sides say the same of it."""
    unknown = Usage(requests=2, unpriced_requests=2)
    assert unknown.cost is None
    assert '"cost"' not in unknown.model_dump_json()
    assert Usage.model_validate_json(unknown.model_dump_json()) == unknown
    assert Usage.model_validate_json('{"requests": 1, "cost": 0.0}').cost == 0.0, "of an earlier version"
    assert Price(1, 1).cost(RequestUsage()) == 0
