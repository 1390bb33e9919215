"""The events of one run, made of those of its turn.

They are AG-UI's own models, but our writer makes the JSON: a model may say half of a surrogate pair, or call a tool
with NaN, and `EventEncoder` fails on these.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any, Final

from ag_ui.core import (
    AssistantMessage,
    BaseEvent,
    MessagesSnapshotEvent,
    ReasoningEndEvent,
    ReasoningMessage,
    ReasoningMessageContentEvent,
    ReasoningMessageEndEvent,
    ReasoningMessageStartEvent,
    ReasoningStartEvent,
    RunAgentInput,
    RunFinishedEvent,
    RunStartedEvent,
    StateSnapshotEvent,
    TextMessageContentEvent,
    TextMessageEndEvent,
    TextMessageStartEvent,
    ToolCallArgsEvent,
    ToolCallEndEvent,
    ToolCallResultEvent,
    ToolCallStartEvent,
)
from fastapi import Request

from sessions.api.turn import Turn
from sessions.errors import NotFound, SessionExpired, SessionfleetError
from sessions.gateway.ag_ui.errors import run_error
from sessions.gateway.ag_ui.messages import TurnMessages
from sessions.gateway.ag_ui.responses import asked_outcome, ended_outcome, result_of, usage_of
from sessions.gateway.ag_ui.state import state_delta
from sessions.gateway.ag_ui.turns import Run
from sessions.gateway.narration import (
    Answered,
    Asked,
    Called,
    Ended,
    Returned,
    Said,
    Settled,
    Told,
    Withdrawn,
    asks_client,
    in_legs,
    typed_content,
)
from sessions.gateway.streams import Data
from sessions.gateway.strict_json import written

PROTOCOL: Final = "1.0"
_Text = AssistantMessage | ReasoningMessage


@dataclass(slots=True)
class RunStream:
    """Makes the events of one run."""

    request: Request
    body: RunAgentInput
    run: Run
    state: dict[str, Any] = field(default_factory=dict)

    async def events(self) -> AsyncGenerator[Data]:
        """The events, which have no types beside those in their data."""
        async with aclosing(self.made()) as events:
            async for event in events:
                yield None, written(event.model_dump(mode="json", by_alias=True))

    async def made(self) -> AsyncGenerator[BaseEvent]:
        """The same as models."""
        yield RunStartedEvent(
            thread_id=self.body.thread_id,
            run_id=self.body.run_id,
            parent_run_id=self.body.parent_run_id,
            protocol_version=PROTOCOL,
        )
        try:
            self.state = await self._state()
            if self.state != (self.body.state or {}):
                yield StateSnapshotEvent(snapshot=self.state)
            if self.run.before is not None:
                yield MessagesSnapshotEvent(messages=self.run.before)
            async with aclosing(self._followed()) as events:
                async for event in events:
                    yield event
        except SessionfleetError as error:
            yield run_error(self.request, error)

    async def _followed(self) -> AsyncGenerator[BaseEvent]:
        turn, run = self.run.turn, self.run
        if turn is None:
            yield self._finished()
            return
        maker = EventMaker(run)
        async with aclosing(self._told(turn, maker)) as events:
            async for event in events:
                yield event
        if maker.asked is not None:
            async for event in self._end(outcome=asked_outcome(run.part, maker.asked)):
                yield event
            return
        record = await turn.arecord()
        outcome = ended_outcome(record)
        if outcome.type == "success":
            await turn.aresult()  # raises what ended the turn
            for event in maker.say(typed_content(record)):
                yield event
        # A run that continues a turn must not count what was counted before, and a turn's usage is one sum.
        usage = None if run.last else usage_of(record)
        async for event in self._end(outcome=outcome, result=result_of(record), usage=usage):
            yield event

    async def _told(self, turn: Turn, maker: EventMaker) -> AsyncGenerator[BaseEvent]:
        """The events up to the end of the run's last leg, or of the turn."""
        async with aclosing(in_legs(turn.aevents(), asks_client)) as items:  # type: ignore[type-var]
            async for leg, item in items:
                for event in maker.feed(item):
                    if leg >= self.run.first:
                        yield event
                if isinstance(item, Asked) and asks_client(item) and leg == self.run.last:
                    maker.asked = item
                if isinstance(item, Ended) or maker.asked is not None:
                    return

    async def _end(self, **ending: Any) -> AsyncGenerator[BaseEvent]:
        if (delta := state_delta(self.state, await self._state())) is not None:
            yield delta
        yield self._finished(**ending)

    def _finished(self, **ending: Any) -> RunFinishedEvent:
        return RunFinishedEvent(thread_id=self.body.thread_id, run_id=self.body.run_id, **ending)

    async def _state(self) -> dict[str, Any]:
        try:
            state: dict[str, Any] = await self.run.session.aget_state()
        except (NotFound, SessionExpired):
            return {}
        return state


