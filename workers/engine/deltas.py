"""Sends streamed text as events of the turn: at once, but at most one event in some milliseconds."""

from __future__ import annotations

import asyncio
import math
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
from workers.engine.stream_limits import with_token_timeout
from workers.engine.well_formed import well_formed_texts


class DeltaBuffer:
    """Buffers the deltas of one turn.

    Text is sent as soon as nothing was sent for `delta_ms`, so a stream's first text does not wait, and no other text
    waits longer than that, even when the model pauses. `delta_chars` characters are sent before their time.
    """

    def __init__(self, sink: EventSink, delta_ms: int, delta_chars: int, token_timeout: float = 60.0) -> None:
        self._sink = sink
        self._delay = delta_ms / 1000
        self._limit = delta_chars
        self._token_timeout = token_timeout
        self._buffered: list[tuple[EventType, str]] = []
        self._size = 0
        self._sent = -math.inf  # by the loop's clock: when text was last handed to the sink
        self._unrecorded: list[str] = []
        self._timer: asyncio.TimerHandle | None = None
        self._timed_flush: asyncio.Task[None] | None = None
        self._lock = asyncio.Lock()

    async def consume(self, _: RunContext[Any], events: AsyncIterable[AgentStreamEvent]) -> None:
        """Consume a run's events: pydantic-ai's `event_stream_handler`."""
        async for kind, text in well_formed_texts(_texts(with_token_timeout(events, self._token_timeout))):
            await self._add(kind, text)

    @property
    def unrecorded_text(self) -> str:
        """The text so far of a response that is not in the journal yet."""
        return "".join(self._unrecorded)

    def mark_recorded(self) -> None:
        """Note that the response is in the journal."""
        self._unrecorded.clear()

    async def flush(self) -> None:
        """Send the buffered text. Returns when the sink has all text that was added before this call."""
        self._stop_timer()
        await self._send()
        if self._timed_flush is not None and self._timed_flush.done():
            self._timed_flush.result()

    async def close(self) -> None:
        """Stop the timer and drop any buffered text, which only runs that failed still have."""
        self._stop_timer()
        self._take()
        if self._timed_flush is not None:
            self._timed_flush.cancel()
            await asyncio.gather(self._timed_flush, return_exceptions=True)

    async def _add(self, kind: EventType, text: str) -> None:
        self._buffered.append((kind, text))
        if kind is EventType.TEXT_DELTA:
            self._unrecorded.append(text)
        self._size += len(text)
        if self._size >= self._limit or not self._delay:
            await self.flush()
        elif self._timer is None:
            self._set_timer()

    def _set_timer(self) -> None:
        """Have the buffered text sent when its time comes; if that has passed, in the loop's next cycle."""
        self._timer = asyncio.get_running_loop().call_at(self._sent + self._delay, self._start_timed_flush)

    def _start_timed_flush(self) -> None:
        self._timer = None
        if self._timed_flush is None or self._timed_flush.done():
            self._timed_flush = asyncio.ensure_future(self._flush_on_timer(self._timed_flush))

    async def _flush_on_timer(self, earlier: asyncio.Task[None] | None) -> None:
        if earlier is not None:
            earlier.result()  # re-raise the earlier flush's exception, which nobody awaited
        await self._send()
        if self._buffered and self._timer is None:  # its time came while this flush was running, which started no other
            self._set_timer()

    async def _send(self) -> None:
        async with self._lock:
            if drafts := self._take():
                self._sent = asyncio.get_running_loop().time()
                await self._sink.emit(drafts)

    def _take(self) -> list[EventDraft]:
        """Empty the buffer: one draft for each run of text of the same kind, in order."""
        drafts: list[EventDraft] = []
        for kind, text in self._buffered:
            if drafts and drafts[-1].type is kind:
                drafts[-1].data["text"] += text
            else:
                drafts.append(EventDraft(kind, {"text": text}))
        self._buffered.clear()
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
