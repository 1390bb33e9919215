"""How much of each model request is the beginning of the next one, which providers' prompt caches need.

python -m benchmarks.prompt_prefix [turns]

One session on a store of its own: turns are begun and committed as by a worker, and run by its engine. The vendor's
client sends to a recorder in this process. The share is the common beginning of a request and the one before it, tools
first, then messages, in bytes of their JSON.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import sys
import tempfile
from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from statistics import mean
from typing import Any

import httpx
from openai import AsyncOpenAI
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.providers.openai import OpenAIProvider

from broker_config.settings import Settings
from sessions.protocol.agent import AgentConfig, KnowledgeBases, RecallSettings
from sessions.store.history import HistoryEntry
from sessions.store.open_turn import OpenTurn
from sessions.tools.decorator import tool
from tests.support.conversation import Conversation
from tests.support.servers import Server, running
from workers.engine import Engine, EventDraft, PastTurn, Registry, RunState, TurnInput, TurnOutput
from workers.engine.ports import Recalled

MESSAGE, ANSWER, RESULT = 250, 1_000, 2_000
"""Characters of a user's message, of an answer, and of a tool's result."""
INSTRUCTIONS = 6_000
MEMORIES = 8 * 110
PASSAGES = 5 * 560
"""Characters of what is found for each message: as many memories and passages as a prompt has at most. A chunk of this
repository's documentation has 557 characters on average."""
_WORDS = ("otter", "river", "holt", "stone", "current", "reed", "bank", "night", "frost", "willow", "heron", "trout")


class Killed(BaseException):
    """kill -9, as far as a run can tell."""


class _Journal:
    """A turn's journal; the worker is killed before it has written the first step, so that it must ask again."""

    def __init__(self, steps: dict[str, bytes], *, killed: bool) -> None:
        self._steps = steps
        self._killed = killed

    def lookup(self, key: str) -> bytes | None:
        return self._steps.get(key)

    async def record(self, key: str, value: bytes, events: object = (), files: object = ()) -> None:
        self.record_final(key, value)

    def record_final(self, key: str, value: bytes, events: object = ()) -> None:
        if self._killed:
            raise Killed
        self._steps[key] = value

    def check_held(self) -> None:
        """The lease never ends."""

    async def take_steering(self, key: str) -> bytes:
        return b""

    async def emit(self, events: list[EventDraft]) -> None:
        """Nobody reads the stream."""


@dataclass(frozen=True)
class Talk:
    """What the session's turns are like.

    Attributes:
        tool_each: every how many turns a tool is called; 0 for never.
        recalled: characters of what is found for each message.
        killed: turns whose worker is killed when the model has answered, before that is journalled.
    """

    turns: int = 60
    tool_each: int = 3
    recalled: int = 0
    killed: tuple[int, ...] = ()


