"""What a failed turn has cost, from its journal."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from pydantic_ai.exceptions import ModelHTTPError
from pydantic_ai.messages import ModelMessage
from pydantic_ai.models.function import AgentInfo, FunctionModel

from workers.engine import TransientModelError
from workers.engine.prices import PriceList
from workers.engine.usage import broken_stream_usage, usage_so_far

from .doubles import Rig


def test_a_step_that_cannot_be_read_does_not_keep_a_turn_from_ending() -> None:
    """A newer worker's step is left out of the sum, instead of raising while the turn is ended."""
    steps = {"inputs": b"0:20:1", "model:1": b'{"kind":"of tomorrow"}', "tool:1:c:0": b"not JSON"}
    assert usage_so_far(steps, PriceList()).requests == 0


async def test_a_stream_that_broke_was_paid_for_too(rig: Rig) -> None:
    """What the provider had said by then is journalled; the next attempt, and the turn's end, count it."""
    broke = []

    async def stream(messages: list[ModelMessage], info: AgentInfo) -> AsyncIterator[str]:
        yield "half of "
        yield "it"
        if not broke:
            broke.append(True)
            raise ModelHTTPError(503, "m")

    rig.registry.add_model("breaking", FunctionModel(stream_function=stream))
    turn = rig.turn(model="breaking", stream=True)
    with pytest.raises(TransientModelError):
        await rig.run(turn)
    lost = broken_stream_usage(rig.store)
    assert lost.requests == 1
    assert lost.output_tokens > 0
    assert usage_so_far(rig.store, PriceList()) == lost
    output = await rig.run(turn)
    assert output.text == "half of it"
    assert broken_stream_usage(rig.store) == lost


async def test_a_stream_that_was_cut_short_is_counted(rig: Rig) -> None:
    """A Stop button: one request, and the tokens as far as they are known."""
    started = asyncio.Event()

    async def stream(messages: list[ModelMessage], info: AgentInfo) -> AsyncIterator[str]:
        yield "half of it"
        started.set()
        await asyncio.sleep(3600)

    rig.registry.add_model("slow", FunctionModel(stream_function=stream))
    run = asyncio.create_task(rig.run(rig.turn(model="slow", stream=True)))
    await started.wait()
    run.cancel()
    await asyncio.gather(run, return_exceptions=True)
    assert rig.state.partial_usage is not None
    assert rig.state.partial_usage.requests == 1
