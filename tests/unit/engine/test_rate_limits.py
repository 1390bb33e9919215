"""Rate limits of providers: a model that refused a call is not called again before its time, by no turn."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from pydantic_ai.exceptions import ModelHTTPError, ModelRateLimitError
from pydantic_ai.messages import ModelMessage, ModelResponse, TextPart
from pydantic_ai.models.function import AgentInfo, FunctionModel
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.providers.openai import OpenAIProvider

from tests.unit.engine.doubles import Rig
from workers.engine.limited_model import digest_of
from workers.engine.ports import ModelLimit, TransientModelError


class Limits:
    """The limiter of one test: what was closed, and how long each call has to wait."""

    def __init__(self) -> None:
        self.closed: dict[str, float] = {}

    async def wait(self, model: str) -> float:
        await asyncio.sleep(0)
        return self.closed.get(model, 0.0)

    async def close(self, model: str, seconds: float) -> None:
        await asyncio.sleep(0)
        self.closed[model] = seconds


class Provider:
    """A model that refuses every call as long as there is something to refuse with."""

    def __init__(self, name: str, error: Exception | None = None) -> None:
        self.error = error
        self.calls = 0
        self.model = FunctionModel(self._answer, stream_function=self._stream, model_name=name)

    def _step(self) -> str:
        self.calls += 1
        if self.error is not None:
            raise self.error
        return "fine"

    async def _answer(self, messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        return ModelResponse(parts=[TextPart(self._step())])

    async def _stream(self, messages: list[ModelMessage], info: AgentInfo) -> AsyncIterator[Any]:
        yield self._step()


def refusal(status: int = 429, after: str | None = "7") -> ModelHTTPError:
    headers = {} if after is None else {"retry-after": after}
    return ModelHTTPError(status, "m", body="too many", headers=headers)


@pytest.fixture
def limits(rig: Rig) -> Limits:
    rig.state.model_limits = made = Limits()
    return made


def provider(rig: Rig, error: Exception | None = None, name: str = "scripted") -> Provider:
    made = Provider(name, error)
    rig.registry.add_model(name, made.model)
    return made


@pytest.mark.parametrize("stream", [False, True])
async def test_a_refused_call_holds_back_the_next_ones(rig: Rig, limits: Limits, stream: bool) -> None:
    """The first one was sent, so it is a retry; the second one is not sent, and comes back after the same pause."""
    model = provider(rig, refusal())
    with pytest.raises(TransientModelError) as sent:
        await rig.run(rig.turn(stream=stream))
    digest = digest_of(model.model)
    assert limits.closed == {digest: 7.0}
    assert (sent.value.retry_after, sent.value.limit) == (7.0, ModelLimit(digest, asked=True))

    with pytest.raises(TransientModelError, match="rate limit") as kept:
        await rig.run(rig.turn(stream=stream))
    assert (kept.value.retry_after, kept.value.limit) == (7.0, ModelLimit(digest, asked=False))
    assert model.calls == 1


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("error", [refusal(after=None), refusal(503), refusal(500)])
async def test_other_errors_hold_nothing_back(rig: Rig, limits: Limits, error: Exception, stream: bool) -> None:
    """Without a time from the provider, or without a limit, each turn waits for itself as before."""
    provider(rig, error)
    with pytest.raises(TransientModelError) as raised:
        await rig.run(rig.turn(stream=stream))
    assert (limits.closed, raised.value.limit) == ({}, None)


@pytest.mark.parametrize("stream", [False, True])
async def test_a_chain_goes_on_to_a_model_that_may_be_called(rig: Rig, limits: Limits, stream: bool) -> None:
    """The model that is held back is not asked, and the turn does not wait."""
    first, second = provider(rig, refusal(), "first"), provider(rig, name="second")
    turn = rig.turn(stream=stream, model=("first", "second"))
    assert (await rig.run(turn)).text == "fine"
    rig.store.clear()
    assert (await rig.run(turn)).text == "fine"
    assert (first.calls, second.calls) == (1, 2)


async def test_a_chain_waits_for_the_model_that_may_be_called_first(rig: Rig, limits: Limits) -> None:
    """If each is held back, the turn waits for the earlier one, which is no retry."""
    both = [provider(rig, ModelRateLimitError(name, "no"), name) for name in ("first", "second")]
    limits.closed = {digest_of(each.model): pause for each, pause in zip(both, (9.0, 4.0), strict=True)}
    with pytest.raises(TransientModelError) as raised:
        await rig.run(rig.turn(model=("first", "second")))
    assert raised.value.retry_after == 4.0
    assert raised.value.limit == ModelLimit(digest_of(both[1].model), asked=False)
    assert [each.calls for each in both] == [0, 0]


def test_a_limit_is_of_one_model_and_key() -> None:
    """Another key, model or address has a limit of its own; the digest does not show the key."""

    def digest(name: str = "gpt-5", key: str = "sk-1", url: str = "http://localhost/v1") -> str:
        return digest_of(OpenAIChatModel(name, provider=OpenAIProvider(base_url=url, api_key=key)))

    others = [digest("gpt-5-mini"), digest(key="sk-2"), digest(url="http://localhost/v2")]
    assert digest() == digest()
    assert digest() not in others
    assert len(set(others)) == 3
