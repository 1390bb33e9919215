"""The engine's surroundings: a journal that can crash, a list of events, and a model that follows a script."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from itertools import groupby
from typing import Any

from pydantic_ai.messages import ModelMessage, ModelResponse, ModelResponsePart, TextPart, ToolCallPart
from pydantic_ai.models.function import AgentInfo, DeltaToolCall, FunctionModel

from sessions import tool
from sessions.protocol.agent import AgentConfig
from sessions.protocol.event import EventType
from workers.engine import Engine, EventDraft, PastTurn, Registry, RunState, TurnInput, TurnOutput
from workers.engine.ports import LeaseLost


class Crash(BaseException):
    """kill -9, as far as a run can tell."""


class DictJournal:
    """What one worker sees of the journal; `store` is what outlives it. Writes can be made to crash."""

    def __init__(self, store: dict[str, bytes], events: list[EventDraft], crash: tuple[int, str] | None = None) -> None:
        self.store = store
        self.events = events
        self.crash = crash
        self.writes: list[str] = []
        self.final: list[str] = []
        self.inbox: list[str] = []
        self.files: list[str] = []
        self.lease_ended = False
        self.always: set[str] = set()

    def lookup(self, key: str) -> bytes | None:
        return self.store.get(key)

    async def record(
        self, key: str, value: bytes, events: Sequence[EventDraft] = (), files: Sequence[str] = ()
    ) -> None:
        await asyncio.sleep(0)
        self.files.extend(files)
        self._write(key, value, events)

    def check_held(self) -> None:
        if self.lease_ended:
            raise LeaseLost

    async def approved_tools(self) -> Collection[str]:
        return self.always

    def record_final(self, key: str, value: bytes, events: Sequence[EventDraft] = ()) -> None:
        self.final.append(key)
        self._write(key, value, events)

    async def take_steering(self, key: str) -> bytes:
        await asyncio.sleep(0)
        if not self.inbox:
            return b""
        value = json.dumps(self.inbox).encode()
        drafts = [EventDraft(EventType.STEERED, {"text": text}) for text in self.inbox]
        try:
            self._write(key, value, drafts)
        finally:
            if key in self.store:  # one step in the store, whatever becomes of the worker
                self.inbox.clear()
        return value

    def _write(self, key: str, value: bytes, events: Sequence[EventDraft]) -> None:
        number = len(self.writes)
        self.writes.append(key)
        if self.crash == (number, "before"):
            raise Crash
        self.store[key] = bytes(value)
        self.events.extend(events)
        if self.crash == (number, "after"):
            raise Crash


class ListSink:
    def __init__(self, events: list[EventDraft]) -> None:
        self.events = events

    async def emit(self, events: Sequence[EventDraft]) -> None:
        self.events.extend(events)


Script = Sequence[Sequence[ModelResponsePart]]


def call(name: str, call_id: str, **args: Any) -> ToolCallPart:
    return ToolCallPart(name, args, tool_call_id=call_id)


class Rig:
    """Runs turns, each on an engine of its own as if on another worker, over one store."""

    def __init__(self) -> None:
        self.registry = Registry()
        self.store: dict[str, bytes] = {}
        self.events: list[EventDraft] = []
        self.paid: list[int] = []
        self.seen: list[list[ModelMessage]] = []
        self.effects: list[str] = []
        self.inbox: list[str] = []
        self.always: set[str] = set()
        self.state = RunState()
        self.journal = DictJournal(self.store, self.events)

    def script(self, *responses: Sequence[ModelResponsePart], name: str = "scripted") -> None:
        """A model that gives these responses in order, by how many it finds in the open turn."""
        self.registry.add_model(name, scripted(responses, self.paid, self.seen))

    def model(self, function: Callable[[list[ModelMessage], AgentInfo], Any], name: str = "scripted") -> None:
        self.registry.add_model(name, FunctionModel(function))

    def tool(self, function: Callable[..., Any]) -> None:
        self.registry.add_tool(function)

    def noting(self) -> None:
        """Add a tool `note`, whose effects are counted: in the order of the calls, so not in threads."""

        @tool
        async def note(text: str) -> str:
            self.effects.append(text)
            return text

        self.tool(note)

    def turn(
        self, message: str = "go", *, number: int = 1, attempt: int = 1, stream: bool = False, **agent: Any
    ) -> TurnInput:
        history: Sequence[bytes] = agent.pop("history", ())
        past = [PastTurn(agent.get("name", "Assistant"), messages) for messages in history]
        agent.setdefault("model", "scripted")
        agent.setdefault("tools", self.registry.tool_names)
        config = AgentConfig(**agent)
        return TurnInput(f"s~{number:032x}", "s", "alice", attempt, message, config, past, stream, 0, "offline")

    async def run(
        self, turn: TurnInput | None = None, *, crash: tuple[int, str] | None = None, **engine: Any
    ) -> TurnOutput:
        self.journal = DictJournal(self.store, self.events, crash)
        self.journal.inbox = self.inbox
        self.journal.always = self.always
        made = Engine(self.registry, **engine)
        return await made.run(turn or self.turn(), self.journal, ListSink(self.events), self.state)

    def of(self, *types: EventType) -> list[EventDraft]:
        return [event for event in self.events if event.type in types]

    def outcomes(self) -> list[str]:
        return [str(event.data["outcome"]) for event in self.of(EventType.TOOL_RESULT)]


def scripted(responses: Script, paid: list[int], seen: list[list[ModelMessage]]) -> FunctionModel:
    def step(messages: list[ModelMessage]) -> Sequence[ModelResponsePart]:
        run_id = next((m.run_id for m in messages[:-3:-1] if m.run_id), None)  # a request that was merged has none
        number = sum(isinstance(message, ModelResponse) and message.run_id == run_id for message in messages)
        paid.append(number + 1)
        seen.append(list(messages))
        return responses[min(number, len(responses) - 1)]

    async def answer(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        return ModelResponse(parts=list(step(messages)))

    async def stream(messages: list[ModelMessage], info: AgentInfo) -> AsyncIterator[Any]:
        for index, part in enumerate(step(messages)):
            if isinstance(part, TextPart):
                for word in part.content.split(" "):
                    yield word + " "
            elif isinstance(part, ToolCallPart):
                args = part.args if isinstance(part.args, str) else json.dumps(part.args)
                yield {index: DeltaToolCall(part.tool_name, args, tool_call_id=part.tool_call_id)}

    return FunctionModel(answer, stream_function=stream)


def joined(events: Sequence[EventDraft]) -> list[tuple[EventType, str]]:
    """The kinds of events in a row, with their texts: how many deltas a text becomes is a matter of time."""
    groups = groupby(events, key=lambda event: event.type)
    return [(kind, "".join(event.data.get("text", "") for event in group)) for kind, group in groups]


async def until(predicate: Callable[[], bool]) -> None:
    """Let other tasks run until this holds."""
    for _ in range(1_000_000):
        if predicate():
            return
        await asyncio.sleep(0)
    raise AssertionError("what the test waits for did not happen")


async def cycles(count: int = 20) -> None:
    """Let everything that is ready run."""
    for _ in range(count):
        await asyncio.sleep(0)
