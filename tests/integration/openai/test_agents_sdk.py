"""The OpenAI Agents SDK and pydantic-ai, which expect OpenAI behind a base URL, on our gateway."""

from __future__ import annotations

from typing import Any

import openai
import pytest
from pydantic_ai import Agent as PydanticAgent
from pydantic_ai.models.openai import OpenAIChatModel, OpenAIResponsesModel
from pydantic_ai.providers.openai import OpenAIProvider

from tests.support.fleet import Fleet
from tests.support.gateway import GatewayProcess

agents: Any = pytest.importorskip("agents")


@pytest.fixture
async def client(gateway_process: GatewayProcess, fleet: Fleet) -> Any:
    """OpenAI's asynchronous client."""
    url = f"{gateway_process.url}/v1"
    async with openai.AsyncOpenAI(base_url=url, api_key="none", max_retries=0, timeout=60) as client:
        yield client


def weather(city: str) -> str:
    """The weather of a city."""
    return f"rain in {city}"


@pytest.mark.parametrize("kind", ["OpenAIResponsesModel", "OpenAIChatCompletionsModel"])
@pytest.mark.parametrize("stream", [False, True])
async def test_the_agents_sdk_runs_its_tools(client: openai.AsyncOpenAI, kind: str, stream: bool) -> None:
    """Its loop: each request has the whole conversation, and the results of the tools that it ran."""
    agents.set_tracing_disabled(True)
    model = getattr(agents, kind)(model="assistant", openai_client=client)
    agent = agents.Agent("Forecaster", instructions="Be brief.", model=model, tools=[agents.function_tool(weather)])
    asked = 'CALL weather({"city": "Rome"})'
    if stream:
        result = agents.Runner.run_streamed(agent, asked)
        async for _ in result.stream_events():
            pass
    else:
        result = await agents.Runner.run(agent, asked)
    assert result.final_output == "ok: rain in Rome"
    again = await agents.Runner.run(agent, [*result.to_input_list(), {"role": "user", "content": "RECITE"}])
    assert again.final_output.endswith("ok: rain in Rome")


@pytest.mark.parametrize("kind", [OpenAIResponsesModel, OpenAIChatModel])
async def test_pydantic_ai_runs_its_tools(client: openai.AsyncOpenAI, kind: Any) -> None:
    """The same with another library."""
    agent = PydanticAgent(kind("assistant", provider=OpenAIProvider(openai_client=client)), tools=[weather])
    result = await agent.run('CALL weather({"city": "Rome"})')
    assert result.output == "ok: rain in Rome"
    again = await agent.run("RECITE", message_history=result.all_messages())
    assert again.output.endswith("ok: rain in Rome")
