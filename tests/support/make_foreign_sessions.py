"""Writes `tests/foreign/`: sessions as other libraries store them, written by those libraries themselves.

    python -m tests.support.make_foreign_sessions            all of them, each library in an environment of its own
    python -P tests/support/make_foreign_sessions.py NAME TO    one of them, in an environment that has the library

Each is the same conversation: a question, a call of a tool with its result, an answer, and a second question. The
models are scripted, so nothing is sent to a provider. `tests/foreign/versions.json` says which versions wrote them.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve()
FOREIGN = HERE.parent.parent / "foreign"
LIBRARIES = {
    "openai_agents": ("openai-agents[redis]==0.24.0",),
    "praisonai": ("praisonaiagents==1.7.17",),
    "google_adk": ("google-adk==2.13.0", "sqlalchemy", "aiosqlite", "greenlet"),
    "pydantic_ai": ("pydantic-ai-slim==2.68.0",),
}
QUESTION, ANSWER = "What is the weather in Paris?", "It is sunny in Paris, 21 degrees."
THANKS, WELCOME = "Thank you! And tomorrow?", "I do not know about tomorrow."
CALL_ID, ARGS, RESULT = "call_weather_1", {"city": "Paris"}, {"weather": "sunny", "degrees": 21}


# --- the OpenAI Agents SDK ------------------------------------------------------------------------------------


def openai_agents(to: Path) -> str:
    """SQLiteSession and RedisSession, filled by a Runner with a scripted model."""
    from agents import Agent, ModelResponse, Runner, SQLiteSession, Usage, function_tool, set_tracing_disabled
    from agents.extensions.memory import RedisSession
    from agents.models.interface import Model
    from openai.types.responses import (
        ResponseFunctionToolCall,
        ResponseOutputMessage,
        ResponseOutputText,
        ResponseReasoningItem,
    )
    from openai.types.responses.response_reasoning_item import Summary

    set_tracing_disabled(True)

    def said(text: str) -> ResponseOutputMessage:
        content = [ResponseOutputText(text=text, type="output_text", annotations=[])]
        return ResponseOutputMessage(id="msg_1", content=content, role="assistant", status="completed", type="message")

    class Scripted(Model):
        def __init__(self) -> None:
            thought = Summary(text="The user wants the weather.", type="summary_text")
            self.script = [
                [
                    ResponseReasoningItem(id="rs_1", summary=[thought], type="reasoning"),
                    ResponseFunctionToolCall(
                        arguments=json.dumps(ARGS), call_id=CALL_ID, name="get_weather", type="function_call"
                    ),
                ],
                [said(ANSWER)],
                [said(WELCOME)],
            ]

        async def get_response(self, *_: Any, **__: Any) -> ModelResponse:
            return ModelResponse(output=self.script.pop(0), usage=Usage(), response_id=None)

        def stream_response(self, *_: Any, **__: Any) -> Any:
            raise NotImplementedError

    @function_tool
    def get_weather(city: str) -> str:
        """The weather in a city."""
        return json.dumps(RESULT)

    async def converse(session: Any) -> None:
        agent = Agent(name="Clerk", instructions="Be brief.", tools=[get_weather], model=Scripted())
        await Runner.run(agent, QUESTION, session=session)
        await Runner.run(agent, THANKS, session=session)

    async def all_of_them() -> None:
        path = to / "openai_agents.sqlite"
        path.unlink(missing_ok=True)
        first, second = SQLiteSession("weather-1", path), SQLiteSession("weather-2", path)
        await converse(first)
        await second.add_items([{"role": "user", "content": "Only a question"}])
        first.close()
        second.close()
        if url := os.environ.get("FOREIGN_REDIS_URL"):
            session = RedisSession.from_url("weather-1", url=url)
            await converse(session)
            await session.close()

    asyncio.run(all_of_them())
    if url := os.environ.get("FOREIGN_REDIS_URL"):
        _dump_redis(url, to / "openai_agents.redis.json")
    return version("openai-agents")


def _dump_redis(url: str, path: Path) -> None:
    import redis

    client = redis.Redis.from_url(url, decode_responses=True)
    found: dict[str, Any] = {}
    for key in sorted(client.keys("agents:session:*")):
        read = {"hash": client.hgetall, "string": client.get, "list": lambda name: client.lrange(name, 0, -1)}
        found[key] = read[client.type(key)](key)
    path.write_text(json.dumps(found, indent=1) + "\n")


# --- PraisonAI ------------------------------------------------------------------------------------------------


def praisonai(to: Path) -> str:
    """The JSON file of its DefaultSessionStore."""
    from praisonaiagents.session.store import DefaultSessionStore

    store = DefaultSessionStore(session_dir=str(to))
    call = {
        "id": CALL_ID,
        "type": "function",
        "function": {"name": "get_weather", "arguments": json.dumps(ARGS)},
    }
    name = "praisonai"
    (to / f"{name}.json").unlink(missing_ok=True)
    store.add_message(name, "user", QUESTION)
    store.add_message(name, "assistant", "", tool_calls=[call])
    store.add_message(name, "tool", json.dumps(RESULT), tool_call_id=CALL_ID)
    store.add_message(name, "assistant", ANSWER)
    store.add_message(name, "user", THANKS)
    store.add_message(name, "assistant", WELCOME)
    store.set_agent_info(name, agent_name="Clerk", user_id="alice")
    for lock in to.glob("*.lock"):
        lock.unlink()
    return version("praisonaiagents")


# --- Google ADK -----------------------------------------------------------------------------------------------


def google_adk(to: Path) -> str:
    """The SQLite files of DatabaseSessionService and SqliteSessionService, filled by a Runner with a scripted model."""
    from google.adk.agents import LlmAgent
    from google.adk.models import BaseLlm, LlmResponse
    from google.adk.runners import Runner
    from google.adk.sessions import DatabaseSessionService
    from google.adk.sessions.sqlite_session_service import SqliteSessionService
    from google.adk.tools import ToolContext
    from google.genai import types

    class Scripted(BaseLlm):
        step: int = 0

        async def generate_content_async(self, llm_request: Any, stream: bool = False) -> Any:
            called = types.Part(function_call=types.FunctionCall(id=CALL_ID, name="get_weather", args=ARGS))
            thought = types.Part(text="The user wants the weather.", thought=True)
            script = [[thought, called], [types.Part(text=ANSWER)], [types.Part(text=WELCOME)]]
            self.step += 1
            yield LlmResponse(content=types.Content(role="model", parts=script[self.step - 1]))

    def get_weather(city: str, tool_context: ToolContext) -> dict[str, Any]:
        """The weather in a city."""
        tool_context.state["last_city"] = city
        return RESULT

    async def converse(service: Any) -> None:
        agent = LlmAgent(name="clerk", model=Scripted(model="scripted"), instruction="Be brief.", tools=[get_weather])
        runner = Runner(app_name="weather", agent=agent, session_service=service)
        state = {"step": 1, "user:unit": "celsius", "app:season": "summer"}
        session = await service.create_session(app_name="weather", user_id="alice", session_id="weather-1", state=state)
        for text in (QUESTION, THANKS):
            said = types.Content(role="user", parts=[types.Part(text=text)])
            async for _ in runner.run_async(user_id="alice", session_id=session.id, new_message=said):
                pass

    async def all_of_them() -> None:
        for name in ("google_adk.sqlite", "google_adk_light.sqlite"):
            (to / name).unlink(missing_ok=True)
        service = DatabaseSessionService(f"sqlite+aiosqlite:///{to / 'google_adk.sqlite'}")
        await converse(service)
        await service.close()
        await converse(SqliteSessionService(str(to / "google_adk_light.sqlite")))

    asyncio.run(all_of_them())
    return version("google-adk")


# --- pydantic-ai ----------------------------------------------------------------------------------------------


def pydantic_ai(to: Path) -> str:
    """The JSON of `all_messages_json()`, from an agent with a scripted model."""
    from pydantic_ai import Agent
    from pydantic_ai.messages import ModelMessagesTypeAdapter, ModelResponse, TextPart, ThinkingPart, ToolCallPart
    from pydantic_ai.models.function import FunctionModel

    script = [
        [ThinkingPart("The user wants the weather."), ToolCallPart("get_weather", ARGS, tool_call_id=CALL_ID)],
        [TextPart(ANSWER)],
        [TextPart(WELCOME)],
    ]
    agent = Agent(FunctionModel(lambda *_: ModelResponse(parts=script.pop(0))), system_prompt="Be brief.")

    @agent.tool_plain
    def get_weather(city: str) -> dict[str, Any]:
        """The weather in a city."""
        return RESULT

    async def converse() -> bytes:
        first = await agent.run(QUESTION)
        second = await agent.run(THANKS, message_history=first.all_messages())
        return ModelMessagesTypeAdapter.dump_json(second.all_messages(), indent=1)

    (to / "pydantic_ai.json").write_bytes(asyncio.run(converse()) + b"\n")
    return version("pydantic-ai-slim")


# --- all of them ----------------------------------------------------------------------------------------------

MAKERS: dict[str, Callable[[Path], str]] = {
    "openai_agents": openai_agents,
    "praisonai": praisonai,
    "google_adk": google_adk,
    "pydantic_ai": pydantic_ai,
}


def make_all(to: Path, cache: Path, redis_url: str | None = None) -> dict[str, str]:
    """Write all files, each with its library in an environment under `cache`; returns the versions."""
    to.mkdir(parents=True, exist_ok=True)
    written: dict[str, str] = {}
    for name, packages in LIBRARIES.items():
        python = _environment(cache / name, packages)
        env = {**os.environ, **({"FOREIGN_REDIS_URL": redis_url} if redis_url else {})}
        command = [str(python), "-P", str(HERE), name, str(to)]
        made = subprocess.run(command, check=True, capture_output=True, text=True, env=env, timeout=240)
        written[name] = made.stdout.strip().splitlines()[-1]
    (to / "versions.json").write_text(json.dumps(written, indent=1) + "\n")
    return written


def _environment(folder: Path, packages: tuple[str, ...]) -> Path:
    python, uv = folder / "bin" / "python", str(Path(sys.executable).with_name("uv"))
    env = {**os.environ, "UV_SYSTEM_CERTS": "1", "UV_NATIVE_TLS": "1"}
    if not python.exists():
        subprocess.run([uv, "venv", "-q", "--python", sys.executable, str(folder)], check=True, env=env)
    subprocess.run([uv, "pip", "install", "-q", "--python", str(python), *packages], check=True, env=env, timeout=600)
    return python


if __name__ == "__main__":
    if len(sys.argv) == 3:
        print(MAKERS[sys.argv[1]](Path(sys.argv[2])))
    else:
        from tests.support.servers import Server, running

        with tempfile.TemporaryDirectory() as scratch, running(Server(Path(scratch) / "server")) as started:
            print(make_all(FOREIGN, Path(scratch) / "environments", started.url))
