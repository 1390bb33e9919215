"""Errors of a run are classified by what may pass."""

from __future__ import annotations

import pytest

from sessions.errors import TurnFailed
from workers.engine.failures import classify
from workers.engine.ports import TransientModelError


def raised_in(module: str) -> Exception:
    """An error that code of this module raised on reading a response."""
    names: dict[str, object] = {"__name__": module}
    exec("def read(response):\n    return [part for part in response.content]", names)
    with pytest.raises(AttributeError) as caught:
        names["read"](None)  # type: ignore[operator]
    return caught.value


@pytest.mark.parametrize("client", ["anthropic", "openai", "google", "mistral"])
def test_a_response_that_a_client_cannot_read_may_pass(client: str) -> None:
    """A 200 with an error object, or a proxy's JSON, is not the agent's fault."""
    found = classify(raised_in(f"pydantic_ai.models.{client}"))
    assert isinstance(found, TransientModelError)
    assert "no valid response" in str(found)


@pytest.mark.parametrize(
    "module", ["app.tools", "pydantic_ai.models.function", "pydantic_ai.models.test", "pydantic_ai"]
)
def test_an_error_of_other_code_fails_the_turn(module: str) -> None:
    """It would be raised again."""
    assert type(classify(raised_in(module))) is TurnFailed
    assert type(classify(AttributeError("never raised"))) is TurnFailed
