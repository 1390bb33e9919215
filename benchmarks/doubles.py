"""The models of the benchmark's workers: they answer at once, after a pause, or in many deltas, as the message says.

SLEEP 3            the answer takes 3 seconds
DELTAS 100 8 0.01  the answer streams as 100 deltas of 8 characters, 0.01 s apart
CLOCK 4 0.1        streams the time 4 times, after pauses of 0.1 s
PEAK               answers with the largest number of model calls in flight at once, and resets it
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator

from pydantic_ai.messages import ModelMessage, ModelRequest, ModelResponse, TextPart, UserPromptPart
from pydantic_ai.models.function import AgentInfo, FunctionModel
from pydantic_ai.usage import RequestUsage

from benchmarks.without_rota import WITHOUT_ROTA, no_rota
from workers import register_model

INSTRUCTIONS = "You are helpful."
ANSWER = "Hello, I am the answer of a model that takes no time at all."
_USAGE = RequestUsage(input_tokens=20, output_tokens=12)


class _InFlight:
    def __init__(self) -> None:
        self.now = self.peak = 0

    def __enter__(self) -> None:
        self.now += 1
        self.peak = max(self.peak, self.now)

    def __exit__(self, *_: object) -> None:
        self.now -= 1


_in_flight = _InFlight()


def _words(messages: list[ModelMessage]) -> list[str]:
    last = messages[-1]
    prompts = [p.content for p in last.parts if isinstance(p, UserPromptPart)] if isinstance(last, ModelRequest) else []
    return str(prompts[-1]).split() if prompts else []


async def answer(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
    """The recipe's agent runs it too: nothing here depends on who calls it."""
    match _words(messages):
        case ["SLEEP", seconds]:
            with _in_flight:
                await asyncio.sleep(float(seconds))
        case ["PEAK"]:
            peak, _in_flight.peak = _in_flight.peak, _in_flight.now
            return ModelResponse(parts=[TextPart(str(peak))], usage=_USAGE)
    return ModelResponse(parts=[TextPart(ANSWER)], usage=_USAGE)


async def stream(messages: list[ModelMessage], info: AgentInfo) -> AsyncIterator[str]:
    """The streamed answer."""
    match _words(messages):
        case ["DELTAS", count, size, pause]:
            for _ in range(int(count)):
                if float(pause):
                    await asyncio.sleep(float(pause))
                yield "x" * int(size)
        case ["CLOCK", count, pause]:
            for _ in range(int(count)):
                await asyncio.sleep(float(pause))
                yield f"{time.monotonic()} "
        case _:
            yield ANSWER


if os.environ.get(WITHOUT_ROTA):
    no_rota().__enter__()

instant = register_model("instant", FunctionModel(answer, stream_function=stream, model_name="instant"))
