"""What the engine adds to a bare pydantic-ai run: `python -m benchmarks.engine_overhead [turns]`."""

from __future__ import annotations

import asyncio
import gc
import resource
import sys
import time
from collections.abc import Awaitable, Callable
from functools import partial

from pydantic_ai import Agent
from pydantic_ai.messages import ModelMessage, ModelResponse, TextPart, ToolCallPart
from pydantic_ai.models.function import AgentInfo, FunctionModel
from pydantic_ai.usage import RequestUsage

from benchmarks.without_lease import DictJournal, NoEvents
from sessions.protocol.agent import AgentConfig
from sessions.tools import tool
from workers.engine import Engine, Registry, RunState, TurnInput


@tool
async def lookup(q: str) -> str:
    """Look something up."""
    return "r" * 50


USAGE = RequestUsage(input_tokens=1, output_tokens=1)


async def answer(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
    return ModelResponse(parts=[TextPart("hello world answer")], usage=USAGE)


async def call_then_answer(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
    if isinstance(messages[-1], ModelResponse) or messages[-1].parts[-1].part_kind == "user-prompt":
        return ModelResponse(parts=[ToolCallPart("lookup", {"q": "a"}, tool_call_id="c1")], usage=USAGE)
    return await answer(messages, info)


def turn(number: int, model: str, tools: tuple[str, ...] = ()) -> TurnInput:
    agent = AgentConfig(name="bench", instructions="You are helpful.", model=model, tools=tools)
    return TurnInput(f"s~{number}", "s", None, 1, "hi", agent, (), False, 0, "offline")


async def measure(name: str, run: Callable[[int], Awaitable[object]], turns: int) -> float:
    for number in range(30):
        await run(-1 - number)
    gc.collect()
    before, started = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter()
    for number in range(turns):
        await run(number)
    wall = (time.perf_counter() - started) / turns * 1000
    after = resource.getrusage(resource.RUSAGE_SELF)
    cpu = (after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime) / turns * 1000
    print(f"{name:44s} {wall:7.3f} ms   {cpu:7.3f} ms CPU")
    return cpu


async def main(turns: int) -> None:
    registry = Registry()
    registry.add_tool(lookup)
    registry.add_model("answer", FunctionModel(answer))
    registry.add_model("calls", FunctionModel(call_then_answer))
    engine = Engine(registry)
    bare = Agent(registry.models["answer"], name="bench", instructions="You are helpful.")
    bare_tool = Agent(registry.models["calls"], name="bench", instructions="You are helpful.", tools=[lookup])

    async def run_bare(agent: Agent[None, str], _: int) -> object:
        return await agent.run("hi")

    async def through_engine(model: str, tools: tuple[str, ...], number: int) -> object:
        return await engine.run(turn(number, model, tools), DictJournal(), NoEvents(), RunState())

    cases = (
        ("one request", bare, "answer", ()),
        ("a tool call, two requests", bare_tool, "calls", ("lookup",)),
    )
    for title, agent, model, tools in cases:
        alone = await measure(f"bare agent.run, {title}", partial(run_bare, agent), turns)
        whole = await measure(f"Engine.run, {title}", partial(through_engine, model, tools), turns)
        print(f"{'':44s} ratio {whole / alone:.2f}\n")
    await measure("Engine.run, offline model", partial(through_engine, "offline", ()), turns)


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else 200))
