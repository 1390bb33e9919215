"""Streamed text on its way to the turn's events: gathered for some milliseconds or characters, then sent."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, AsyncIterator
from typing import Any

from pydantic_ai import RunContext
from pydantic_ai.messages import (
    AgentStreamEvent,
    PartDeltaEvent,
    PartStartEvent,
    TextPart,
    TextPartDelta,
    ThinkingPart,
    ThinkingPartDelta,
)

from sessions.protocol.event import EventType
from workers.engine.ports import EventDraft, EventSink
from workers.engine.stream_limits import within
from workers.engine.well_formed import well_formed_texts


class DeltaBuffer:
    """Gathers deltas of one turn. Text never waits longer than `delta_ms`, even when the model pauses."""

    def __init__(self, sink: EventSink, delta_ms: int, delta_chars: int, token_timeout: float = 60.0) -> None:
        self._sink = sink
        self._delay = delta_ms / 1000
        self._limit = delta_chars
        self._token_timeout = token_timeout
        self._waiting: list[tuple[EventType, str]] = []
        self._size = 0
        self._unfinished: list[str] = []
        self._timer: asyncio.TimerHandle | None = None
        self._timed: asyncio.Task[None] | None = None
        self._lock = asyncio.Lock()

    async def consume(self, _: RunContext[Any], events: AsyncIterable[AgentStreamEvent]) -> None:
        """Take a run's events, as pydantic-ai's `event_stream_handler` gets them."""
        async for kind, text in well_formed_texts(_texts(within(events, self._token_timeout))):
            await self._add(kind, text)

    @property
    def unfinished(self) -> str:
        """The text of the response that is not recorded yet."""
        return "".join(self._unfinished)

    def recorded(self) -> None:
        """The response that the text belongs to is in the journal."""
        self._unfinished.clear()

    async def flush(self) -> None:
        """Send what waits; returns when all text that was added before is with the sink."""
        self._stop_timer()
        async with self._lock:
            drafts = self._take()
            if drafts:
                await self._sink.emit(drafts)
        if self._timed is not None and self._timed.done():
            self._timed.result()

    async def close(self) -> None:
        """Drop what waits and end the timer; for runs that end without success."""
        self._stop_timer()
        self._take()
        if self._timed is not None:
            self._timed.cancel()
            await asyncio.gather(self._timed, return_exceptions=True)

    async def _add(self, kind: EventType, text: str) -> None:
        self._waiting.append((kind, text))
        if kind is EventType.TEXT_DELTA:
            self._unfinished.append(text)
        self._size += len(text)
        if self._size >= self._limit or not self._delay:
            await self.flush()
        elif self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(self._delay, self._due)

    def _due(self) -> None:
        self._timer = None
        if self._timed is None or self._timed.done():
            self._timed = asyncio.ensure_future(self._flush_in_time(self._timed))

    async def _flush_in_time(self, earlier: asyncio.Task[None] | None) -> None:
        if earlier is not None:
            earlier.result()  # what the last one raised is not to be lost
        async with self._lock:
            while drafts := self._take():  # again: what came meanwhile has found this task busy
                await self._sink.emit(drafts)

    def _take(self) -> list[EventDraft]:
        """One draft for each stretch of the same kind, in order."""
        drafts: list[EventDraft] = []
        for kind, text in self._waiting:
            if drafts and drafts[-1].type is kind:
                drafts[-1].data["text"] += text
            else:
                drafts.append(EventDraft(kind, {"text": text}))
        self._waiting.clear()
        self._size = 0
        return drafts

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


async def _texts(events: AsyncIterable[AgentStreamEvent]) -> AsyncIterator[tuple[EventType, str]]:
    async for event in events:
        kind, text = _delta(event)
        if text:
            yield kind, text


def _delta(event: AgentStreamEvent) -> tuple[EventType, str | None]:
    if isinstance(event, PartDeltaEvent):
        if isinstance(event.delta, TextPartDelta):
            return EventType.TEXT_DELTA, event.delta.content_delta
        if isinstance(event.delta, ThinkingPartDelta):
            return EventType.THINKING_DELTA, event.delta.content_delta
    elif isinstance(event, PartStartEvent):
        if isinstance(event.part, TextPart):
            return EventType.TEXT_DELTA, event.part.content
        if isinstance(event.part, ThinkingPart):
            return EventType.THINKING_DELTA, event.part.content
    return EventType.TEXT_DELTA, None
