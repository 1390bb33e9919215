"""A provider that stalls, or answers 200 with something else: the request is sent again, by one layer alone."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from pydantic_ai.exceptions import ModelAPIError, UnexpectedModelBehavior
from pydantic_ai.messages import AgentStreamEvent, ModelMessage, PartStartEvent, TextPart
from pydantic_ai.models.function import AgentInfo, FunctionModel

from sessions.tools.decorator import tool
from workers.engine import TransientModelError
from workers.engine.failures import classify
from workers.engine.models import ModelResolver
from workers.engine.stream_limits import with_token_timeout

from .doubles import Rig, call


async def _silent_at_once(_: list[ModelMessage], __: AgentInfo) -> AsyncIterator[str]:
    await asyncio.sleep(3600)
    yield "never"


async def _silent_after_a_word(_: list[ModelMessage], __: AgentInfo) -> AsyncIterator[str]:
    yield "one "
    await asyncio.sleep(3600)
    yield "never"


@pytest.mark.parametrize("stream", [_silent_at_once, _silent_after_a_word])
async def test_a_stream_that_stalls_is_tried_again(rig: Rig, stream: object) -> None:
    """Before its first token or between two: it must not hold the turn until its deadline."""
    rig.registry.add_model("stalls", FunctionModel(stream_function=stream))  # type: ignore[call-overload]
    turn = rig.turn(model="stalls", stream=True)
    async with asyncio.timeout(30):
        with pytest.raises(TransientModelError):
            await rig.run(turn, first_token_timeout=0.1, token_timeout=0.1)


async def test_a_tool_may_take_longer_than_a_token(rig: Rig) -> None:
    """The limit is for a model that streams, not for what the model asked for."""

    @tool
    async def work() -> str:
        """Work."""
        await asyncio.sleep(0.5)
        return "done"

    rig.tool(work)
    rig.script([call("work", "c1")], [TextPart("Done.")])
    output = await rig.run(rig.turn(stream=True), first_token_timeout=0.2, token_timeout=0.2)
    assert output.text.strip() == "Done."


async def test_another_timeout_is_not_called_silence() -> None:
    """A model, a toolset or a hook may have its own time limit: its error is passed on as it is, at once."""

    async def events() -> AsyncIterator[AgentStreamEvent]:
        yield PartStartEvent(index=0, part=TextPart("one "))
        raise TimeoutError("the provider's own limit")

    async with asyncio.timeout(30):
        with pytest.raises(TimeoutError, match="the provider's own limit"):
            async for _ in with_token_timeout(events(), 3600):
                pass


@pytest.mark.parametrize("name", ["openai-chat:m", "openai:m", "anthropic:m"])
def test_a_vendor_s_client_does_not_retry_by_itself(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its tries would multiply ours, and it would sleep a Retry-After in the turn's slot."""
    monkeypatch.setenv("OPENAI_API_KEY", "none")
    monkeypatch.setenv("ANTHROPIC_API_KEY", "none")
    model = ModelResolver({}).resolve(name)
    assert model.client.max_retries == 0  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "error",
    [
        ModelAPIError("m", "Failed to decode response as JSON: Expecting value"),
        ModelAPIError("m", "Expected a JSON response, got: '<html>'"),
        UnexpectedModelBehavior("Invalid response from openai chat completions endpoint: 4 validation errors"),
    ],
)
def test_a_200_that_is_no_answer_is_tried_again(error: Exception) -> None:
    """A proxy's page, or an error object where the answer should be."""
    assert isinstance(classify(error), TransientModelError)
