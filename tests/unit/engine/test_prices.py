"""What responses cost."""

from __future__ import annotations

from pydantic_ai.messages import ModelResponse, TextPart
from pydantic_ai.usage import RequestUsage

from workers.engine.prices import cost_of


def _response(provider: str | None, model: str) -> ModelResponse:
    usage = RequestUsage(input_tokens=1_000_000, output_tokens=1_000_000)
    return ModelResponse(parts=[TextPart("x")], usage=usage, model_name=model, provider_name=provider)


def test_a_known_model_has_its_price() -> None:
    """As pydantic-ai's price list says; several responses add up."""
    one = cost_of([_response("openai", "gpt-4o")])
    assert one > 0
    assert cost_of([_response("openai", "gpt-4o")] * 2) == 2 * one


def test_models_without_a_price_are_free() -> None:
    """Local models and doubles cost nothing, and are looked up once."""
    assert cost_of([_response("nobody", "local"), _response(None, "double"), _response("nobody", "local")]) == 0.0