class EventMaker:
    """Makes events of what a turn tells, from its beginning on.

    Attributes:
        asked: what the turn waits for at the end of the run.
    """

    def __init__(self, run: Run) -> None:
        self._run = run
        self._messages = TurnMessages(run.part)
        self._open: dict[bool, _Text] = {}
        self._called: set[str] = set()
        self._provided: set[str] = set()
        self._returned: set[str] = set()
        self._leg = 0
        self.asked: Asked | None = None

    def feed(self, item: Told) -> Iterator[BaseEvent]:
        """The events for what is told."""
        match item:
            case Said(text=text, thought=thought):
                yield from self._say(text, thought)
            case Settled(thought=thought):
                yield from self._close(thought)
            case Withdrawn(thought=thought):
                yield from self._withdraw(thought)
            case Called():
                yield from self._call(item)
            case Returned(call_id=call_id, result=result):
                yield from self._return(call_id, result)
            case Answered(call_id=call_id, action=action, result=result) if action != "approve":
                # A client of an earlier version does not say what it provided.
                yield from self._return(call_id, "" if result is None else result)
            case Asked() if asks_client(item):
                for call in (*item.own, *item.others):
                    yield from self._call(call)
                self._leg += 1
                if self._leg == self._run.first:
                    # The client, which has just provided them, has them as messages of its own.
                    self._provided = {call.call_id for call in item.own}
            case _:
                pass

    def say(self, text: str | None) -> Iterator[BaseEvent]:
        """A whole text, which was not told."""
        if text is not None:
            yield from self._say(text, False)
            yield from self._close(False)

    def _say(self, text: str, thought: bool) -> Iterator[BaseEvent]:
        message = self._open.get(thought)
        if message is None:
            message = self._open[thought] = self._messages.begin(thought)
            if thought:
                yield ReasoningStartEvent(message_id=message.id)
                yield ReasoningMessageStartEvent(message_id=message.id, role="reasoning")
            else:
                yield TextMessageStartEvent(message_id=message.id, role="assistant")
        message.content = (message.content or "") + text
        kind = ReasoningMessageContentEvent if thought else TextMessageContentEvent
        yield kind(message_id=message.id, delta=text)

    def _close(self, thought: bool) -> Iterator[BaseEvent]:
        message = self._open.pop(thought, None)
        if message is None:
            return
        if thought:
            yield ReasoningMessageEndEvent(message_id=message.id)
            yield ReasoningEndEvent(message_id=message.id)
        else:
            yield TextMessageEndEvent(message_id=message.id)

    def _withdraw(self, thought: bool) -> Iterator[BaseEvent]:
        """Only a snapshot can take a text back, and it must have all messages."""
        message = self._open.get(thought)
        if message is None:
            return
        yield from self._close(thought)
        self._messages.withdraw(message)
        yield MessagesSnapshotEvent(messages=[*self._run.earlier, *self._messages.shown()])

    def _call(self, call: Called) -> Iterator[BaseEvent]:
        if call.call_id in self._called:
            return
        self._called.add(call.call_id)
        made, parent = self._messages.call(call.call_id, call.tool, call.args)
        yield ToolCallStartEvent(tool_call_id=made.id, tool_call_name=call.tool, parent_message_id=parent)
        yield ToolCallArgsEvent(tool_call_id=made.id, delta=made.function.arguments)
        yield ToolCallEndEvent(tool_call_id=made.id)

    def _return(self, call_id: str, result: Any) -> Iterator[BaseEvent]:
        if call_id in self._returned:
            return  # what was decided about a call in doubt comes as its result, too
        self._returned.add(call_id)
        made = self._messages.give(call_id, result)
        if call_id not in self._provided:
            yield ToolCallResultEvent(message_id=made.id, tool_call_id=made.tool_call_id, content=made.content)