class Recorder:
    """An OpenAI-compatible server in this process; it keeps the requests as text."""

    def __init__(self) -> None:
        self.requests: list[str] = []
        self._texts = random.Random(1)
        self.client = httpx.AsyncClient(transport=httpx.MockTransport(self._respond))

    def _respond(self, request: httpx.Request) -> httpx.Response:
        body = json.loads(request.content)
        self.requests.append(json.dumps(body.get("tools", [])) + "".join(map(json.dumps, body["messages"])))
        message: dict[str, Any] = {"role": "assistant", "content": _text(self._texts, ANSWER)}
        last = body["messages"][-1]
        if last["role"] == "user" and "CALL" in last["content"]:
            function = {"name": "look_up", "arguments": '{"query": "otters"}'}
            call = {"id": f"call_{len(self.requests)}", "type": "function", "function": function}
            message = {"role": "assistant", "content": None, "tool_calls": [call]}
        reason = "tool_calls" if "tool_calls" in message else "stop"
        usage = {"prompt_tokens": len(self.requests[-1]) // 4, "completion_tokens": ANSWER // 4}
        usage["total_tokens"] = sum(usage.values())
        choice = {"index": 0, "finish_reason": reason, "message": message}
        answer = {"id": "x", "object": "chat.completion", "created": 1, "model": "x", "choices": [choice]}
        return httpx.Response(200, json={**answer, "usage": usage})


@dataclass(frozen=True)
class Shares:
    """What the requests of a session have in common with the ones before them.

    Attributes:
        each: for each request but the first, the share of its bytes.
        bytes: the share of all bytes, in which long requests count more, as they do in a bill.
    """

    each: list[float]
    bytes: float


async def shares(settings: Settings, talk: Talk) -> Shares:
    """Run a session's turns, and compare their requests."""
    recorder, session = Recorder(), Conversation(settings)
    engine = Engine(_registry(recorder), history_tokens=settings.history_tokens)
    texts = random.Random(2)
    try:
        for number in range(1, talk.turns + 1):
            called = talk.tool_each and number % talk.tool_each == 0
            message = _text(texts, MESSAGE) + (" CALL" if called else "")
            found = Recalled(_text(texts, talk.recalled))
            begun, steps = await session.begin(message), {}
            if number in talk.killed:
                await _killed(engine, _input(session, begun, message, found), steps)
                begun = await session.resume()
            output = await _run(engine, _input(session, begun, message, found), steps)
            await session.commit(begun, output.messages, kept=output.window_kept)
    finally:
        await session.close()
    pairs = [(_common(*pair), len(pair[1])) for pair in pairwise(recorder.requests)]
    return Shares([common / size for common, size in pairs], sum(c for c, _ in pairs) / sum(s for _, s in pairs))


def _common(before: str, after: str) -> int:
    """The length of the common beginning of two texts."""
    return bisect_left(range(1, min(len(before), len(after)) + 1), 1, key=lambda end: before[:end] != after[:end])


def _registry(recorder: Recorder) -> Registry:
    @tool
    def look_up(query: str) -> str:
        """Look something up in the handbook of the river, and in the notes of those who watch it."""
        return _text(random.Random(query), RESULT)

    vendor = AsyncOpenAI(api_key="k", base_url="http://127.0.0.1:9/v1", http_client=recorder.client)
    registry = Registry()
    registry.add_tool(look_up)
    registry.add_model("recorder", OpenAIChatModel("gpt-5", provider=OpenAIProvider(openai_client=vendor)))
    return registry


def _input(session: Conversation, begun: OpenTurn, message: str, found: Recalled) -> TurnInput:
    agent = AgentConfig(
        name="A",
        model="recorder",
        tools=("look_up",),
        instructions=_text(random.Random(3), INSTRUCTIONS),
        recalls=RecallSettings(memory=True, knowledge=KnowledgeBases()) if found.text else RecallSettings(),
    )
    keys = session.keys
    past = [
        PastTurn(entry.agent, entry.messages, turn_id=keys.public_id(entry.turn), session_id="s")
        for entry in map(HistoryEntry.load, begun.history)
    ]
    turn = TurnInput(keys.public_id(begun.part), "s", None, begun.attempt, message, agent, past, False, 0, "recorder")
    return replace(turn, recalled=found)


async def _run(engine: Engine, turn: TurnInput, steps: dict[str, bytes], *, killed: bool = False) -> TurnOutput:
    journal = _Journal(steps, killed=killed)
    return await engine.run(turn, journal, journal, RunState())


async def _killed(engine: Engine, turn: TurnInput, steps: dict[str, bytes]) -> None:
    with contextlib.suppress(Killed):
        await _run(engine, turn, steps, killed=True)


def _text(words: random.Random, length: int) -> str:
    text = " ".join(words.choices(_WORDS, k=length // 4))
    return text[:length]


KINDS = {
    "no memory, no knowledge": 0,
    "memory": MEMORIES,
    "knowledge": PASSAGES,
    "memory and knowledge": MEMORIES + PASSAGES,
}


def _rows(server: Server, turns: int) -> Iterator[str]:
    for name, recalled in KINDS.items():
        figures = []
        for tool_each in (0, 3):
            figures += [asyncio.run(shares(Settings(redis_url=server.url), Talk(turns, tool_each, recalled)))]
        yield f"| {name} | " + " | ".join(f"{mean(each.each):.1%} ({each.bytes:.1%})" for each in figures) + " |"


def main() -> None:
    """Print the table."""
    turns = int(sys.argv[1]) if len(sys.argv) > 1 else 60
    print(f"| {turns} turns | no tools | a tool in every third turn |\n|---|---:|---:|")
    with tempfile.TemporaryDirectory() as folder, running(Server(Path(folder))) as server:
        for row in _rows(server, turns):
            print(row, flush=True)


if __name__ == "__main__":
    main()
